"""Why eBPF programs are not there, each with what to do about it."""


class BpfError(Exception):
    """The programs can't be compiled, loaded or attached. ``hint`` says what to do; ``log`` what was said."""

    def __init__(self, message: str, *, hint: str, log: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.log = log


class BpfMissing(BpfError):
    """A library or a part of the kernel is not there."""


class BpfUnsupported(BpfError):
    """This kernel does not know what was asked for."""


class BpfForbidden(BpfError):
    """This process may not use eBPF."""


class BpfRefused(BpfError):
    """The kernel's verifier refused a program, or the compiler its source."""
