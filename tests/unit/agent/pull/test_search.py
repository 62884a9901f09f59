"""How far a pull's look-ups went, and what it waits for."""

import pytest

from agent.pull.events import PROGRESS_BYTES
from agent.pull.search import BusyHolder, LookAgain, Persistence, Reach, Search, Stretch, Waits
from tests.unit.twins import node
from topology.placement import Tier
from topology.ranking import Ranked

A, B = (Ranked(node=node(name), tier=Tier.ZONE, rank=1) for name in "ab")


def test_everyone_is_asked_once_until_the_body_went_on() -> None:
    search = Search().started()
    assert search.may_widen(again=False)
    search = search.widened()
    assert search.awaits_everyone
    search = search.answered(exhaustive=False)
    assert (search.reach, search.under_way) == (Reach.EVERYONE, False)
    assert not search.may_widen(again=True)
    assert search.outdated().may_widen(again=False)


def test_first_answer_from_everyone_is_worth_a_second_look_only_where_attempts_ran_out() -> None:
    search = Search().started().answered(exhaustive=True)
    assert search.reach is Reach.EXHAUSTIVE
    assert (search.may_widen(again=False), search.may_widen(again=True)) == (False, True)


def test_each_holder_is_waited_for_once_and_a_second_look_beside_them() -> None:
    waits = Waits()
    for wait in (
        BusyHolder(until_s=1.0, holder=A),
        LookAgain(until_s=3.0),
        BusyHolder(until_s=2.0, holder=B),
        BusyHolder(until_s=4.0, holder=A),
        LookAgain(until_s=5.0),
    ):
        waits.add(wait)
    assert sorted(waits.times_s()) == [2.0, 4.0, 5.0]
    assert waits.over(2.0) == (BusyHolder(until_s=2.0, holder=B),)
    assert waits.over(9.0) == (BusyHolder(until_s=4.0, holder=A), LookAgain(until_s=5.0))
    assert waits.times_s() == ()


def test_what_is_waited_for_is_told_in_words() -> None:
    waits = Waits()
    assert waits.words == ""
    waits.add(BusyHolder(until_s=5.0, holder=A))
    assert waits.words == "a is busy and said when to ask again"
    waits.add(LookAgain(until_s=1.0))
    assert waits.words.count(";") == 1


def test_wait_that_was_answered_early_is_over() -> None:
    waits = Waits()
    waits.add(busy := BusyHolder(until_s=1.0, holder=A))
    waits.add(LookAgain(until_s=1.0))
    assert waits.end(busy.subject) == busy
    assert waits.end(busy.subject) is None
    assert waits.over(1.0) == (LookAgain(until_s=1.0),)


@pytest.mark.parametrize(("until_s", "helps"), [(9.9, True), (10.0, False)])
def test_busy_holder_helps_only_before_the_deadline(until_s: float, helps: bool) -> None:
    waits = Waits()
    assert not waits.worth_it(10.0)
    waits.add(BusyHolder(until_s=until_s, holder=A))
    assert waits.worth_it(10.0) == helps
    waits.add(LookAgain(until_s=11.0))
    assert waits.worth_it(10.0)


def test_pauses_grow_and_end_with_the_time_for_them() -> None:
    persistence, pauses_s = Persistence(), []
    for _ in range(5):
        again = persistence.look_again(0.0, 100.0)
        assert again is not None
        pauses_s.append(again.until_s)
        persistence = persistence.paused()
    assert pauses_s == [0.25, 0.5, 1.0, 2.0, 2.0]
    assert persistence.look_again(99.5, 100.0) == LookAgain(until_s=100.0)
    assert persistence.look_again(100.0, 100.0) is None
    assert Persistence(useless=True).look_again(0.0, 100.0) is None


def test_deadline_begins_anew_where_a_source_ended_after_much_and_not_byte_by_byte() -> None:
    stretch = Stretch(began_s=0.0, deadline_s=10.0).ended(5, 1.0, 10.0)
    assert (stretch.began_at, stretch.deadline_s) == (5, 11.0)
    assert stretch.ended(6, 9.0, 10.0) is stretch
    assert stretch.ended(5 + PROGRESS_BYTES, 9.0, 10.0).deadline_s == 19.0
