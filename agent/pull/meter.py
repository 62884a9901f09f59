"""The recent rate of one body, and whether its source or its reader limits it. Pure."""

from collections import deque
from dataclasses import dataclass

TICK_S = 0.25
_SOURCE_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The rate over the last ``over_s`` seconds. ``source_bound``: the source is slower than the reader."""

    bytes_per_s: float
    over_s: float
    source_bound: bool


class Meter:
    """Measures the body of one source. ``window_s``: over how much time a rate is taken."""

    def __init__(self, now_s: float, *, window_s: float) -> None:
        self._window_s = window_s
        self._marks: deque[tuple[float, int, float]] = deque([(now_s, 0, 0.0)])
        self.started_s = now_s
        self.moved_bytes = 0
        self.waited_s = 0.0  # how long the source was waited for

    def rate(self, now_s: float) -> Rate | None:
        """The rate now. None if the last one is less than `TICK_S` old."""
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
