"""Votes for round trips between zones: medians that no single node moves, bounded and forgotten in time."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.twins import node, zone_key
from topology.placement import ZoneKey
from topology.zones import ZoneMatrix

A, B, C = zone_key("r/a"), zone_key("r/b"), zone_key("r/c")


def test_round_trip_has_no_direction() -> None:
    matrix = ZoneMatrix(ttl_s=60)
    matrix.vote(node("1"), A, B, 900.0, 0.0)
    assert matrix.rtt_us(A, B) == matrix.rtt_us(B, A) == 900.0
    assert matrix.rtt_us(A, C) is None


def test_inside_of_a_zone_is_a_pair_of_its_own() -> None:
    matrix = ZoneMatrix(ttl_s=60)
    matrix.vote(node("1"), A, A, 300.0, 0.0)
    assert matrix.rtt_us(A, A) == 300.0
    assert matrix.rtt_us(A, B) is None


@pytest.mark.parametrize("lie_us", [0.0, 1.0, 1e7, 1e300])
def test_one_liar_among_several_does_not_move_the_median(lie_us: float) -> None:
    matrix = ZoneMatrix(ttl_s=60)
    for number, rtt_us in enumerate((880.0, 900.0, 920.0, 910.0)):
        matrix.vote(node(str(number)), A, B, rtt_us, 0.0)
    for _ in range(100):
        matrix.vote(node("liar"), A, B, lie_us, 0.0)
    median = matrix.rtt_us(A, B)
    assert median is not None
    assert 880 <= median <= 920


def test_newer_word_of_a_node_replaces_its_older_one() -> None:
    matrix = ZoneMatrix(ttl_s=60)
    matrix.vote(node("1"), A, B, 100.0, 0.0)
    matrix.vote(node("1"), B, A, 900.0, 1.0)
    assert matrix.rtt_us(A, B) == 900.0
    assert matrix.vote_us(node("1"), A, B) == 900.0


@pytest.mark.parametrize("rtt_us", [math.nan, math.inf, -math.inf, -1.0])
def test_value_that_is_no_time_is_not_taken(rtt_us: float) -> None:
    matrix = ZoneMatrix(ttl_s=60)
    matrix.vote(node("1"), A, B, rtt_us, 0.0)
    assert matrix.rtt_us(A, B) is None
    assert list(matrix.pairs()) == []


def test_absurd_value_is_clamped() -> None:
    matrix = ZoneMatrix(ttl_s=60)
    matrix.vote(node("1"), A, B, 1e12, 0.0)
    assert matrix.rtt_us(A, B) == 1e7


def test_votes_are_forgotten_after_their_time_and_the_pair_is_among_the_changed() -> None:
    matrix = ZoneMatrix(ttl_s=60)
    matrix.vote(node("1"), A, B, 900.0, 0.0)
    matrix.vote(node("2"), A, B, 1100.0, 50.0)
    matrix.take_changed()
    matrix.expire(60.0)
    assert matrix.rtt_us(A, B) in (900.0, 1000.0)
    assert matrix.take_changed() == set()
    matrix.expire(61.0)
    assert (matrix.rtt_us(A, B), matrix.take_changed()) == (1100.0, {frozenset((A, B))})
    matrix.expire(111.0)
    assert (matrix.rtt_us(A, B), matrix.take_changed()) == (None, {frozenset((A, B))})
    assert list(matrix.pairs()) == []


def test_voters_of_a_pair_are_bounded_and_the_latest_stay() -> None:
    matrix = ZoneMatrix(ttl_s=60)
    for number in range(1000):
        matrix.vote(node(str(number)), A, B, 900.0 + number, 0.0)
    voters = [number for number in range(1000) if matrix.vote_us(node(str(number)), A, B) is not None]
    assert voters == list(range(991, 1000))


@given(
    votes=st.lists(
        st.tuples(st.sampled_from("123456789"), st.sampled_from((A, B, C)), st.floats(1, 1e7)), max_size=40
    )
)
def test_median_is_that_of_the_latest_word_of_each_node(votes: list[tuple[str, ZoneKey, float]]) -> None:
    matrix = ZoneMatrix(ttl_s=60)
    latest: dict[ZoneKey, dict[str, float]] = {A: {}, B: {}, C: {}}
    for voter, zone, rtt_us in votes:
        matrix.vote(node(voter), A, zone, rtt_us, 0.0)
        latest[zone][voter] = rtt_us
        for each in (A, B, C):
            values, median = latest[each].values(), matrix.rtt_us(A, each)
            assert (median is None) == (not values)
            if median is not None:
                assert statistics.median_low(values) <= median <= statistics.median_high(values)
