"""Placements: how far apart two nodes are by their labels alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.twins import located, zone_key
from topology.placement import Placement, Tier, relation, shared_steps

VALUE = st.none() | st.sampled_from(("1", "2", "x=1"))
FINER = st.lists(st.tuples(st.sampled_from(("row", "rack")), st.sampled_from(("1", "2"))), max_size=3)
PLACEMENTS = st.builds(lambda region, zone, finer: located(region, zone, *finer), VALUE, VALUE, FINER)
K, L = ("rack", "k"), ("rack", "l")


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (located("r", "z", K), located("r", "z", K), Tier.RACK),
        (located("r", "z", K), located("r", "z", L), Tier.ZONE),
        (located("r", "z", K), located("r", "y", K), Tier.REGION),
        (located("r", "z", K), located("q", "z", K), Tier.REMOTE),
        (located("r", "z"), located("r", "z"), Tier.ZONE),
        (located("r"), located("r"), Tier.REGION),
        (located(), located(), Tier.REMOTE),
        (located("r", "z", K), located("r", "z"), Tier.ZONE),
        (located("r", "z"), located("r"), Tier.REGION),
        (located("r", "z"), located(), Tier.REMOTE),
    ],
)
def test_tier_is_the_nearest_level_that_both_share(own: Placement, other: Placement, expected: Tier) -> None:
    assert relation(own.path, other.path)[0] is expected
    assert relation(other.path, own.path)[0] is expected


def test_zone_is_shared_where_no_node_has_a_region_label() -> None:
    assert relation(located(None, "z").path, located(None, "z").path)[0] is Tier.ZONE


def test_node_without_a_level_is_not_the_neighbour_of_one_that_has_it() -> None:
    assert relation(located(None, "z").path, located("r", "z").path)[0] is Tier.REMOTE


def test_every_finer_level_in_common_counts_however_deep() -> None:
    deep = [("layer", str(number)) for number in range(12)]
    own = located("r", "z", *deep)
    for depth in range(1, 13):
        other = located("r", "z", *deep[:depth], ("end", "x"))
        assert relation(own.path, other.path) == (Tier.RACK, 2 + depth)


def test_equal_values_of_different_levels_are_not_shared() -> None:
    assert shared_steps((("region", "a"),), (("zone", "a"),)) == 0


def test_tiers_are_ordered_nearest_first() -> None:
    assert [each.label for each in sorted(Tier)] == ["node", "rack", "zone", "region", "remote"]


def test_zone_is_named_within_its_region() -> None:
    assert located("r", "z").zone_key == zone_key("r/z")
    assert str(zone_key("r/z")) == "r/z"
    assert str(zone_key("z")) == "z"
    assert located("r").zone_key is None


@given(a=PLACEMENTS, b=PLACEMENTS, c=PLACEMENTS)
def test_relation_is_symmetric_and_a_third_node_is_no_short_cut(
    a: Placement, b: Placement, c: Placement
) -> None:
    assert relation(a.path, b.path) == relation(b.path, a.path)
    assert relation(a.path, b.path)[1] >= min(relation(a.path, c.path)[1], relation(c.path, b.path)[1])
    assert relation(a.path, b.path)[0] is not Tier.NODE
