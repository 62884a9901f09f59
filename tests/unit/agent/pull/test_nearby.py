"""Who is asked where not everybody can be, in which steps, and how much a node asks at most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pull.asking import AskingPolicy
from agent.pull.nearby import BURST, QUESTIONS_PER_S, SEARCHES_MAX, NearbyAsking, QuestionBudget
from agent.pull.regard import Regard
from tests.unit.twins import node
from topology.placement import NodeName

PATIENCE_S, TIMEOUT_S = 0.05, 0.5


@dataclass(frozen=True)
class Someone:
    name: NodeName


def some(prefix: str, count: int) -> tuple[Someone, ...]:
    return tuple(Someone(node(f"{prefix}{number}")) for number in range(count))


Rings = tuple[tuple[Someone, ...], ...]
RACK, ZONE, REGION, FAR = some("near-rack", 20), some("near-zone", 480), some("region", 50), some("far", 4450)
RINGS: Rings = (RACK, ZONE, REGION, FAR)


def nearby(
    regard: Regard | None = None,
    *,
    at_once: int = 64,
    near_max: int = 1024,
    others_max: int = 64,
    budget: QuestionBudget | None = None,
    wait_max_s: float = math.inf,
) -> NearbyAsking[Someone]:
    policy = AskingPolicy(
        regard=regard or Regard(cooloff_s=5.0), at_once=at_once, patience_s=PATIENCE_S, timeout_s=TIMEOUT_S
    )
    return NearbyAsking(
        policy,
        is_near=lambda name: name.startswith("near"),
        at_once=at_once,
        budget=budget or QuestionBudget(),
        near_max=near_max,
        others_max=others_max,
        wait_max_s=wait_max_s,
    )


def asked(asking: NearbyAsking[Someone], rings: Rings = RINGS, now_s: float = 0.0) -> list[list[Someone]]:
    return [[one.peer for one in step.asked] for step in asking.nearest_first(rings, now_s)]


def flat(steps: Sequence[Sequence[Someone]]) -> list[Someone]:
    return [one for step in steps for one in step]


def test_whole_own_zone_is_asked_and_then_a_few_others_the_nearest() -> None:
    assert flat(asked(nearby())) == [*RACK, *ZONE, *REGION, *FAR[:14]]


def test_no_step_has_more_peers_than_are_asked_at_once() -> None:
    sizes = [len(step) for step in asked(nearby())]
    assert sizes[:8] == [64, 64, 64, 64, 64, 64, 64, 52], "a step is of one ring after the first one"
    assert max(sizes) == 64


def test_in_a_small_zone_the_others_are_asked_at_once_with_it() -> None:
    rings = (RACK[:3], REGION[:5], FAR)
    assert len(asked(nearby(), rings)[0]) == 64
    assert len(flat(asked(nearby(), rings))) == 3 + 64


def test_the_others_are_always_the_same_so_that_few_connections_open() -> None:
    asking = nearby()
    assert asked(asking) == asked(asking, now_s=1000.0)


def test_members_that_changed_are_asked_from_then_on() -> None:
    asking = nearby()
    asked(asking)
    newcomers = some("near-new", 2)
    assert flat(asked(asking, (RACK, newcomers)))[-2:] == [*newcomers]


def test_zone_without_end_is_asked_in_part() -> None:
    assert flat(asked(nearby(near_max=100, others_max=0))) == [*RACK, *ZONE[:80]]


def test_tags_are_asked_of_the_own_zone_alone() -> None:
    assert flat(asked(nearby(others_max=0))) == [*RACK, *ZONE]


def test_everybody_nearby_is_asked_in_steps_of_which_only_the_last_is_waited_for_in_full() -> None:
    steps = [*nearby().everyone(RINGS, 0.0)]
    assert [one.peer for step in steps for one in step.asked] == [*RACK, *ZONE, *REGION, *FAR[:14]]
    assert [step.wait_s for step in steps] == [PATIENCE_S] * (len(steps) - 1) + [TIMEOUT_S]


def test_nobody_is_asked_where_nobody_is() -> None:
    assert flat(asked(nearby(), ())) == []
    assert [step.wait_s for step in nearby().everyone((), 0.0)] == [TIMEOUT_S]


def test_peers_of_the_zone_that_cool_off_are_asked_all_the_same_at_last() -> None:
    regard = Regard(cooloff_s=5.0)
    regard.members_changed(one.name for ring in RINGS for one in ring)
    for one in RACK:
        regard.failed(one.name, 0.0)
    assert set(flat(asked(nearby(regard)))[-20:]) == set(RACK)


@given(
    zone=st.integers(0, 300), others=st.integers(0, 300), at_once=st.integers(1, 128), most=st.integers(0, 64)
)
def test_a_search_asks_everybody_once_at_most(zone: int, others: int, at_once: int, most: int) -> None:
    rings = tuple(ring for ring in (some("near", zone), some("far", others)) if ring)
    steps = asked(nearby(at_once=at_once, others_max=most), rings)
    found = flat(steps)
    assert len(found) == len(set(found)) == zone + min(others, most)
    assert all(len(step) <= at_once for step in steps)


def test_what_a_node_asks_at_once_is_there_and_the_rest_comes_at_a_rate() -> None:
    budget = QuestionBudget(per_s=100.0, burst=50)
    assert budget.take(50, 0.0) == 0.0
    assert budget.take(10, 0.0) == pytest.approx(0.1)
    assert budget.take(10, 0.0) == pytest.approx(0.2), "who takes next waits behind"
    assert budget.wait_s(0.1) == pytest.approx(0.1)
    assert budget.wait_s(0.2) == 0.0
    assert budget.take(50, 100.0) == 0.0
    assert budget.take(1, 100.0) > 0.0, "what is not used does not add up beyond the burst"


def test_what_was_not_asked_is_given_back() -> None:
    budget = QuestionBudget(per_s=100.0, burst=50)
    budget.take(60, 0.0)
    budget.give_back(60)
    budget.give_back(60)
    assert budget.take(51, 0.0) == pytest.approx(0.01)


def test_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    budget = QuestionBudget(per_s=100.0, burst=10)
    budget.take(10, 5.0)
    assert budget.take(1, 4.0) == pytest.approx(0.01)


@given(takes=st.lists(st.tuples(st.integers(0, 200), st.floats(0.0, 0.5)), max_size=60))
def test_a_node_never_asks_more_than_its_burst_and_its_rate(takes: list[tuple[int, float]]) -> None:
    budget, now_s, asked_at = QuestionBudget(), 0.0, list[tuple[float, int]]()
    for count, pause_s in takes:
        now_s += pause_s
        asked_at.append((now_s + budget.take(count, now_s), count))
    for at_s, _ in asked_at:
        by_then = sum(count for other_s, count in asked_at if other_s <= at_s)
        assert by_then <= BURST + QUESTIONS_PER_S * at_s + 1e-6


def test_a_search_waits_while_two_run_or_all_that_may_be_asked_is_spoken_for() -> None:
    budget = QuestionBudget()
    asking = nearby(budget=budget)
    assert asking.pause_s(SEARCHES_MAX - 1, 0.0) == 0.0
    assert asking.pause_s(SEARCHES_MAX, 0.0) > 0.0
    budget.take(BURST + 256, 0.0)
    assert asking.pause_s(0, 0.0) == pytest.approx(0.5)
    assert asking.pause_s(0, 0.5) == 0.0


def test_who_would_have_to_wait_for_too_long_takes_nothing() -> None:
    budget = QuestionBudget(per_s=100.0, burst=50)
    asking = nearby(budget=budget, wait_max_s=0.25)
    assert asking.take(60, 0.0) == pytest.approx(0.1)
    assert asking.take(20, 0.0) is None
    assert asking.take(15, 0.0) == pytest.approx(0.25)
