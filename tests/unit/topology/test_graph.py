"""The graph: what a round trip costs where it was measured, where parts of the way were, and where none."""

import itertools
import random

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.twins import located, node, zone_key
from topology.graph import TopologyGraph
from topology.placement import Tier, ZoneKey
from topology.snapshot import PRIORS_US, Source

A, B, C, D = (zone_key(f"r/{name}") for name in "abcd")
FAR = zone_key("q/x")


def graph_of(*zones: ZoneKey) -> TopologyGraph:
    """One node in each zone, named like it."""
    graph = TopologyGraph()
    for zone in zones:
        graph.place(node(str(zone)), located(zone.region, zone.zone).path)
    return graph


def cost(graph: TopologyGraph, one: ZoneKey, other: ZoneKey) -> tuple[float, Source]:
    return graph.zone_costs(one, [other])[other]


def test_nothing_measured_costs_what_is_typical_of_the_level() -> None:
    graph = graph_of(A, B, FAR)
    assert cost(graph, A, A) == (PRIORS_US[Tier.ZONE], Source.PRIOR)
    assert cost(graph, A, B)[0] == pytest.approx(PRIORS_US[Tier.REGION])
    assert cost(graph, A, B)[1] is Source.PRIOR
    assert cost(graph, A, FAR)[0] == pytest.approx(PRIORS_US[Tier.REMOTE])
    assert cost(graph, A, FAR)[1] is Source.PRIOR


def test_measured_pair_costs_what_was_measured_in_both_directions() -> None:
    graph = graph_of(A, B)
    graph.join_zones(A, B, 1234.0)
    assert cost(graph, A, B) == cost(graph, B, A) == (1234.0, Source.ZONE_PAIR)


def test_measured_pair_beats_a_shorter_detour() -> None:
    graph = graph_of(A, B, C)
    graph.join_zones(A, B, 5000.0)
    graph.join_zones(A, C, 700.0)
    graph.join_zones(C, B, 700.0)
    assert cost(graph, A, B) == (5000.0, Source.ZONE_PAIR)


def test_shortest_path_over_measured_pairs_beats_the_prior() -> None:
    graph = graph_of(A, FAR, C)
    graph.join_zones(A, C, 800.0)
    graph.join_zones(C, FAR, 5000.0)
    rtt_us, source = cost(graph, A, FAR)
    assert source is Source.PATH
    assert rtt_us == pytest.approx(5800.0, rel=0.1)


def test_step_that_was_measured_is_not_undercut_by_a_guess_on_a_longer_way() -> None:
    graph = graph_of(A, FAR, C)
    graph.join_zones(A, C, 4000.0)
    graph.join_zones(C, FAR, 5000.0)
    assert cost(graph, A, FAR)[0] == pytest.approx(9000.0, rel=0.1)


def test_zone_pair_that_was_not_measured_costs_the_median_of_its_region() -> None:
    graph = graph_of(A, B, C)
    graph.set_region_costs({frozenset({"r"}): 2000.0})
    assert cost(graph, A, C)[0] == pytest.approx(2000.0, rel=0.01)
    graph.set_region_costs({})
    assert cost(graph, A, C)[0] == pytest.approx(PRIORS_US[Tier.REGION])


def test_pair_that_is_not_known_any_more_costs_the_prior_again() -> None:
    graph = graph_of(A, B)
    graph.join_zones(A, B, 5000.0)
    graph.join_zones(A, A, 100.0)
    graph.join_zones(A, B, None)
    graph.join_zones(A, A, None)
    graph.join_zones(A, A, None)
    assert cost(graph, A, B)[0] == pytest.approx(PRIORS_US[Tier.REGION])
    assert cost(graph, A, B)[1] is Source.PRIOR
    assert cost(graph, A, A)[0] == PRIORS_US[Tier.ZONE]


def test_zone_that_is_not_there_has_no_cost_and_joining_it_does_nothing() -> None:
    graph = graph_of(A)
    graph.join_zones(A, B, 100.0)
    assert graph.zone_costs(A, [A, B]).keys() == {A}
    assert graph.zone_costs(B, [A]) == {}


