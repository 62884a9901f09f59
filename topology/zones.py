"""Round-trip times between zones, from what this node measured and what its peers tell.

Decides one number for a pair of zones: the median over the nodes that measured it, each node having
one vote, so that no single node's mistake or lie moves it. Of an even number the lower middle counts:
nodes that are slow to reach are common, nodes that are nearer than their zone are not. A round trip has
no direction: (a, b) and (b, a) are one pair. docs/benchmarks.md compares this with coordinates (Vivaldi)
on the same samples.
"""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from topology.placement import NodeName, ZoneKey
from topology.rtt import clamped

_VOTES_MAX = 64  # for one pair; more would not move a median


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one node measured: its median to each zone, and single nodes that are worth a mention.

    All times in microseconds. ``load``: how many bodies it is sending to peers.
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
"""Two zones, or one: the inside of it."""


class ZoneMatrix:
    """The votes for each pair of zones. Bounded: `_VOTES_MAX` voters for a pair.

    ``own``: the node whose matrix this is; what it measured itself counts twice, so that one other
    voice can't overrule it.
    """

    def __init__(self, *, own: NodeName, ttl_s: float) -> None:
        self._own = own
        self._ttl_s = ttl_s
        self._votes: dict[Pair, dict[NodeName, Vote]] = {}
        self._medians: dict[Pair, float] = {}
        self._changed: set[Pair] = set()

    def vote(self, voter: NodeName, one: ZoneKey, other: ZoneKey, rtt_us: float, now_s: float) -> bool:
        """Take a node's value for a pair; false when it had to be clamped or could not be used."""
        plausible = clamped(rtt_us)
        if plausible is None:
            return False
        pair = frozenset((one, other))
        votes = self._votes.setdefault(pair, {})
        votes.pop(voter, None)
        votes[voter] = Vote(rtt_us=plausible, at_s=now_s)
        if len(votes) > _VOTES_MAX:
            del votes[next(iter(votes))]
        self._touch(pair)
        return plausible == rtt_us

    def expire(self, now_s: float) -> None:
        """Forget votes that are older than the time to live. O(votes)."""
        for pair, votes in list(self._votes.items()):
            old = [voter for voter, vote in votes.items() if now_s - vote.at_s > self._ttl_s]
            for voter in old:
                del votes[voter]
            if old:
                self._touch(pair)
            if not votes:
                del self._votes[pair]

    def forget(self, voter: NodeName) -> None:
        """Forget a node's votes, as it left. O(pairs)."""
        for pair, votes in list(self._votes.items()):
            if votes.pop(voter, None) is not None:
                self._touch(pair)
                if not votes:
                    del self._votes[pair]

    def take_changed(self) -> set[Pair]:
        """The pairs whose votes changed since this was last asked."""
        changed, self._changed = self._changed, set()
        return changed

    def rtt_us(self, one: ZoneKey, other: ZoneKey) -> float | None:
        """The pair's median; None when nobody measured it."""
        pair = frozenset((one, other))
        median = self._medians.get(pair)
        if median is None:
            votes = self._votes.get(pair)
            if not votes:
                return None
            values = [vote.rtt_us for vote in votes.values()]
            own = votes.get(self._own)
            if own is not None:
                values.append(own.rtt_us)
            median = self._medians[pair] = statistics.median_low(values)
        return median

    def voters(self, one: ZoneKey, other: ZoneKey) -> Iterable[NodeName]:
        """Who measured the pair."""
        return self._votes.get(frozenset((one, other)), {}).keys()

    def _touch(self, pair: Pair) -> None:
        self._medians.pop(pair, None)
        self._changed.add(pair)

    def pairs(self) -> Iterable[Pair]:
        """The pairs that somebody measured."""
        return self._votes.keys()
