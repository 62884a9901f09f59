"""The tree of zones: the cheapest there is, the same for everybody, and no link carries more than it must."""

import itertools
from collections.abc import Iterable, Iterator, Mapping

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.twins import zone_key
from topology.ledger import Prices
from topology.spread import AnyZone, Way, spread

ZONES: list[AnyZone] = [zone_key(f"{region}/{zone}") for region in "pqr" for zone in "abcd"]
MANY = 99

Ways = Mapping[tuple[AnyZone, AnyZone], Way]
Tree = Mapping[AnyZone, AnyZone]


def ways_of(number: int) -> st.SearchStrategy[Ways]:
    """Any price and any round trip for each ordered pair, with many equals among them."""
    pairs = list(itertools.permutations(ZONES[:number], 2))
    way = st.builds(
        Way,
        usd_per_gb=st.sampled_from((0.0, 0.01, 0.02, 0.09)),
        rtt_us=st.sampled_from((300.0, 1000.0, 2000.0, 5000.0, 70_000.0)),
    )
    return st.lists(way, min_size=len(pairs), max_size=len(pairs)).map(
        lambda ways: dict(zip(pairs, ways, strict=True))
    )


def alike() -> dict[tuple[AnyZone, AnyZone], Way]:
    return {pair: Way(usd_per_gb=0.02, rtt_us=1000.0) for pair in itertools.permutations((*ZONES, None), 2)}


def tree(
    ways: Ways, zones: Iterable[AnyZone], *, children_max: int = MANY, settled: Tree | None = None
) -> Tree:
    root, *others = zones
    return spread(
        root, others, lambda one, other: ways[one, other], children_max=children_max, settled=settled
    )


def cost(ways: Ways, parents: Tree) -> tuple[float, float]:
    taken = [ways[parent, zone] for zone, parent in parents.items()]
    return round(sum(way.usd_per_gb for way in taken), 6), sum(round(way.rtt_us / 500) for way in taken)


def depth(parents: Tree, zone: AnyZone) -> int:
    """How many zones are above. Ends only if there is no cycle."""
    above = 0
    while zone in parents:
        zone, above = parents[zone], above + 1
        assert above <= len(parents), "a cycle"
    return above


def all_trees(root: AnyZone, others: list[AnyZone]) -> Iterator[Tree]:
    """Every way to give each zone a parent without a cycle."""
    for choice in itertools.product([root, *others], repeat=len(others)):
        parents = dict(zip(others, choice, strict=True))
        if all(zone != parent for zone, parent in parents.items()) and _reaches(parents, root):
            yield parents


def _reaches(parents: Tree, root: AnyZone) -> bool:
    reached: set[AnyZone] = {root}
    for _ in parents:
        reached |= {zone for zone, parent in parents.items() if parent in reached}
    return len(reached) == len(parents) + 1


@given(ways_of(5))
def test_no_tree_costs_less_by_trying_every_one(ways: Ways) -> None:
    root, *others = ZONES[:5]
    assert cost(ways, tree(ways, ZONES[:5])) == min(cost(ways, one) for one in all_trees(root, others))


@given(ways_of(10))
def test_no_tree_costs_less_by_networkx(ways: Ways) -> None:
    graph: nx.DiGraph[AnyZone] = nx.DiGraph()
    for (one, other), way in ways.items():
        if other != ZONES[0]:
            dollars, steps = round(way.usd_per_gb * 1e6), round(way.rtt_us / 500)
            graph.add_edge(one, other, weight=dollars * 10**6 + steps)
    best = nx.minimum_spanning_arborescence(graph)
    assert cost(ways, tree(ways, ZONES[:10])) == cost(ways, {other: one for one, other in best.edges})


@given(ways_of(7), st.integers(1, 3))
def test_limit_of_children_costs_no_money_and_makes_no_cycle(ways: Ways, children_max: int) -> None:
    bounded, free = tree(ways, ZONES[:7], children_max=children_max), tree(ways, ZONES[:7])
    assert bounded.keys() == free.keys() == {*ZONES[1:7]}
    assert all(depth(bounded, zone) for zone in bounded)
    assert cost(ways, bounded)[0] == cost(ways, free)[0]


@given(st.integers(2, 12), st.integers(1, 4))
def test_no_zone_feeds_more_than_its_limit_where_all_prices_are_equal(number: int, children_max: int) -> None:
    parents = tree(alike(), ZONES[:number], children_max=children_max)
    assert max(list(parents.values()).count(zone) for zone in ZONES[:number]) <= children_max


