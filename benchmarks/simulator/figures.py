"""What a simulated run came to, in the figures of the tables and plots. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_CURVE_POINTS = 101


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One run. Times are seconds from the moment when a node asks until it has all of its image.

    ``nodes``, ``zones``: of the cluster. ``pulls``: how many pulls ended well; ``failed``: how many did not.
    ``curve_s``: the quantiles of the times, from 0 to 100 per cent. ``p999_s``: the 99.9th percentile.
    ``fetches_per_scope``: how often the registry was asked for a blob, per blob, and with scope ``zone`` per
    zone that wanted it. ``registry_copies``: what the registry's link carried, in
    copies of what was wanted. ``crossed_copies``: what went from zone to zone, in multiples of the least
    that has to if the registry is asked once: a copy for each further zone.
    ``crossed_per_delivered``: the same bytes, by byte that nodes were given. ``usd``: what the bytes between
    zones and from the registry cost at the prices of the agents' settings. ``zone_spread``: when the last
    zone had everything, as a multiple of the time of the first one. ``small_zone``: the time of the smallest
    zone as a multiple of the largest one's (99th percentiles); 1 if all are equal. ``dials``: connections
    and requests to peers; ``dead_dials``: those to nodes that were gone. ``wall_s``: how long the simulation
    ran; ``peak_mib``: the process's largest resident set so far.
    """

    workload: str
    policy: str
    scope: str
    nodes: int
    zones: int
    size_bytes: int
    seed: int
    pulls: int
    failed: int
    p50_s: float
    p99_s: float
    p999_s: float
    last_s: float
    fetches: int
    fetches_per_scope: float
    registry_copies: float
    crossed_copies: float
    crossed_per_delivered: float
    usd: float
    zone_spread: float
    small_zone: float
    dials: int
    dead_dials: int
    curve_s: Sequence[float]
    wall_s: float
    peak_mib: float

    @property
    def p99_of_p50(self) -> float:
        """The 99th percentile as a multiple of the median."""
        return ratio(self.p99_s, self.p50_s)

    @property
    def p999_of_p50(self) -> float:
        """The 99.9th percentile as a multiple of the median."""
        return ratio(self.p999_s, self.p50_s)

    @property
    def dead_share(self) -> float:
        """Which share of the dials went to nodes that were gone."""
        return self.dead_dials / self.dials if self.dials else 0.0

    def document(self) -> dict[str, Any]:
        """The figures for JSON."""
        ratios = {"p99_of_p50": self.p99_of_p50, "p999_of_p50": self.p999_of_p50}
        return {**asdict(self), **ratios, "dead_share": self.dead_share}


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of the sorted values. NaN if there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def curve(ordered: Sequence[float]) -> tuple[float, ...]:
    """The quantiles of the sorted values, from 0 to 100 per cent."""
    return tuple(quantile(ordered, step / (_CURVE_POINTS - 1)) for step in range(_CURVE_POINTS))


def spread_of(seconds: Mapping[str, Sequence[float]]) -> float:
    """When the last zone was done, as a multiple of the first one's time. ``seconds``: of each zone."""
    ends = [max(each) for each in seconds.values() if each]
    return ratio(max(ends), min(ends)) if ends else math.nan


def small_of_large(seconds: Mapping[str, Sequence[float]], sizes: Mapping[str, int]) -> float:
    """The smallest zone's 99th percentile as a multiple of the largest one's. 1 if no zone is smaller."""
    used = [zone for zone in sizes if seconds.get(zone)]
    if not used or len({sizes[zone] for zone in used}) == 1:
        return 1.0
    small, large = min(used, key=lambda zone: sizes[zone]), max(used, key=lambda zone: sizes[zone])
    return ratio(quantile(sorted(seconds[small]), 0.99), quantile(sorted(seconds[large]), 0.99))


def ratio(one: float, other: float) -> float:
    """One by the other. Two that are hardly above nothing are equal."""
    return one / other if other > 1e-9 else (1.0 if one <= 1e-9 else math.inf)
