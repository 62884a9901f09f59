"""The error of a command that asks an agent."""


class CommandError(Exception):
    """The agent gave no good answer, or the answer can't be shown. The command ends with ``status``."""

    def __init__(self, message: str, *, hint: str, status: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status

    @property
    def lines(self) -> str:
        """The text for the person: the error, and the hint if there is one."""
        return f"shorthaul: {self}" + (f"\n      hint: {self.hint}" if self.hint else "")
