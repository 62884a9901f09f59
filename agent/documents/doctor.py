"""What ``shorthaul doctor --json`` prints."""

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorDocument:
    """All findings about one node. ``serves``: nothing was found that keeps pulls from being served.

    ``seconds``: how long looking took.
    """

    node: str
    serves: bool
    seconds: float
    findings: tuple[FindingEntry, ...]
