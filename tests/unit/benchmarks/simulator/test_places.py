"""What the nodes of a rack share is what each of them would see by itself."""

import pytest

from benchmarks.simulator.places import Places
from benchmarks.simulator.scenario import PRODUCT, Image, Scenario, Start, ZonePlan
from benchmarks.simulator.world import World
from topology.cluster import ClusterTopology
from topology.placement import Tier
from topology.ranking import rank

SCENARIO = Scenario(
    zones=(
        ZonePlan(name="a", nodes=6, racks=2),
        ZonePlan(name="b", nodes=4),
        ZonePlan(name="c", nodes=3, region="far"),
    ),
    images=(Image(name="app", layer_sizes=(1 << 20,)),),
    starts=(Start(nodes=range(13)),),
)


@pytest.fixture
def places() -> Places:
    return Places(SCENARIO)


@pytest.mark.parametrize("number", range(13))
def test_tiers_and_ranking_are_those_of_a_topology_of_its_own(places: Places, number: int) -> None:
    seen = places.seen_by(number)
    own = ClusterTopology(own=places.names[number], placement=places.placements[number])
    others = {name: places.placements[place] for place, name in enumerate(places.names) if place != number}
    alone = own.update(others, 0.0)
    for name in others:
        assert seen.tier(name) is alone.tier(name)
        assert seen.zone_of(name) == alone.zone_of(name)
    assert seen.zone_of(seen.own) == alone.zone_of(seen.own)
    ranked = [one.tier for one in rank(others, seen, digest="sha256:x")]
    assert ranked == sorted(ranked)
    assert ranked == [one.tier for one in rank(others, alone, digest="sha256:x")]


def test_nodes_of_a_rack_choose_different_ones_of_equals(places: Places) -> None:
    first = {
        rank(places.names[6:10], places.seen_by(number), digest="sha256:x")[0].node for number in range(6)
    }
    assert len(first) > 1


def test_round_trips_are_known_by_zone_and_the_same_both_ways(places: Places) -> None:
    assert places.rtt_s(0, 7) == places.rtt_s(7, 0)
    assert places.rtt_s(0, 1) < places.rtt_s(0, 7) < places.rtt_s(0, 12)
    standing = places.seen_by(0).standings[places.names[7]]
    assert standing.tier is Tier.REGION
    assert standing.cost_us == pytest.approx(SCENARIO.links.region_rtt_s * 1e6)


def test_a_node_that_is_replaced_is_known_by_its_new_name_once_all_know_it() -> None:
    world = World(SCENARIO, PRODUCT)
    places, old = world.places, world.places.names[3]
    new = places.rename(3)
    assert places.seen_by(0).zone_of(new) is None
    places.change(gone=[old], come=[new])
    assert places.seen_by(0).zone_of(old) is None
    assert places.seen_by(0).zone_of(new) == places.zone_keys[0]
    world.loop.close()
