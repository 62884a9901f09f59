"""What ``shorthaul doctor --json`` prints, and what the agent keeps of it."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingEntry:
    """One thing that was looked at.

    ``status``: ``ok``; ``warn``: a person should know; ``bad``: it keeps pulls from being served; ``?``: it
    could not be looked at. ``found``: what was found. ``advice``: what to do; may be empty. ``lines``: what
    to write into the file that the advice names.
    """

    subject: str
    status: str
    found: str
    advice: str
    lines: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """The advice where there is no room for the lines."""
        if not self.lines:
            return self.advice
        return f"{self.advice.removesuffix(':')} what `shorthaul doctor` shows"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorDocument:
    """All findings about one node. ``serves``: nothing was found that keeps pulls from being served.

    ``seconds``: how long looking took.
    """

    node: str
    serves: bool
    seconds: float
    findings: tuple[FindingEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """What the doctor found when the agent last had it look at this node.

    ``interval_s``: how often it looks; 0: never. ``ended_at``: when it last had looked; None: not yet.
    ``problem``: why it can't look. ``last``: what it found.
    """

    PATH: ClassVar[str] = "/api/doctor"

    time: str
    node: str
    interval_s: float
    ended_at: str | None
    problem: str | None
    last: DoctorDocument | None
