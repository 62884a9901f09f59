"""The order in which to try the holders of a blob.

The order is, most important first:
1. A holder that is suspected of wrong bytes is the last resort. One that failed a moment ago comes before
   it. A saturated holder comes behind the unsaturated
   holders of every tier, so that a saturated tier spills over to the next tier at once.
2. Tier. Tiers are never mixed: no round trip makes up for a farther tier (docs/decisions/0007).
3. Whether it has all of the content. One that is still fetching it comes behind those of its tier that have
   it, and before all of a farther tier.
4. Round trip, in bins: holders up to `_EQUAL_RATIO` times as slow as the nearest of the tier count as
   equally near.
5. Load.
6. A rendezvous hash of (digest, client, holder), so that equal holders share the work without talking to
   each other. Where the nodes of a zone pass the digest on while it arrives, the holders of other zones are
   hashed with the zone instead of the client. Then the whole zone asks the same one, and gets it once.
   Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998).

Pure and deterministic: the input's order does not matter.
"""

import heapq
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from topology.placement import NodeName, Tier
from topology.snapshot import LOG_STEP, SEED_BITS, TIER_WIDTH, Snapshot, Source, Standing, seed_of, tier_key

# Equally near nodes of one zone were measured at 0.26 to 0.41 ms. That difference means nothing.
_EQUAL_RATIO = 1.6
EQUAL_STEPS = math.ceil(math.log(_EQUAL_RATIO) / math.log(LOG_STEP))
"""Holders of one tier whose costs are less than so many steps apart count as equally near."""

_BINS = TIER_WIDTH // EQUAL_STEPS + 1  # bins of equally near holders per tier
_LOTS = (1 << SEED_BITS) - 1
_FAR_KEY = tier_key(Tier.REGION, (), 0) << SEED_BITS  # keys of holders in other zones are not below this
_LOAD_BITS = 6
_LOAD_MAX = (1 << 40) - 1
_BIN_SHIFT = SEED_BITS + _LOAD_BITS
_HANDICAP_SHIFT = _BIN_SHIFT + 24
_FEW = 128  # up to so many holders are sorted without narrowing them down first


class Condition(NamedTuple):
    """How a holder is doing. The default is a healthy, idle holder."""

    load: int = 0  # bodies it is sending, as far as this node knows
    saturated: bool = False  # it refused a moment ago because it had no capacity
    cooling: bool = False  # it failed a moment ago
    doubted: bool = False  # it is suspected of wrong bytes of the digest that is wanted
    in_flight: int | None = None  # it is still fetching the content, and has this much of it, in per cent


_WELL = Condition()


class Ranked(NamedTuple):
    """A holder with its rank (1 is first) and the reasons for it.

    ``equals``: how many of the holders were equally good, this one included. The hash decided among them.
    """

    node: NodeName
    tier: Tier
    rank: int
    standing: Standing | None = None
    condition: Condition = _WELL
    equals: int = 1

    @property
    def reason(self) -> str:
        """Why the holder has this rank, in one line."""
        return ", ".join(_reasons(self))


def rank(
    holders: Iterable[NodeName],
    snapshot: Snapshot,
    *,
    digest: str,
    conditions: Mapping[NodeName, Condition] | None = None,
    limit: int | None = None,
    zone_as_one: bool = False,
) -> tuple[Ranked, ...]:
    """The first ``limit`` holders in the order in which to try them. None: all of them, a permutation.

    ``conditions``: the holders that are not healthy and idle. ``zone_as_one``: all nodes of this node's zone
    should choose the same one of equal holders in another zone. Cost: one look-up per holder, and one hash
    per holder that may be among the first.
    """
    known = conditions or {}
    nodes = holders if isinstance(holders, Sequence) else tuple(holders)
    lot = _Lot(digest, snapshot, zone_as_one=zone_as_one)
    # A condition only ever moves a holder back. So it is enough to add one candidate per condition.
    enough = len(nodes) if limit is None else limit + len(known)
    try:
        keys = list(map(snapshot.keys.__getitem__, nodes))
    except KeyError:
        keys = [snapshot.key(node) for node in nodes]
    if len(nodes) > max(enough, _FEW):
        chosen = _likely_first(nodes, keys, lot, enough)
        if len(chosen) < enough:  # some holders were named twice
            return rank(
                dict.fromkeys(nodes),
                snapshot,
                digest=digest,
                conditions=conditions,
                limit=limit,
                zone_as_one=zone_as_one,
            )
    else:
        chosen = dict(zip(nodes, keys, strict=True))
    places = {key >> SEED_BITS for key in chosen.values()}
    best = _best_of_tiers(places)
    bins = {place: _bin(place, best) << _BIN_SHIFT for place in places}
    scores = [(bins[key >> SEED_BITS] | lot.of(key), node) for node, key in chosen.items()]
    if known:
        scores = [
            (score + _handicap(*known[node]) if node in known else score, node) for score, node in scores
        ]
    scores.sort()
    equals = {bin_: _count_of(bin_, scores) for bin_ in {score >> SEED_BITS for score, _ in scores[:limit]}}
    standings = snapshot.standings
    return tuple(
        [
            Ranked(
                node,
                standing.tier if (standing := standings.get(node)) else Tier.REMOTE,
                place,
                standing,
                known.get(node, _WELL),
                equals[score >> SEED_BITS],
            )
            for place, (score, node) in enumerate(scores[:limit], start=1)
        ]
    )


