"""What peers report about themselves and each other, as evidence for where a node sits.

Owns the latest report of each node about itself (its median to each zone) and about single other nodes.
A reporter counts as a witness for its labelled zone only. An inferred zone is not used to infer another.
"""

import statistics
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from topology.inference import Evidence
from topology.interning import Interned
from topology.placement import NodeName, ZoneKey
from topology.zones import Vote

_REPORTERS_MAX = 32  # remembered per mentioned node


class _Medians(NamedTuple):
    """What a node reports of itself. In a large cluster there are thousands of these."""

    zones: tuple[ZoneKey, ...]
    values_us: "array[float]"
    at_s: float


class Witnesses:
    """The reports of all peers. ``ttl_s``: how long a report counts."""

    def __init__(self, *, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._medians: dict[NodeName, _Medians] = {}
        self._zones = Interned[tuple[ZoneKey, ...]]()  # most nodes report the same ones
        self._mentions: dict[NodeName, dict[NodeName, Vote]] = {}

    @property
    def reported_nodes(self) -> Collection[NodeName]:
        """The nodes about which there is a report, by themselves or by others."""
        return self._medians.keys() | self._mentions.keys()

    def add_medians(self, node: NodeName, zones: Mapping[ZoneKey, float], now_s: float) -> None:
        """Record the medians, in microseconds, that a node reports of itself."""
        self._medians[node] = _Medians(self._zones.of(tuple(zones)), array("d", zones.values()), now_s)

    def add_mention(self, reporter: NodeName, node: NodeName, rtt_us: float, now_s: float) -> None:
        """Record the round trip that a node reports to another node."""
        votes = self._mentions.setdefault(node, {})
        votes.pop(reporter, None)
        votes[reporter] = Vote(rtt_us=rtt_us, at_s=now_s)
        if len(votes) > _REPORTERS_MAX:
            del votes[next(iter(votes))]

    def expire(self, nodes: Iterable[NodeName], now_s: float) -> None:
        """Drop what was reported of these nodes too long ago to count. O(reports of them)."""
        for node in nodes:
            medians, votes = self._medians.get(node), self._mentions.get(node, {})
            if medians is not None and not self._counts(medians.at_s, now_s):
                del self._medians[node]
            for reporter in [each for each, vote in votes.items() if not self._counts(vote.at_s, now_s)]:
                del votes[reporter]
            if not votes:
                self._mentions.pop(node, None)

    def forget(self, nodes: Collection[NodeName]) -> None:
        """Drop all reports by nodes that left, and all reports about them. O(reports)."""
        for node in nodes:
            self._medians.pop(node, None)
            self._mentions.pop(node, None)
        for node, votes in list(self._mentions.items()):
            for reporter in [each for each in votes if each in nodes]:
                del votes[reporter]
            if not votes:
                del self._mentions[node]

    def reported_median_us(self, node: NodeName, zone: ZoneKey, now_s: float) -> float | None:
        """The median to a zone that the node reports of itself. None without a report, or with an old one."""
        medians = self._medians.get(node)
        if medians is None or zone not in medians.zones or not self._counts(medians.at_s, now_s):
            return None
        return medians.values_us[medians.zones.index(zone)]

    def evidence(
        self,
        node: NodeName,
        now_s: float,
        *,
        zone_of: Callable[[NodeName], ZoneKey | None],
        own: tuple[ZoneKey, float] | None,
    ) -> Evidence:
        """The round trip between the node and each zone: the lower median over the witnesses, one vote each.

        ``zone_of``: a witness's labelled zone. ``own``: this node's labelled zone, and what it measured.
        """
        votes: dict[ZoneKey, list[float]] = defaultdict(list)
        if own is not None:
            votes[own[0]].append(own[1])
        for reporter, vote in self._mentions.get(node, {}).items():
            zone = zone_of(reporter)
            if zone is not None and self._counts(vote.at_s, now_s):
                votes[zone].append(vote.rtt_us)
        medians = self._medians.get(node)
        if medians is not None and self._counts(medians.at_s, now_s):
            for zone, rtt_us in zip(medians.zones, medians.values_us, strict=True):
                votes[zone].append(rtt_us)
        return {zone: statistics.median_low(values) for zone, values in votes.items()}

    def _counts(self, at_s: float, now_s: float) -> bool:
        return now_s - at_s <= self._ttl_s
