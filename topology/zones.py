"""Round-trip times between zones, from this node's measurements and its peers' reports.

Decides one number for each pair of zones: the median over the nodes that measured it. Each node has one
vote, so one node's mistake or lie does not move the median. With an even number of votes the lower middle
one counts, because nodes that are slow to reach are common, and nodes that are nearer than their zone are
not. A round trip has no direction: (a, b) and (b, a) are the same pair. docs/benchmarks.md compares this
with network coordinates (Vivaldi) on the same samples.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from topology.placement import NodeName, ZoneKey
from topology.rtt import clamped

_VOTES_MAX = 9  # per pair: more would hardly move a median, and 100 zones make 5,000 pairs

# The limits of a report. At 60 bytes per zone it has 4 kB.
REPORT_ZONES_MAX = 64
REPORT_NODES_MAX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one node measured: its median to each zone, and its round trips to a few single nodes.

    All times in microseconds. ``load``: how many bodies the node is sending to peers now.
    """

    zones: Mapping[ZoneKey, float]
    nodes: Mapping[NodeName, float]
    load: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One node's value for a pair, and when it was given."""

    rtt_us: float
    at_s: float


Pair = frozenset[ZoneKey]
"""Two zones. A pair of one zone means round trips within that zone."""


def ends_of(pair: Pair) -> tuple[ZoneKey, ZoneKey]:
    """Both zones of a pair. For a pair within one zone: that zone twice."""
    one, other = (*pair, *pair)[:2]
    return one, other


class ZoneMatrix:
    """The votes for each pair of zones. Bounded: `_VOTES_MAX` voters per pair."""

    def __init__(self, *, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._votes: dict[Pair, dict[NodeName, Vote]] = {}
        self._medians: dict[Pair, float] = {}
        self._changed: set[Pair] = set()

    def vote(self, voter: NodeName, one: ZoneKey, other: ZoneKey, rtt_us: float, now_s: float) -> None:
        """Record a node's value for a pair. A value that can't be a round trip is ignored."""
        plausible = clamped(rtt_us)
        if plausible is None:
            return
        pair = frozenset((one, other))
        votes = self._votes.setdefault(pair, {})
        votes.pop(voter, None)
        votes[voter] = Vote(rtt_us=plausible, at_s=now_s)
        if len(votes) > _VOTES_MAX:
            del votes[next(iter(votes))]
        self._touch(pair)

    def expire(self, now_s: float) -> None:
        """Drop votes that are older than the time to live. O(votes)."""
        self._drop(lambda _, vote: now_s - vote.at_s > self._ttl_s)

    def forget(self, voters: Collection[NodeName]) -> None:
        """Drop the votes of nodes that left. O(votes)."""
        self._drop(lambda voter, _: voter in voters)

    def take_changed(self) -> set[Pair]:
        """The pairs whose votes changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def rtt_us(self, one: ZoneKey, other: ZoneKey) -> float | None:
        """The pair's median. None if nobody measured it."""
        pair = frozenset((one, other))
        median = self._medians.get(pair)
        if median is None:
            votes = self._votes.get(pair)
            if not votes:
                return None
            median = self._medians[pair] = statistics.median_low(vote.rtt_us for vote in votes.values())
        return median

    def vote_us(self, voter: NodeName, one: ZoneKey, other: ZoneKey) -> float | None:
        """What one node measured. None if it did not measure the pair, or did so too long ago."""
        vote = self._votes.get(frozenset((one, other)), {}).get(voter)
        return None if vote is None else vote.rtt_us

    def _drop(self, is_obsolete: Callable[[NodeName, Vote], bool]) -> None:
        for pair, votes in list(self._votes.items()):
            dropped = [voter for voter, vote in votes.items() if is_obsolete(voter, vote)]
            for voter in dropped:
                del votes[voter]
            if dropped:
                self._touch(pair)
            if not votes:
                del self._votes[pair]

    def region_medians(self) -> dict[frozenset[str | None], float]:
        """The median over the measured pairs of zones that lie in these two regions. O(pairs)."""
        measured: dict[frozenset[str | None], list[float]] = defaultdict(list)
        for pair in self._votes:
            median_us = self.rtt_us(*ends_of(pair))
            if len(pair) == 2 and median_us is not None:
                measured[frozenset(zone.region for zone in pair)].append(median_us)
        return {regions: statistics.median_low(medians) for regions, medians in measured.items()}

    def _touch(self, pair: Pair) -> None:
        self._medians.pop(pair, None)
        self._changed.add(pair)

    def pairs(self) -> Collection[Pair]:
        """The pairs that at least one node measured."""
        return self._votes.keys()
