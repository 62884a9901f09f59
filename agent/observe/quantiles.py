"""Quantiles of durations at a fixed cost: counts in buckets whose widths grow with the duration. Pure."""

import math
from array import array
from collections.abc import Iterable

_LEAST_S = 50e-6  # what is shorter counts as this
_GROWTH = 1.12  # a value is known to 6 %
_BUCKETS = 128  # the last one begins at 90 s
_LOG = math.log(_GROWTH)


class Durations:
    """Counts durations. Half a kibibyte."""

    __slots__ = ("_counts", "count")

    def __init__(self) -> None:
        self._counts = array("I", bytes(4 * _BUCKETS))
        self.count = 0

    def add(self, seconds: float) -> None:
        """One took so long. What is not finite or negative counts as nothing."""
        if not 0 <= seconds < math.inf:
            return
        place = int(math.log(seconds / _LEAST_S) / _LOG) + 1 if seconds > _LEAST_S else 0
        self._counts[min(_BUCKETS - 1, place)] += 1
        self.count += 1

    def quantiles(self, *shares: float) -> tuple[float | None, ...]:
        """The durations below which these shares of all are, ascending shares. None: there are none."""
        if not self.count:
            return tuple(None for _ in shares)
        found: list[float | None] = []
        wanted = [max(1, math.ceil(share * self.count)) for share in shares]
        seen = 0
        for place, count in enumerate(self._counts):
            seen += count
            while len(found) < len(wanted) and seen >= wanted[len(found)]:
                found.append(round(_middle_s(place), 7))
        return tuple(found)

    def clear(self) -> None:
        """Forget all."""
        if self.count:
            self._counts = array("I", bytes(4 * _BUCKETS))
            self.count = 0


def joined(several: Iterable[Durations]) -> Durations:
    """All of them as one."""
    whole = Durations()
    for each in several:
        if each.count:
            whole.count += each.count
            whole._counts = array("I", map(int.__add__, whole._counts, each._counts))
    return whole


def _middle_s(place: int) -> float:
    """The middle of a bucket, on the scale of the buckets."""
    return _LEAST_S if place == 0 else _LEAST_S * _GROWTH ** (place - 0.5)
