"""What peers say of themselves and of each other, and the evidence that it makes.

Owns the latest word of each node about itself (its median to each zone) and about others (single nodes
worth a mention). Only zones that labels give count as witnesses' places: what was inferred is no
evidence for more.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from topology.inference import Evidence
from topology.placement import NodeName, ZoneKey
from topology.zones import Vote

_REPORTERS_MAX = 32  # remembered for a mentioned node


class Witnesses:
    """The words of all peers. ``ttl_s``: how long a word counts."""

    def __init__(self, *, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._told: dict[NodeName, tuple[Mapping[ZoneKey, float], float]] = {}
        self._mentions: dict[NodeName, dict[NodeName, Vote]] = {}

    @property
    def subjects(self) -> Collection[NodeName]:
        """The nodes about which there is a word."""
        return self._told.keys() | self._mentions.keys()

    def told(self, node: NodeName, zones: Mapping[ZoneKey, float], now_s: float) -> None:
        """A node told its medians, in microseconds."""
        self._told[node] = zones, now_s

    def mentioned(self, reporter: NodeName, node: NodeName, rtt_us: float, now_s: float) -> None:
        """A node told its round trip to another."""
        votes = self._mentions.setdefault(node, {})
        votes.pop(reporter, None)
        votes[reporter] = Vote(rtt_us=rtt_us, at_s=now_s)
        if len(votes) > _REPORTERS_MAX:
            del votes[next(iter(votes))]

    def forget(self, nodes: Collection[NodeName]) -> None:
        """Forget all words of nodes that left, and all about them. O(words)."""
        for node in nodes:
            self._told.pop(node, None)
            self._mentions.pop(node, None)
        for node, votes in list(self._mentions.items()):
            for reporter in [each for each in votes if each in nodes]:
                del votes[reporter]
            if not votes:
                del self._mentions[node]

    def median_told_us(self, node: NodeName, zone: ZoneKey, now_s: float) -> float | None:
        """What the node itself says of its way to a zone; None when it says nothing, or long ago."""
        zones, at_s = self._told.get(node, ({}, 0.0))
        return zones.get(zone) if self._counts(at_s, now_s) else None

    def evidence(
        self,
        node: NodeName,
        now_s: float,
        *,
        zone_of: Callable[[NodeName], ZoneKey | None],
        own: tuple[ZoneKey, float] | None,
    ) -> Evidence:
        """The round trip between the node and each zone: the lower median of one vote a witness.

        ``zone_of``: a witness's labelled zone. ``own``: this node's labelled zone and what it measured.
        """
        votes: dict[ZoneKey, list[float]] = defaultdict(list)
        if own is not None:
            votes[own[0]].append(own[1])
        for reporter, vote in self._mentions.get(node, {}).items():
            zone = zone_of(reporter)
            if zone is not None and self._counts(vote.at_s, now_s):
                votes[zone].append(vote.rtt_us)
        zones, at_s = self._told.get(node, ({}, 0.0))
        if self._counts(at_s, now_s):
            for zone, rtt_us in zones.items():
                votes[zone].append(rtt_us)
        return {zone: statistics.median_low(values) for zone, values in votes.items()}

    def _counts(self, at_s: float, now_s: float) -> bool:
        return now_s - at_s <= self._ttl_s
