"""Whom a pull may still try, and in which order."""

import pytest

from agent.pull.candidates import Candidates, is_well
from tests.unit.twins import node
from topology.placement import Tier
from topology.ranking import Condition, Ranked


def holder(name: str, *, condition: Condition | None = None, tier: Tier = Tier.ZONE) -> Ranked:
    return Ranked(node=node(name), tier=tier, rank=1, condition=condition or Condition())


A, B, C = (holder(name) for name in "abc")


def candidates(*found: Ranked) -> Candidates:
    made = Candidates()
    made.found(found)
    return made


def tried(made: Candidates) -> list[str]:
    """All that are left, in the order in which they would be tried."""
    names: list[str] = []
    while made:
        names.append(made.next().node)
    return names


@pytest.mark.parametrize(
    ("condition", "well"),
    [
        (Condition(), True),
        (Condition(load=9), True),
        (Condition(saturated=True), False),
        (Condition(cooling=True), False),
        (Condition(doubted=True), False),
    ],
)
def test_holder_that_failed_refused_or_is_suspected_is_not_well(condition: Condition, well: bool) -> None:
    assert is_well(holder("a", condition=condition)) is well
    assert candidates(holder("a", condition=condition)).any_well is well


def test_each_holder_is_tried_once_in_the_order_of_the_ranking() -> None:
    assert tried(candidates(A, B, C)) == ["a", "b", "c"]


def test_with_nobody_left_there_is_nobody_to_try() -> None:
    made = candidates(A)
    made.next()
    assert not made
    assert not made.any_well
    assert made.next_second_chance() is None
    with pytest.raises(IndexError):
        made.next()


def test_holders_of_a_newer_answer_come_first_and_those_tried_do_not_come_back() -> None:
    made = candidates(A, B)
    made.next()
    made.found([C, A])
    assert tried(made) == ["c", "b"]


def test_newer_answer_replaces_what_was_known_of_a_holder() -> None:
    made = candidates(A)
    made.found([holder("a", condition=Condition(cooling=True))])
    assert not made.any_well
    assert tried(made) == ["a"]


def test_matching_holders_are_taken_and_the_others_stay_in_order() -> None:
    far = holder("far", tier=Tier.REMOTE)
    made = candidates(A, far, B, C)
    assert made.next_matching(2, lambda each: each.tier is Tier.ZONE) == (A, B)
    assert tried(made) == ["far", "c"]


@pytest.mark.parametrize("most", [0, -1])
def test_no_room_for_holders_takes_none(most: int) -> None:
    made = candidates(A)
    assert made.next_matching(most, lambda _: True) == ()
    assert tried(made) == ["a"]


def test_holders_that_are_given_back_come_first_in_their_order() -> None:
    made = candidates(A, B, C)
    taken = made.next_matching(2, lambda _: True)
    made.give_back(taken)
    assert tried(made) == ["a", "b", "c"]


def test_busy_holder_is_put_behind_those_that_were_not_tried() -> None:
    made = candidates(A, B)
    made.put_last(made.next())
    assert tried(made) == ["b", "a"]


def test_second_chance_is_given_once_and_only_on_request() -> None:
    made = candidates(A, B)
    made.forgive(made.next())
    assert tried(made) == ["b"]
    assert made.next_second_chance() == A
    assert made.next_second_chance() is None


def test_found_again_after_all_was_forgotten_a_holder_is_tried_again() -> None:
    made = candidates(A)
    made.next()
    made.forget_tried()
    made.found([A])
    assert tried(made) == ["a"]


def test_those_that_are_to_come_first_do_so_and_the_last_of_them_although_it_was_tried() -> None:
    made = candidates(A, B)
    refuser = made.next()
    made.first([C, refuser])
    assert tried(made) == ["c", "a", "b"]


def test_one_that_was_tried_does_not_come_back_because_another_names_it() -> None:
    made = candidates(A, B, C)
    assert [made.next(), made.next()] == [A, B]
    made.first([A, B])
    assert tried(made) == ["b", "c"]


def test_what_is_known_of_a_holder_is_kept_when_another_names_it() -> None:
    made = candidates(A, B)
    refuser = made.next()
    made.first(
        [
            holder("b", condition=Condition(in_flight=0)),
            holder("c", condition=Condition(in_flight=0)),
            refuser,
        ]
    )
    assert [made.next().condition.in_flight for _ in range(3)] == [None, 0, None]


def test_best_is_the_first_that_is_well_and_fits_and_is_not_tried_by_being_named() -> None:
    made = candidates(holder("x", condition=Condition(cooling=True)), A, B)
    assert made.best(lambda one: one != A) == B
    assert made.best(lambda _: True) == A
    assert made.best(lambda _: False) is None
    assert tried(made) == ["x", "a", "b"]
