"""From which zone to which a blob travels, when one zone fetches it for all.

Decides a parent for every zone that wants the blob. Together the choices are a tree whose root is the zone
that fetches from the registry. Every zone gets the blob once, so the tree's edges are what the distribution
costs. The tree is the cheapest one: first in US dollars by the price table, then in round trips. That is a
minimum-cost arborescence; the algorithm is Edmonds' (Optimum branchings, 1967), with all cycles of a round
contracted at once. networkx has it too, and takes 70 times as long at 64 zones: it is the tests' oracle.

A zone feeds at most ``children_max`` others, because its gateway's link carries the blob once for each. The
zones beyond that get another parent if there is one at the same price. No link is spared for money.

Pure. Every node that is given the same values decides the same, whatever their order.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from topology.placement import ZoneKey

AnyZone = ZoneKey | None
"""A zone, or None: the nodes without one. The price table takes them for one zone of its own."""

_RTT_STEP_US = 500.0  # zones of a region are 0.8 to 1.1 ms apart, and that difference says nothing
_RTT_STEPS_MAX = 1 << 20
_PRICES = 1e6  # prices count in millionths of a dollar


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What it costs to bring a blob from one zone to another: US dollars per GB, and the round trip."""

    usd_per_gb: float
    rtt_us: float


def spread(
    root: AnyZone,
    zones: Collection[AnyZone],
    way: Callable[[AnyZone, AnyZone], Way],
    *,
    children_max: int,
    settled: Mapping[AnyZone, AnyZone] | None = None,
) -> dict[AnyZone, AnyZone]:
    """The parent of each of ``zones``, without the root.

    ``way``: from a zone to another; it is called once for each pair. ``settled``: parents that were told
    before and are kept, as long as they are among the zones and lead to the root. O(zones²) for each of at
    most log(zones) rounds: a few milliseconds for 64 zones.
    """
    ordered: Sequence[AnyZone] = [root, *sorted({*zones} - {root}, key=_order)]
    kept = _leading_to_root(root, {*ordered}, settled or {})
    costs: dict[_Edge, int] = {}
    for end, destination in enumerate(ordered):
        for start, source in enumerate(ordered):
            if start != end != 0 and kept.get(destination, source) == source:
                costs[start, end] = _cost(way(source, destination), from_root=start == 0)
    tree = _Tree(_cheapest(costs), costs, children_max, {ordered.index(zone) for zone in kept})
    return {ordered[end]: ordered[start] for end, start in sorted(tree.relieved().items())}


_Edge = tuple[int, int]  # from, to
_ZONES_MAX = 1 << 12  # so many small costs never outweigh a step of what counts more
_DOLLARS = _RTT_STEPS_MAX * _ZONES_MAX


def _cost(way: Way, *, from_root: bool) -> int:
    """Money; below that the round trip; below that whether the root is the parent.

    Among equals the root is the best parent: the way is short, and fewer links may fail. Integers, so that
    equal sums are equal.
    """
    steps = min(_RTT_STEPS_MAX, max(0, round(way.rtt_us / _RTT_STEP_US)))
    return (round(way.usd_per_gb * _PRICES) * _DOLLARS + steps) * _ZONES_MAX + (not from_root)


def _price(cost: int) -> int:
    return cost // _ZONES_MAX // _DOLLARS


def _order(zone: AnyZone) -> str:
    return "" if zone is None else str(zone)


def _leading_to_root(
    root: AnyZone, zones: set[AnyZone], settled: Mapping[AnyZone, AnyZone]
) -> dict[AnyZone, AnyZone]:
    """Those of the settled parents from which a way of settled parents leads to the root."""
    kept: dict[AnyZone, AnyZone] = {}
    reached = {root}
    while True:
        found = {
            zone: parent for zone, parent in settled.items() if parent in reached and zone in zones - reached
        }
        if not found:
            return kept
        kept.update(found)
        reached.update(found)