def _count_of(bin_: int, scores: Sequence[tuple[int, NodeName]]) -> int:
    """How many of the sorted scores are in one bin, with the same load and condition."""
    start = bisect_left(scores, (bin_ << SEED_BITS,))
    return bisect_left(scores, (bin_ + 1 << SEED_BITS,), lo=start) - start


def _best_of_tiers(places: Iterable[int]) -> dict[int, int]:
    """The lowest place in each tier. The bins of a tier start there."""
    return {place // TIER_WIDTH: place for place in sorted(places, reverse=True)}


def _bin(place: int, best: Mapping[int, int]) -> int:
    """Tier and round-trip bin as one number. Equally near holders have the same number.

    Each tier has its bins twice: for the holders that have all of the content, and for the others.
    """
    tier = place // TIER_WIDTH
    return tier * 2 * _BINS + (place - best[tier]) // EQUAL_STEPS


def _handicap(load: int, saturated: bool, cooling: bool, doubted: bool, in_flight: int | None) -> int:
    """What a condition adds to a score.

    Load counts within a bin, on a log scale. Being in flight counts within a tier. The rest counts more than
    anything else.
    """
    unwell = (doubted * 4 + cooling * 2 + saturated) << _HANDICAP_SHIFT
    behind = 0 if in_flight is None else _BINS << _BIN_SHIFT
    return unwell | behind | min(load, _LOAD_MAX).bit_length() << SEED_BITS


class _Lot:
    """The hash of a holder with the digest and the client, or with the digest and the client's zone."""

    def __init__(self, digest: str, snapshot: Snapshot, *, zone_as_one: bool) -> None:
        self._near = self._far = seed_of(f"{digest}\0{snapshot.own}")
        zone = snapshot.zone_of(snapshot.own) if zone_as_one else None
        if zone is not None:
            self._far = seed_of(f"{digest}\0{zone}")

    def factor(self, key: int) -> int:
        """What the lot of a holder with such a key is made with."""
        return self._near if key < _FAR_KEY else self._far

    def of(self, key: int) -> int:
        """The lot of the holder with this key."""
        return (key & _LOTS) * self.factor(key) & _LOTS


def _likely_first(
    nodes: Sequence[NodeName], keys: Sequence[int], lot: _Lot, enough: int
) -> dict[NodeName, int]:
    """The nodes that may be among the first ``enough``, and not many more, with their keys.

    Takes whole bins, nearest first, until there are enough. If the last bin is large, it takes only the
    nodes of that bin with low hashes. This only saves time: a test checks that `rank` gives the same
    answer without it.
    """
    first = min(keys) >> SEED_BITS
    low, high = first << SEED_BITS, first + EQUAL_STEPS << SEED_BITS
    before, count = 0, len(keys) if max(keys) < high else sum(map(high.__gt__, keys))
    if count < enough:
        # The bin of the last of the nearest, and all bins before it.
        nearest = heapq.nsmallest(enough, keys)
        first, last = _bin_of(nearest[-1] >> SEED_BITS, _best_of_tiers(key >> SEED_BITS for key in nearest))
        low, high = first << SEED_BITS, last + 1 << SEED_BITS
        before, count = bisect_left(nearest, low), sum(map(high.__gt__, keys))
    # The hashes are uniform, so with overwhelming probability enough nodes of the last bin are below this.
    below = _LOTS * (2 * enough + 64) // (count - before)
    factor = lot.factor(low)  # a bin is of one tier
    chosen = {
        node: key
        for node, key in zip(nodes, keys, strict=True)
        if key < high and (key < low or (key & _LOTS) * factor & _LOTS <= below)
    }
    if len(chosen) < enough:
        return {node: key for node, key in zip(nodes, keys, strict=True) if key < high}
    return chosen


def _bin_of(place: int, best: Mapping[int, int]) -> tuple[int, int]:
    """The lowest and the highest place in the same bin."""
    anchor = best[place // TIER_WIDTH]
    first = anchor + (place - anchor) // EQUAL_STEPS * EQUAL_STEPS
    return first, first + EQUAL_STEPS - 1


def _reasons(ranked: Ranked) -> Iterable[str]:
    standing, condition = ranked.standing, ranked.condition
    if standing is None:
        yield "not a member any more"
        return
    yield f"tier {ranked.tier.label}"
    rtt = f"rtt {standing.cost_us / 1000:.2f} ms"
    estimate = standing.estimate
    if standing.source is Source.MEASURED and estimate is not None:
        yield f"{rtt} ({estimate.samples} samples, {estimate.age_s:.0f} s ago)"
    else:
        yield f"{rtt} ({_GUESSES[standing.source]})"
    if condition.in_flight is not None:
        yield f"in flight, {condition.in_flight} %"
    if condition.load:
        yield f"load {condition.load}"
    if ranked.equals > 1:
        yield f"one of {ranked.equals} equals, by hash"
    if standing.inferred:
        yield "zone inferred from latency"
    if standing.suspect is not None:
        yield f"suspect: {standing.suspect}"
    if condition.saturated:
        yield "had no capacity a moment ago, behind all healthy holders"
    if condition.cooling:
        yield "failed a moment ago, last resort"
    if condition.doubted:
        yield "suspect: what it gave of this was not committed, the very last resort"


_GUESSES = {
    Source.ZONE_PAIR: "not measured: median of its zone",
    Source.SAYS_SLOWER: "not measured: the node says it is slower than its zone",
    Source.PATH: "not measured: shortest path over measured zones",
    Source.PRIOR: "not measured: usual for such a peer",
    Source.SELF: "this node",
    Source.MEASURED: "measured",
}
