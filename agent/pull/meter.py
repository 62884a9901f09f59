"""How one body comes along: its rate of late, and whether its source or its reader is the slower one.

Pure: told of bytes and waits, asked now and then.
"""

from collections import deque
from dataclasses import dataclass

TICK_S = 0.25
_SOURCE_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The last ``over_s`` seconds of a body. ``source_bound``: mostly the source was waited for."""

    bytes_per_s: float
    over_s: float
    source_bound: bool


class Meter:
    """One source's body. ``window_s``: how far back a look goes."""

    def __init__(self, now_s: float, *, window_s: float) -> None:
        self._window_s = window_s
        self._marks: deque[tuple[float, int, float]] = deque([(now_s, 0, 0.0)])
        self.started_s = now_s
        self.moved_bytes = 0
        self.waited_s = 0.0  # for the source

    def rate(self, now_s: float) -> Rate | None:
        """What there is to say, at most every `TICK_S`."""
        if now_s - self._marks[-1][0] < TICK_S:
            return None
        self._marks.append((now_s, self.moved_bytes, self.waited_s))
        while len(self._marks) > 2 and now_s - self._marks[1][0] >= self._window_s:
            self._marks.popleft()
        then_s, moved_bytes, waited_s = self._marks[0]
        over_s = now_s - then_s
        return Rate(
            bytes_per_s=(self.moved_bytes - moved_bytes) / over_s,
            over_s=over_s,
            source_bound=self.waited_s - waited_s >= over_s * _SOURCE_SHARE,
        )
