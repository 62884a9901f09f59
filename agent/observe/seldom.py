"""What is said seldom, however often it happens: a flood must not fill the log."""

import time
from collections.abc import Callable, Hashable

EVERY_S = 60.0


class Seldom:
    """Says of each of a few things when to tell it: at once, and then once in ``every_s``."""

    def __init__(self, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._told_s: dict[Hashable, float] = {}
        self._untold: dict[Hashable, int] = {}

    def happened(self, what: Hashable = None) -> int:
        """Note that it happened. Returns 0 if it is not to be told now, else how often it did since then.

        ``what``: one of a bounded number of things, because all are remembered.
        """
        now_s, times = self._clock(), self._untold.get(what, 0) + 1
        told_s = self._told_s.get(what)
        if told_s is not None and now_s - told_s < self._every_s:
            self._untold[what] = times
            return 0
        self._told_s[what], self._untold[what] = now_s, 0
        return times