def _cheapest(costs: Mapping[_Edge, int]) -> dict[int, int]:
    """The parent of each vertex but 0 in the cheapest tree from 0. Edmonds: take the cheapest edge into each
    vertex, contract the cycles that these make, and solve what is left, where an edge into a cycle costs what
    it costs more than the cycle's own edge.
    """
    parents: dict[int, int] = {}
    for (start, end), cost in costs.items():
        if end not in parents or cost < costs[parents[end], end]:
            parents[end] = start
    cycles = _cycles(parents)
    if not cycles:
        return parents
    inside = {vertex: cycle[0] for cycle in cycles for vertex in cycle}
    contracted: dict[_Edge, int] = {}
    origins: dict[_Edge, _Edge] = {}
    for (start, end), cost in costs.items():
        edge = inside.get(start, start), inside.get(end, end)
        more = cost - costs[parents[end], end] if end in inside else cost
        if edge[0] != edge[1] and (edge not in contracted or more < contracted[edge]):
            contracted[edge], origins[edge] = more, (start, end)
    for end, start in _cheapest(contracted).items():
        origin = origins[start, end]
        parents[origin[1]] = origin[0]
    return parents


def _cycles(parents: Mapping[int, int]) -> list[list[int]]:
    """The cycles in which vertices are each other's parents."""
    seen: dict[int, int] = {}  # in which walk
    cycles: list[list[int]] = []
    for first in parents:
        walk: list[int] = []
        vertex = first
        while vertex in parents and vertex not in seen:
            seen[vertex] = first
            walk.append(vertex)
            vertex = parents[vertex]
        if seen.get(vertex) == first and vertex in walk:
            cycles.append(walk[walk.index(vertex) :])
    return cycles


class _Tree:
    """A tree in which vertices beyond ``children_max`` are moved to other parents, if that costs no money.

    ``kept``: the vertices that stay where they are. A vertex that moves takes what is below it along.
    """

    def __init__(
        self,
        parents: Mapping[int, int],
        costs: Mapping[_Edge, int],
        children_max: int,
        kept: Collection[int],
    ) -> None:
        self._parents, self._costs, self._children_max, self._kept = parents, costs, children_max, kept
        self._below: dict[int, list[int]] = {vertex: [] for vertex in (0, *parents)}
        for end, start in parents.items():
            self._below[start].append(end)
        self._relieved: dict[int, int] = {}
        self._children = dict.fromkeys(self._below, 0)
        self._depths = {0: 0}
        self._loose: list[int] = []

    def relieved(self) -> dict[int, int]:
        """The parents in the tree that comes of it."""
        self._take(0)
        while self._loose:
            moves = ((self._best(end), end) for end in self._loose)
            start, end = next(
                ((start, end) for start, end in moves if start is not None),
                (self._parents[self._loose[0]], self._loose[0]),  # nobody else at that price: it stays
            )
            self._loose.remove(end)
            self._attach(start, end)
            self._take(end)
        return self._relieved

    def _take(self, first: int) -> None:
        """Attach what is below a vertex. What is too much becomes loose."""
        for start in (reached := [first]):  # it grows while it is read
            below = sorted(
                self._below[start], key=lambda end: (end not in self._kept, self._costs[start, end], end)
            )
            for place, end in enumerate(below):
                if place < self._children_max or end in self._kept:
                    self._attach(start, end)
                    reached.append(end)
                else:
                    self._loose.append(end)

    def _attach(self, start: int, end: int) -> None:
        self._relieved[end] = start
        self._children[start] += 1
        self._depths[end] = self._depths[start] + 1

    def _best(self, end: int) -> int | None:
        """The best parent that has room, at the price of the present one. None: there is none."""
        price = _price(self._costs[self._parents[end], end])
        able = [
            (self._costs[start, end], depth, start)
            for start, depth in self._depths.items()
            if (start, end) in self._costs
            and self._children[start] < self._children_max
            and _price(self._costs[start, end]) == price
        ]
        return min(able)[2] if able else None
