"""Why the eBPF programs can't run. Every error has a hint."""


class BpfError(Exception):
    """The programs can't be compiled, loaded or attached.

    ``hint`` says what to do. ``log``: the end of the compiler's or verifier's log.
    """

    def __init__(self, message: str, *, hint: str, log: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.log = log


class BpfMissing(BpfError):
    """A library or a part of the kernel is missing."""


class BpfUnsupported(BpfError):
    """This kernel does not support the operation."""


class BpfForbidden(BpfError):
    """This process may not use eBPF."""


class BpfRefused(BpfError):
    """The kernel's verifier refused a program, or the compiler refused its source."""