def test_zones_of_one_name_in_two_regions_are_two() -> None:
    one, other = zone_key("eu/1"), zone_key("us/1")
    graph = graph_of(one, other)
    graph.join_zones(one, one, 100.0)
    assert cost(graph, other, other)[0] == PRIORS_US[Tier.ZONE]
    assert cost(graph, one, other)[0] == pytest.approx(PRIORS_US[Tier.REMOTE], rel=0.1)


def test_measured_latency_between_two_nodes_beats_all_else() -> None:
    graph = graph_of(A, B)
    graph.join_zones(A, B, 900.0)
    graph.measure(node("r/a"), node("r/b"), 777.0)
    assert graph.cost_us(node("r/a"), node("r/b")) == 777.0
    graph.measure(node("r/a"), node("r/b"), None)
    assert graph.cost_us(node("r/a"), node("r/b")) == 900.0


def test_no_path_leads_through_a_node() -> None:
    graph = graph_of(A, FAR)
    for end in ("r/a", "q/x"):
        graph.measure(node("middle"), node(end), 1.0)
    assert cost(graph, A, FAR)[0] == pytest.approx(PRIORS_US[Tier.REMOTE])


def test_node_without_a_zone_is_as_far_as_another_region() -> None:
    graph = graph_of(A)
    graph.place(node("lost"), ())
    assert graph.cost_us(node("r/a"), node("lost")) == PRIORS_US[Tier.REMOTE]
    assert graph.cost_us(node("lost"), node("lost")) == 0.0


def test_node_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        graph_of(A).cost_us(node("r/a"), node("stranger"))
    with pytest.raises(KeyError):
        graph_of(A).path(node("stranger"))


def test_last_node_of_a_zone_takes_the_zone_and_its_measurements_with_it() -> None:
    graph = graph_of(A, B, FAR)
    graph.join_zones(A, B, 1.0)
    graph.join_zones(B, B, 5.0)
    graph.remove(node("r/b"))
    graph.remove(node("q/x"))
    graph.remove(node("stranger"))
    assert sorted(map(str, graph.graph)) == sorted(map(str, graph_of(A).graph))
    graph.place(node("r/b"), located("r", "b").path)
    assert cost(graph, A, B)[1] is Source.PRIOR
    assert cost(graph, B, B)[0] == PRIORS_US[Tier.ZONE]


PATHS = st.builds(
    lambda region, zone, finer: located(region, zone, *finer).path,
    st.sampled_from((None, "r", "q")),
    st.sampled_from((None, "a", "b")),
    st.lists(st.tuples(st.just("rack"), st.sampled_from("12")), max_size=1),
)


@given(
    steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | PATHS), max_size=30),
)
def test_graph_changed_in_place_is_the_one_built_from_scratch(
    steps: list[tuple[str, tuple[tuple[str, str], ...] | None]],
) -> None:
    graph = TopologyGraph()
    final: dict[str, tuple[tuple[str, str], ...]] = {}
    for name, path in steps:
        if path is None:
            graph.remove(node(name))
            final.pop(name, None)
        else:
            graph.place(node(name), path)
            final[name] = path
    fresh = TopologyGraph()
    for name, path in final.items():
        fresh.place(node(name), path)
    assert nx.utils.graphs_equal(graph.graph, fresh.graph)
    assert nx.is_tree(graph.graph)


def test_every_cost_is_finite_positive_and_symmetric_in_any_graph_of_zones() -> None:
    dice = random.Random(7)
    for _ in range(40):
        zones = [
            zone_key(f"r{dice.randint(0, 2)}/z{number}" if dice.random() < 0.8 else f"z{number}")
            for number in range(dice.randint(1, 8))
        ]
        graph = graph_of(*zones)
        for one in zones:
            for other in zones:
                if dice.random() < 0.4:
                    graph.join_zones(one, other, 10 ** dice.uniform(0, 7))
        pairs = [frozenset(pair) for pair in itertools.product(("r0", "r1", None), repeat=2)]
        graph.set_region_costs({pair: 10 ** dice.uniform(0, 7) for pair in pairs if dice.random() < 0.5})
        for one in zones:
            costs = graph.zone_costs(one, zones)
            assert costs.keys() == set(zones)
            for other, (rtt_us, _) in costs.items():
                assert 1 <= rtt_us < 1e8
                assert rtt_us == pytest.approx(graph.zone_costs(other, zones)[one][0])
