"""Bitmaps of holders: the bits of Redis, the groups of equally near members, the nearest few of thousands."""

import random
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.holders.bitmap import (
    BITMAP_BYTES_MAX,
    Masks,
    Part,
    bits_of,
    masks_of,
    nearest,
    nearest_of_each,
    numbers_of,
    value_of,
)
from tests.unit.topology.clusters import cluster, measure, three_zones
from tests.unit.twins import located, node
from topology.cluster import ClusterTopology
from topology.placement import NodeName
from topology.ranking import rank

DIGEST = "sha256:" + "a" * 64


def masks(topology: ClusterTopology, *, own: int | None = None) -> tuple[Masks, dict[NodeName, int]]:
    """The masks with the members numbered in the order of their names."""
    snapshot = topology.refresh(5.0)
    names = sorted(name for name in snapshot.standings if name != snapshot.own)
    numbers = {name: number for number, name in enumerate(names)}
    if own is not None:
        numbers[snapshot.own] = own
    return masks_of(numbers, snapshot), numbers


def bits(numbers: dict[NodeName, int], *names: str) -> int:
    return sum(1 << numbers[node(name)] for name in names)


def found(masks: Masks, holders: int, at_most: int = 64) -> set[str]:
    return {*nearest(holders, masks, at_most=at_most, lots=masks.lots(DIGEST))}


def wide(zones: int = 5, per_zone: int = 100) -> ClusterTopology:
    return cluster(
        **{
            f"{chr(97 + zone)}{number}": located("r" if zone < 3 else "q", chr(97 + zone))
            for zone in range(zones)
            for number in range(per_zone)
        }
    )


def test_bit_0_is_the_most_significant_one_of_byte_0_as_in_redis() -> None:
    assert bits_of(b"\x80") == 1
    assert bits_of(b"\x01") == 1 << 7
    assert bits_of(b"\0\x40") == 1 << 9
    assert bits_of(b"") == 0


@given(st.sets(st.integers(0, 9000), max_size=50))
def test_a_value_has_the_numbers_that_it_was_made_of(numbers: set[int]) -> None:
    assert {*numbers_of(bits_of(value_of(numbers)))} == numbers


@given(st.binary(max_size=100), st.integers(0, 20))
def test_zeros_at_the_end_of_a_value_mean_nothing(value: bytes, zeros: int) -> None:
    assert bits_of(value) == bits_of(value + b"\0" * zeros)


def test_a_value_longer_than_any_bitmap_is_refused() -> None:
    assert bits_of(b"\xff" * BITMAP_BYTES_MAX).bit_count() == 8 * BITMAP_BYTES_MAX
    with pytest.raises(ValueError, match="the most"):
        bits_of(b"\0" * (BITMAP_BYTES_MAX + 1))


def test_a_holder_in_the_own_zone_hides_those_in_other_zones() -> None:
    some, numbers = masks(three_zones())
    assert found(some, bits(numbers, "a1", "b1", "b2", "c1")) == {"a1"}
    assert found(some, bits(numbers, "b1", "b2", "c1")) == {"b1", "b2", "c1"}


def test_a_holder_in_the_region_hides_those_in_other_regions() -> None:
    some, numbers = masks(cluster(b=located("r", "b"), x=located("q", "x")))
    assert found(some, bits(numbers, "b", "x")) == {"b"}
    assert found(some, bits(numbers, "x")) == {"x"}


def test_all_members_of_the_own_zone_are_equally_well_found_whatever_rack_they_are_in() -> None:
    some, numbers = masks(
        cluster(
            located("r", "a", ("rack", "1")), near=located("r", "a", ("rack", "1")), zone=located("r", "a")
        )
    )
    assert found(some, bits(numbers, "near", "zone")) == {"near", "zone"}


def test_bits_of_numbers_that_nobody_has_mean_nothing() -> None:
    some, numbers = masks(three_zones())
    assert found(some, 1 << 77_000 | bits(numbers, "c1") | 1 << 50) == {"c1"}
    assert found(some, 1 << 77_000) == set()


def test_who_is_not_a_member_has_no_bit() -> None:
    topology = three_zones()
    _, numbers = masks(topology)
    numbers[node("gone")] = 40
    some = masks_of(numbers, topology.refresh(5.0))
    assert 40 not in some.names
    assert found(some, 1 << 40) == set()


def test_this_node_is_never_found() -> None:
    some, numbers = masks(three_zones(), own=30)
    assert found(some, 1 << 30 | bits(numbers, "a1")) == {"a1"}
    assert not some.known >> 30 & 1


def test_no_more_are_found_than_asked_for_and_the_nearest_are_among_them() -> None:
    topology = wide()
    measure(topology, "a7", 20.0)
    for number in (1, 2, 3):
        measure(topology, f"a{number}", 300.0)
    some, _ = masks(topology)
    everybody = some.known
    names = nearest(everybody, some, at_most=10, lots=some.lots(DIGEST))
    assert len(names) == len({*names}) == 10
    assert "a7" in names
    assert all(name.startswith("a") for name in names)


def test_with_enough_room_all_holders_are_found() -> None:
    some, numbers = masks(wide())
    holders = bits(numbers, *(f"a{number}" for number in range(0, 100, 3)))
    assert len(found(some, holders)) == 34


def test_the_nodes_of_a_zone_do_not_all_find_the_same_few_in_it() -> None:
    some, _ = masks(wide(1, 400))
    counted: Counter[str] = Counter()
    for number in range(400):
        lots = replace(some, own=node(f"n{number}")).lots(DIGEST)
        counted.update(nearest(some.known, some, at_most=16, lots=lots))
    assert len(counted) == 400
    assert max(counted.values()) < 5 * 16


def test_the_nodes_of_a_zone_all_find_the_same_few_in_other_zones() -> None:
    some, _ = masks(wide())
    far = some.part(Part.REMOTE)
    found = {
        frozenset(
            nearest(
                far,
                some,
                at_most=8,
                lots=replace(some, own=node(f"n{number}")).lots(DIGEST),
            )
        )
        for number in range(20)
    }
    assert len(found) == 1


def test_without_zones_each_node_finds_others() -> None:
    some, _ = masks(cluster(located(), **{f"n{number}": located() for number in range(300)}))
    found = {
        frozenset(
            nearest(some.known, some, at_most=8, lots=replace(some, own=node(f"n{number}")).lots(DIGEST))
        )
        for number in range(20)
    }
    assert len(found) > 15


def test_the_nearest_of_each_part_are_found_so_that_a_busy_zone_can_spill_over() -> None:
    some, _ = masks(wide())
    names = nearest_of_each(some.known, some, at_most=4, lots=some.lots(DIGEST))
    zones = Counter("own" if name[0] == "a" else "region" if name[0] in "bc" else "remote" for name in names)
    assert zones == {"own": 4, "region": 4, "remote": 4}


@given(st.sets(st.integers(0, 499), max_size=60), st.integers(0, 1000))
def test_the_best_of_all_holders_of_the_nearest_part_is_found(chosen: set[int], salt: int) -> None:
    topology, some = _measured()
    holders = sum(1 << number for number in chosen)
    names = nearest(holders, some, at_most=64, lots=some.lots(f"{DIGEST}{salt}"))
    best = rank([some.names[number] for number in chosen], topology.refresh(5.0), digest=DIGEST, limit=1)
    assert {each.node for each in best} <= {*names}


@cache
def _measured() -> tuple[ClusterTopology, Masks]:
    topology = wide()
    chance = random.Random(1)
    for number in range(0, 100, 5):
        measure(topology, f"a{number}", chance.uniform(50, 3000))
    return topology, masks(topology)[0]
