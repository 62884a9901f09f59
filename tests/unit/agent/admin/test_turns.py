"""Who is asked next: all in turn, who may be gone first, and never more than ten a second."""

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.admin.turns import ASKED_MAX, EVERY_S, PER_S, TIMEOUT_S, Turns, sample
from tests.unit.twins import node, zone_key
from topology.placement import NodeName, ZoneKey

STEP_S = 1 / PER_S


def names(count: int, prefix: str = "n") -> list[NodeName]:
    return [node(f"{prefix}{number}") for number in range(count)]


def turns_of(count: int) -> Turns:
    turns = Turns()
    turns.use(names(count))
    return turns


def played(turns: Turns, seconds: float, *, began_s: float = 0.0) -> list[tuple[float, NodeName]]:
    """Who is asked when, if the next one is asked as soon as it may be."""
    asked = []
    for number in range(round(seconds * PER_S)):
        now_s = began_s + number * STEP_S
        if (name := turns.next(now_s)) is not None:
            asked.append((now_s, name))
    return asked


def test_all_of_two_hundred_are_asked_once_in_twenty_seconds() -> None:
    turns = turns_of(ASKED_MAX)
    assert turns.round_s == 20.0
    asked = [name for _, name in played(turns, 20.0)]
    assert sorted(asked) == sorted(names(ASKED_MAX))
    assert turns.begun


def test_few_are_not_asked_more_often_than_they_may() -> None:
    asked = played(turns_of(3), 10.0)
    assert len(asked) == 3 * 10 / EVERY_S


def test_whose_connection_broke_is_asked_at_once_among_two_hundred() -> None:
    turns = turns_of(ASKED_MAX)
    played(turns, 5.0)
    turns.lost(node("n190"))
    assert turns.next(5.0) == "n190"


def test_frozen_one_of_twenty_five_is_known_within_five_seconds() -> None:
    turns = turns_of(25)
    played(turns, 2.5)
    longest_s = max(at_s for at_s, _ in played(turns, 2.5, began_s=2.5)) - 2.5
    assert longest_s + TIMEOUT_S < 5.0
    assert turns.round_s == EVERY_S


def test_silent_ones_are_asked_again_soon_and_leave_the_others_every_other_turn() -> None:
    turns = turns_of(ASKED_MAX)
    for name in names(100):
        turns.silent(name, -10.0)
    asked = [name for _, name in played(turns, 4.0)]
    others = [name for name in asked if name not in names(100)]
    assert len(asked) == 40
    assert len(others) == 20
    turns.answered(node("n0"))
    assert len(turns) == ASKED_MAX


def test_lost_ones_do_not_starve_the_rest_either() -> None:
    turns = turns_of(ASKED_MAX)
    for name in names(100):
        turns.lost(name)
    asked = {name for _, name in played(turns, 4.0)}
    assert asked - {*names(20)}


def test_node_that_is_not_asked_in_turn_is_asked_when_its_connection_broke() -> None:
    turns = turns_of(1)
    turns.lost(node("far"))
    assert [name for _, name in played(turns, 1.0)] == ["far", "n0"]


def test_members_may_change_and_those_that_stay_keep_their_turn() -> None:
    turns = turns_of(3)
    assert turns.next(0.0) == "n0"
    turns.use([node("n0"), node("n2"), node("new")])
    assert [turns.next(0.1), turns.next(0.2), turns.next(0.3)] == ["n2", "new", None]
    assert turns.next(EVERY_S) == "n0"


def test_wait_ends_when_the_next_turn_comes() -> None:
    turns = turns_of(2)
    assert turns.wait_s(0.0) == 0.0
    played(turns, 0.2)
    assert turns.next(0.2) is None
    assert turns.wait_s(0.2) == pytest.approx(EVERY_S - 0.2)
    turns.silent(node("n0"), 0.2)
    assert turns.wait_s(0.2) == pytest.approx(1.0)
    turns.lost(node("n1"))
    assert turns.wait_s(0.2) == 0.0
    assert Turns().wait_s(5.0) == EVERY_S


MOMENTS_S = st.floats(-1e9, 1e9)


@given(st.lists(st.tuples(MOMENTS_S, st.booleans()), max_size=6), st.floats(0.0, 5.0), st.booleans())
def test_nobody_waits_for_a_turn_that_came_and_after_the_wait_it_has(
    asked: list[tuple[float, bool]], later_s: float, lost: bool
) -> None:
    turns = turns_of(len(asked))
    now_s = 0.0
    for at_s, is_silent in sorted(asked):
        if (name := turns.next(at_s)) is not None and is_silent:
            turns.silent(name, at_s)
        now_s = at_s + later_s
    if lost:
        turns.lost(node("far"))
    wait_s = turns.wait_s(now_s)
    assert 0.0 <= wait_s <= EVERY_S
    if wait_s > 0.0:
        assert copy.deepcopy(turns).next(now_s) is None
        now_s += wait_s
    assert (turns.next(now_s) is not None) == bool(asked or lost)


@given(MOMENTS_S)
def test_turn_comes_after_the_wait_however_the_sums_are_rounded(asked_s: float) -> None:
    for is_silent in (False, True):
        turns, name = turns_of(1), node("n0")
        assert turns.next(asked_s) == name
        if is_silent:
            turns.silent(name, asked_s)
        assert turns.wait_s(asked_s) > 0.0
        assert turns.next(asked_s + turns.wait_s(asked_s)) == name


def test_nobody_to_ask_is_begun_and_asks_nobody() -> None:
    assert (Turns().begun, Turns().next(0.0)) == (True, None)


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 1000), min_size=1))
def test_sample_is_as_large_as_it_may_be_and_has_every_zone(sizes: dict[str, int]) -> None:
    zones: dict[ZoneKey | None, list[NodeName]] = {
        zone_key(f"r/{zone}"): names(size, zone) for zone, size in sizes.items()
    }
    chosen = sample(zones)
    assert len(chosen) == len(set(chosen)) == min(ASKED_MAX, sum(sizes.values()))
    for zone, size in sizes.items():
        count = sum(name.startswith(zone) for name in chosen)
        assert count >= min(size, ASKED_MAX // len(sizes))


@pytest.mark.parametrize("large", [5000, 100_000])
def test_small_zone_of_a_large_cluster_is_asked_whole(large: int) -> None:
    zones: dict[ZoneKey | None, list[NodeName]] = {None: names(3, "x"), zone_key("r/a"): names(large, "a")}
    chosen = sample(zones)
    assert sum(name.startswith("x") for name in chosen) == 3
    assert len(chosen) == ASKED_MAX


def test_turn_that_never_came_is_the_longest_ago() -> None:
    turns = turns_of(2)
    turns.next(0.0)
    turns.use([node("n0"), node("late")])
    assert turns.next(0.1) == "late"
    assert math.isfinite(turns.round_s)
