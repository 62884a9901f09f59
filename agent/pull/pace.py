"""How soon the peers of a tier give a first byte, and how fast their bodies come.

Decides how long to wait before a second peer is asked as well: as long as 95 % of the tier's recent first
bytes took. Then one request in twenty is sent twice, and the slowest answers no longer delay a pull.
Source: Dean and Barroso, "The tail at scale" (2013), "hedged requests".
"""

from collections import deque
from collections.abc import Mapping

from topology.placement import Tier

_KEPT = 64
_ENOUGH = 8
_LEAST_S = 0.01  # a shorter wait would depend on what this process does at the moment
_WHOLE_BYTES = 4 * 1024 * 1024  # smaller bodies end before TCP has reached its full rate


class Pace:
    """First bytes and rates by tier, the last 64 of each. ``patience_s``: the longest wait for a hedge."""

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._first_bytes_s: dict[Tier, deque[float]] = {}
        self._hedge_s: Mapping[Tier, float] = dict.fromkeys(Tier, patience_s)
        self._rates: dict[Tier, deque[float]] = {}

    def first_byte(self, tier: Tier, seconds: float) -> None:
        """A peer took this long. If the attempt was abandoned, the peer would have taken even longer."""
        taken_s = self._first_bytes_s.setdefault(tier, deque(maxlen=_KEPT))
        taken_s.append(seconds)
        # Replaced and not changed: a pull keeps the limits that it began with.
        self._hedge_s = {**self._hedge_s, tier: self._hedge_after_s(taken_s)}

    def body(self, tier: Tier, size_bytes: int, seconds: float) -> None:
        """A body came from a peer. ``seconds``: without the time spent waiting for its reader."""
        if size_bytes >= _WHOLE_BYTES and seconds > 0:
            self._rates.setdefault(tier, deque(maxlen=_KEPT)).append(size_bytes / seconds)

    def hedge_s(self) -> Mapping[Tier, float]:
        """For each tier, how long to wait for a first byte before a second peer is asked as well."""
        return self._hedge_s

    def median_bytes_per_s(self, tier: Tier) -> float | None:
        """The median rate of a tier's recent bodies. None until there are enough of them."""
        rates = self._rates.get(tier, ())
        return sorted(rates)[len(rates) // 2] if len(rates) >= _ENOUGH else None

    def _hedge_after_s(self, taken_s: deque[float]) -> float:
        if len(taken_s) < _ENOUGH:
            return self._patience_s
        percentile_s = sorted(taken_s)[len(taken_s) * 95 // 100]
        return min(max(percentile_s, _LEAST_S), self._patience_s)
