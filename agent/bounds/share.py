"""A share of the processor: a bucket that fills with seconds of CPU time at a steady rate.

A spender may go into debt, and then waits until the debt is paid. Source: RFC 3290, 5.1.3 (token buckets).
"""

import math


class Share:
    """``rate`` of one core in the long run, and ``burst_s`` seconds of CPU time at once.

    ``wait_max_s``: nobody ever waits longer. A debt that would take more time to pay is let off: who spends
    nothing any more should not wait for minutes, and least of all for what others spent.
    """

    __slots__ = ("_at_s", "_least_s", "_left_s", "burst_s", "rate")

    def __init__(self, *, rate: float, burst_s: float, now_s: float, wait_max_s: float = math.inf) -> None:
        self.rate = rate
        self.burst_s = burst_s
        self._least_s = -rate * wait_max_s
        self._left_s = burst_s
        self._at_s = now_s

    def left_s(self, now_s: float) -> float:
        """How much CPU time may be spent at once. Less than 0: so much is owed."""
        if now_s > self._at_s:
            self._left_s = min(self.burst_s, self._left_s + (now_s - self._at_s) * self.rate)
            self._at_s = now_s
        return self._left_s

    def spend(self, cost_s: float, now_s: float) -> None:
        """Note that this much CPU time was spent."""
        self.left_s(now_s)
        self._left_s = max(self._left_s - cost_s, self._least_s)

    def wait_s(self, now_s: float) -> float:
        """How long until nothing is owed."""
        return max(0.0, -self.left_s(now_s) / self.rate)