def test_limit_of_children_makes_a_shallow_tree() -> None:
    parents = tree(alike(), ZONES, children_max=3)
    assert max(depth(parents, zone) for zone in parents) == 2  # 3 + 8 of at most 9


def test_price_counts_before_the_limit_of_children() -> None:
    dear = Way(usd_per_gb=0.09, rtt_us=300.0)
    ways = {pair: way if pair[0] == ZONES[0] else dear for pair, way in alike().items()}
    assert set(tree(ways, ZONES[:6], children_max=2).values()) == {ZONES[0]}


@given(ways_of(6), st.permutations(ZONES[1:6]), st.integers(1, 3))
def test_tree_is_the_same_in_whatever_order_the_zones_come(
    ways: Ways, others: list[AnyZone], children_max: int
) -> None:
    one = tree(ways, ZONES[:6], children_max=children_max)
    assert one == tree(ways, [ZONES[0], *others, *others], children_max=children_max)
    assert list(one) == list(tree(ways, [ZONES[0], *others], children_max=children_max))


@given(ways_of(8), st.integers(1, 3))
def test_parents_that_were_told_stay_when_more_zones_ask(ways: Ways, children_max: int) -> None:
    first = tree(ways, ZONES[:5], children_max=children_max)
    more = tree(ways, ZONES[:8], children_max=children_max, settled=first)
    assert more.keys() == {*ZONES[1:8]}
    assert {zone: more[zone] for zone in first} == first
    assert all(depth(more, zone) for zone in more)


def test_zones_below_one_that_is_gone_get_another_parent() -> None:
    a, b, c, d = ZONES[:4]
    parents = tree(alike(), (a, c, d), settled={b: a, c: b, d: c})
    assert parents == {c: a, d: a}


def test_parents_that_lead_in_a_circle_are_not_kept() -> None:
    a, b, c = ZONES[:3]
    assert tree(alike(), (a, b, c), settled={b: c, c: b}) == {b: a, c: a}


def test_money_counts_before_round_trips() -> None:
    a, b, c = ZONES[:3]
    ways = alike() | {
        (a, c): Way(usd_per_gb=0.09, rtt_us=300.0),
        (b, c): Way(usd_per_gb=0.02, rtt_us=90_000.0),
    }
    assert tree(ways, (a, b, c)) == {b: a, c: b}


def test_far_region_is_reached_once() -> None:
    def way(one: AnyZone, other: AnyZone) -> Way:
        near = str(one)[0] == str(other)[0]
        return Way(
            usd_per_gb=Prices(cross_region=0.05).usd_per_gb(one, other), rtt_us=1000.0 if near else 70_000.0
        )

    parents = spread(ZONES[0], ZONES, way, children_max=3)
    crossing = [zone for zone, parent in parents.items() if zone and parent and zone.region != parent.region]
    assert len(crossing) == 2  # regions q and r
    assert len(parents) == 11


def test_difference_that_is_noise_makes_no_chain() -> None:
    ways = {pair: Way(usd_per_gb=0.02, rtt_us=800.0 + 20 * number) for number, pair in enumerate(alike())}
    ways = {pair: Way(usd_per_gb=0.02, rtt_us=min(1100.0, way.rtt_us)) for pair, way in ways.items()}
    assert set(tree(ways, ZONES[:4], children_max=3).values()) == {ZONES[0]}


def test_nodes_without_a_zone_are_one_zone_of_the_tree() -> None:
    parents = tree(alike(), (ZONES[0], None, ZONES[1]))
    assert parents == {None: ZONES[0], ZONES[1]: ZONES[0]}
    assert tree(alike(), (None, ZONES[0])) == {ZONES[0]: None}


@pytest.mark.parametrize("zones", [[], [ZONES[0]]], ids=["none", "only the root"])
def test_root_alone_has_no_tree(zones: list[AnyZone]) -> None:
    assert spread(ZONES[0], zones, lambda one, other: alike()[one, other], children_max=3) == {}


def test_each_pair_of_zones_is_looked_at_once() -> None:
    zones: list[AnyZone] = [zone_key(f"r{number % 4}/z{number}") for number in range(64)]
    asked: list[tuple[AnyZone, AnyZone]] = []

    def way(one: AnyZone, other: AnyZone) -> Way:
        asked.append((one, other))
        return Way(usd_per_gb=0.02, rtt_us=1000.0 * (1 + len(asked) % 7))

    parents = spread(zones[0], zones, way, children_max=3)
    assert len(parents) == 63
    assert len(asked) == len(set(asked)) == 63 * 63
