"""Whom to measure: some of every zone, within each limit, everybody in turn, every node others."""

import itertools
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.twins import node, zone_key
from topology.measuring import MeasureLimits, choose_measured, measuring_bytes_per_s
from topology.placement import NodeName, ZoneKey

OWN = node("own")
HERE = zone_key("r/here")
LIMITS = st.builds(
    MeasureLimits, own_zone=st.integers(0, 40), other_zones=st.integers(0, 6), total=st.integers(0, 60)
)
Zones = Mapping[ZoneKey | None, Sequence[NodeName]]


def zones_of(here: int, others: int, each: int) -> dict[ZoneKey | None, list[NodeName]]:
    zones: dict[ZoneKey | None, list[NodeName]] = {HERE: [node(f"here-{n}") for n in range(here)]}
    for zone in range(others):
        zones[zone_key(f"r/z{zone}")] = [node(f"z{zone}-{n}") for n in range(each)]
    return zones


def chosen(
    zones: Zones,
    turn: int = 0,
    limits: MeasureLimits | None = None,
    *,
    own: NodeName = OWN,
    own_zone: ZoneKey | None = HERE,
) -> tuple[NodeName, ...]:
    return choose_measured(zones, own=own, own_zone=own_zone, limits=limits or MeasureLimits(), turn=turn)


def turns_until_all(zones: Zones, most: int, limits: MeasureLimits | None = None) -> int:
    """In how many turns everybody was measured."""
    missing = {name for members in zones.values() for name in members}
    for turn in range(most):
        missing -= set(chosen(zones, turn, limits))
        if not missing:
            return turn + 1
    raise AssertionError(f"{len(missing)} were never measured, such as {sorted(missing)[:3]}")


def test_every_zone_is_measured_however_large_the_cluster_is() -> None:
    zones = zones_of(here=500, others=20, each=450)
    picked = set(chosen(zones))
    assert all(picked & set(members) for members in zones.values())
    assert len(picked) == 32 + 20 * 3


def test_small_cluster_is_measured_whole() -> None:
    zones = zones_of(here=5, others=3, each=3)
    assert set(chosen(zones)) == {name for members in zones.values() for name in members}


@given(
    here=st.integers(0, 40),
    others=st.integers(0, 12),
    each=st.integers(0, 12),
    limits=LIMITS,
    turn=st.integers(0, 10**9),
)
def test_no_limit_is_exceeded_and_nobody_is_there_twice(
    here: int, others: int, each: int, limits: MeasureLimits, turn: int
) -> None:
    zones = zones_of(here, others, each)
    picked = chosen(zones, turn, limits)
    assert len(set(picked)) == len(picked) <= limits.total
    assert len(set(picked) & set(zones[HERE])) <= limits.own_zone
    for zone in zones.keys() - {HERE}:
        assert len(set(picked) & set(zones[zone])) <= limits.other_zones


def test_everybody_has_a_turn() -> None:
    assert turns_until_all(zones_of(here=300, others=4, each=100), most=120) <= 120


@pytest.mark.parametrize("each", [5, 6, 7, 8, 9, 12, 16])
@pytest.mark.parametrize("others", [5, 6, 7, 8, 12])
def test_everybody_has_a_turn_when_zones_take_turns_as_well(others: int, each: int) -> None:
    zones = zones_of(here=1, others=others, each=each)
    limits = MeasureLimits(own_zone=1, other_zones=3, total=1 + 3 * 4)
    turns_until_all(zones, 4 * others * each, limits)


def test_other_zones_are_measured_even_if_the_own_one_could_take_all_connections() -> None:
    zones = zones_of(here=40, others=2, each=40)
    turns = (chosen(zones, turn, MeasureLimits(total=32)) for turn in range(100))
    picked = set(itertools.chain.from_iterable(turns))
    assert picked & set(zones[zone_key("r/z0")])
    assert picked & set(zones[zone_key("r/z1")])


def test_a_quarter_is_exchanged_in_each_turn() -> None:
    zones = zones_of(here=200, others=0, each=0)
    one, other = set(chosen(zones, 5)), set(chosen(zones, 6))
    assert len(one - other) == 8


def test_same_nodes_and_turn_give_the_same_choice_in_whatever_order_they_come() -> None:
    zones = zones_of(here=100, others=9, each=30)
    dice = random.Random(1)
    for turn in range(5):
        shuffled = [(zone, dice.sample(members, len(members))) for zone, members in zones.items()]
        dice.shuffle(shuffled)
        limits = MeasureLimits(own_zone=8, other_zones=2, total=18)
        assert chosen(zones, turn, limits) == chosen(dict(shuffled), turn, limits)


def test_different_nodes_measure_different_peers() -> None:
    zones = zones_of(here=0, others=1, each=100)
    picked = [frozenset(chosen(zones, own=node(f"n{number}"))) for number in range(200)]
    assert len(set(picked)) > 150
    assert len(frozenset().union(*picked)) > 90


def test_peers_without_a_zone_are_measured_too() -> None:
    zones: dict[ZoneKey | None, list[NodeName]] = {HERE: [node("a")], None: [node("lost")]}
    assert set(chosen(zones)) == {"a", "lost"}


def test_node_without_a_zone_measures_every_zone_and_those_like_it() -> None:
    zones: dict[ZoneKey | None, list[NodeName]] = {**zones_of(5, 3, 10), None: [node("lost")]}
    picked = set(chosen(zones, own_zone=None))
    assert all(picked & set(members) for members in zones.values())


def test_nobody_there_is_nobody_chosen() -> None:
    assert chosen({}) == ()
    assert chosen({HERE: []}) == ()


def test_bandwidth_grows_with_connections_and_shrinks_with_the_intervals() -> None:
    def bytes_per_s(connections: int, interval_s: float) -> float:
        return measuring_bytes_per_s(connections, interval_s=interval_s, report_s=15, rotate_s=30, zones=3)

    assert bytes_per_s(0, 2) == 0
    assert 0 < bytes_per_s(10, 2) < bytes_per_s(20, 2)
    assert bytes_per_s(10, 4) < bytes_per_s(10, 2)
