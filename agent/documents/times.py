"""Moments as text: UTC, ISO 8601 with milliseconds and a Z, as in ``2026-08-01T12:00:00.250Z``. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime

_UNKNOWN = ""


def utc(unix_s: float) -> str:
    """Seconds since 1970 as text. Empty if no calendar has that moment."""
    try:
        moment = datetime.fromtimestamp(unix_s, UTC)
    except (OverflowError, ValueError, OSError):
        return _UNKNOWN
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One moment on two clocks. ``now_s``: CLOCK_MONOTONIC. ``unix_s``: seconds since 1970.

    It turns other readings of the monotonic clock into times of day. If the clock of the day was set in
    between, these are as that clock has it now.
    """

    now_s: float
    unix_s: float

    @property
    def text(self) -> str:
        """This moment."""
        return utc(self.unix_s)

    def text_of(self, at_s: float) -> str:
        """Another moment, of which only CLOCK_MONOTONIC is known."""
        return utc(self.unix_s + at_s - self.now_s)
