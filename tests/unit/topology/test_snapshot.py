"""Snapshots: the numbers that stand for tier and cost, and what is said of nodes that are not there."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.twins import located, node
from topology.cluster import ClusterTopology
from topology.placement import Placement, Tier, relation
from topology.snapshot import SEED_BITS, TIER_WIDTH, cost_steps, seed_of, tier_key


def key(own: Placement, other: Placement, cost_us: float) -> int:
    tier, shared = relation(own.path, other.path)
    return tier_key(tier, other.path, shared) + cost_steps(cost_us)


DEEP = [("layer", str(number)) for number in range(40)]


def test_tier_comes_before_any_cost_and_a_deeper_level_before_a_wider_one() -> None:
    own = located("r", "z", ("row", "1"), ("rack", "1"))
    others = [
        located("r", "z", ("row", "1"), ("rack", "1")),
        located("r", "z", ("row", "1"), ("rack", "2")),
        located("r", "z", ("row", "2")),
        located("r", "y"),
        located("q", "z"),
    ]
    dearest_first = [key(own, other, 10.0 ** (8 - number)) for number, other in enumerate(others)]
    assert dearest_first == sorted(dearest_first)
    assert len(set(dearest_first)) == len(others)


@pytest.mark.parametrize("depth", [1, 30, 31, 40])
def test_no_depth_mixes_up_the_tiers(depth: int) -> None:
    own = located("r", "z", *DEEP[:depth])
    assert key(own, own, 0.0) // TIER_WIDTH >= 0
    assert tier_key(Tier.NODE, (), 0) + cost_steps(0.0) < key(own, own, 0.0)
    assert key(own, own, 1e9) < key(own, located("r", "z"), 0.0)


@given(a=st.floats(0, 1e9), b=st.floats(0, 1e9))
def test_greater_cost_is_never_fewer_steps(a: float, b: float) -> None:
    assert (a <= b) <= (cost_steps(a) <= cost_steps(b))
    assert 0 <= cost_steps(a) < TIER_WIDTH


def test_steps_are_finer_than_any_measurement() -> None:
    assert cost_steps(300.0) < cost_steps(310.0)


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_seed_is_odd_of_30_bits_and_the_same_everywhere(text: str) -> None:
    assert seed_of(text) % 2 == 1
    assert 0 < seed_of(text) < 1 << 30
    assert seed_of(text) == seed_of(str(text))


def test_seeds_are_spread_evenly() -> None:
    highs = [seed_of(f"node-{number}") >> 26 for number in range(8000)]
    expected = 8000 / 16
    chi_square = sum((highs.count(each) - expected) ** 2 / expected for each in range(16))
    assert chi_square < 15 + 6 * math.sqrt(30)


def test_node_that_is_not_there_is_remote_and_behind_everybody() -> None:
    topology = ClusterTopology(own=node("own"), placement=located("r", "z"))
    topology.update({node("far"): located("q", "x")}, 0.0)
    topology.sample(node("far"), 1e7, 1.0)
    snapshot = topology.refresh(1.0)
    assert snapshot.tier(node("stranger")) is Tier.REMOTE
    assert snapshot.key(node("stranger")) > snapshot.key(node("far"))
    assert snapshot.zone_of(node("stranger")) is None
    assert snapshot.key(node("stranger")) % (1 << SEED_BITS) == seed_of("stranger")


def test_seed_in_the_table_is_that_of_the_name() -> None:
    topology = ClusterTopology(own=node("own"), placement=located("r", "z"))
    snapshot = topology.update({node("a"): located("r", "z")}, 0.0)
    seeds = {name: key % (1 << SEED_BITS) for name, key in snapshot.keys.items()}
    assert seeds == {name: seed_of(name) for name in snapshot.standings}
