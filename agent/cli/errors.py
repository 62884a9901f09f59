"""The one way in which a command that asks an agent fails."""


class CommandError(Exception):
    """A question that got no good answer, or one that can't be shown. The command ends with ``status``."""

    def __init__(self, message: str, *, hint: str, status: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status

    @property
    def lines(self) -> str:
        """What the person reads: the error, and the hint if there is one."""
        return f"shorthaul: {self}" + (f"\n      hint: {self.hint}" if self.hint else "")
