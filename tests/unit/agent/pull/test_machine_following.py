"""Playbooks of a pull from holders that are still fetching the content, and from those that share it out."""

from dataclasses import replace

import pytest

from agent.pull.arrival import AHEAD_S
from agent.pull.events import (
    PROGRESS_BYTES,
    Abandon,
    Avoid,
    Broke,
    Completed,
    Cut,
    Deliver,
    Failed,
    Failure,
    Fetch,
    Forget,
    Found,
    GiveUp,
    Lookup,
    Neighbours,
    Responded,
    Ticked,
    WakeAt,
)
from agent.pull.machine import Pull, State
from tests.unit.agent.pull.playbook import (
    DEADLINE,
    FLOORED,
    GIB,
    LIMITS,
    STRIPING,
    A,
    B,
    C,
    D,
    delivering,
    failed,
    found,
    play,
    progressed,
    ranked,
    started,
)
from topology.placement import Tier
from topology.ranking import Condition, Ranked

ARRIVING = Condition(in_flight=10)
N1, N2, N3, N4 = (ranked(f"n{number}", condition=ARRIVING) for number in range(1, 5))
FAR = ranked("far", Tier.REGION)
SLOW_S = WakeAt(at_s=0.5 + AHEAD_S)
PATIENT = replace(LIMITS, attempts_max=8)


def shared(attempt: int, *instead: Ranked) -> Failed:
    return Failed(attempt=attempt, failure=Failure.SHARED, instead=instead)


def asks(attempt: int, holder: Ranked, wake: WakeAt = SLOW_S) -> tuple[Fetch, WakeAt]:
    return Fetch(attempt=attempt, holder=holder), wake


def asked(pull: Pull, event: Failed) -> Ranked | None:
    """Whom the pull asks after this, at the beginning."""
    return next((each.holder for each in pull.on(event, 0.0) if isinstance(each, Fetch)), None)


def test_near_one_in_flight_is_asked_before_a_farther_tier() -> None:
    play(started(), (found(N1, FAR), 0.0, asks(1, N1)))


def test_pull_that_is_sent_on_goes_where_it_is_told_and_nobody_is_blamed() -> None:
    pull = started()
    play(
        pull,
        (found(A, B), 0.0, asks(1, A, WakeAt(at_s=0.5))),
        (shared(1, N1, N2), 0.0, asks(2, N1)),
        (shared(2, N3), 0.0, asks(3, N3)),
        (failed(3, Failure.MISSING), 0.0, (Forget(node=N3.node), *asks(4, N1))),
        (shared(4, N4), 0.0, asks(5, N2)),
        (failed(5, Failure.MISSING), 0.0, (Forget(node=N2.node), *asks(6, A, WakeAt(at_s=0.5)))),
        (Responded(attempt=6), 0.0, (Deliver(attempt=6, holder=A),)),
    )


def test_word_of_those_who_are_given_it_costs_no_attempt() -> None:
    pull = started(replace(LIMITS, attempts_max=2))
    pull.on(found(A, B, exhaustive=True), 0.0)
    assert asked(pull, shared(1, N1)) == N1
    assert asked(pull, failed(2, Failure.MISSING)) == A
    assert asked(pull, failed(3, Failure.MISSING)) is None, "two attempts that failed"


def test_word_without_a_name_sends_the_pull_back_at_once_and_the_second_time_to_others() -> None:
    pull = started()
    pull.on(found(A, B), 0.0)
    assert asked(pull, shared(1)) == A
    assert asked(pull, shared(2, N1)) == B


def test_holders_that_send_the_pull_in_a_circle_are_each_asked_twice_at_most() -> None:
    pull = started(PATIENT)
    pull.on(found(A, exhaustive=True), 0.0)
    went = [A]
    while (
        other := asked(pull, shared(len(went), *(one for one in (N1, N2, N3) if one != went[-1])))
    ) is not None:
        went.append(other)
    assert {one.node: went.count(one) for one in went} == {"a": 2, "n1": 2, "n2": 2, "n3": 2}
    assert pull.state in (State.SEEKING, State.DONE)


def test_thousand_names_lead_a_pull_nowhere_for_long() -> None:
    pull = started(PATIENT)
    pull.on(found(A, exhaustive=True), 0.0)
    number = 0
    for number in range(1, 1000):
        liars = (ranked(f"x{number}-{each}", condition=ARRIVING) for each in range(8))
        if asked(pull, shared(number, *liars)) is None:
            break
    assert number < 200


def test_what_a_look_up_said_of_a_node_counts_more_than_that_it_is_given_it() -> None:
    pull = started()
    pull.on(found(A, B), 0.0)
    assert asked(pull, shared(1, ranked("b", condition=ARRIVING))) == B


def test_one_that_is_not_ahead_yet_is_asked_again_three_times() -> None:
    pull = started()
    pull.on(found(N1, C, exhaustive=True), 0.0)
    went = [asked(pull, failed(number, Failure.STARVED)) for number in range(1, 5)]
    assert went == [N1, N1, N1, C]


def test_one_that_was_said_to_have_all_and_is_only_fetching_it_is_forgotten_and_not_asked_again() -> None:
    pull = started()
    pull.on(found(A, C, exhaustive=True), 0.0)
    commands = pull.on(failed(1, Failure.STARVED), 0.1)
    assert Forget(node=A.node) in commands
    assert Fetch(attempt=2, holder=C) in commands
    assert not any(isinstance(command, Avoid) for command in commands), "it is well"


def test_one_that_is_not_ahead_of_a_client_that_resumes_is_not_asked_again() -> None:
    pull = started(replace(LIMITS, stubborn_s=0.5))
    pull.on(found(N1, C, exhaustive=True), 0.0)
    assert asked(pull, failed(1, Failure.STARVED)) == C


def test_one_in_flight_may_wait_before_it_answers_so_it_is_not_avoided_as_soon_as_others() -> None:
    play(
        started(),
        (found(N1, B), 0.0, asks(1, N1)),
        (
            Ticked(),
            0.5 + AHEAD_S,
            (
                Avoid(node=N1.node),
                Fetch(attempt=2, holder=B),
                WakeAt(at_s=1.4),
            ),
        ),
    )


def test_pull_goes_on_at_the_exact_byte_when_the_one_in_flight_starves_and_nobody_is_blamed() -> None:
    pull = delivering(N1, N2, B)
    offset = 5 * PROGRESS_BYTES + 7
    play(
        pull,
        (
            Broke(failure=Failure.STARVED, offset=offset),
            4.0,
            (
                Abandon(attempt=1),
                Fetch(attempt=2, holder=N2, offset=offset),
                WakeAt(at_s=4.0 + 0.5 + AHEAD_S),
            ),
        ),
    )
    assert not pull.failed


def test_one_that_starved_is_not_asked_again_and_the_end_is_a_cut() -> None:
    pull = delivering(N1)
    commands = pull.on(Broke(failure=Failure.STARVED, offset=3 * PROGRESS_BYTES), 4.0)
    assert Lookup(everyone=True) in commands
    assert Cut() in pull.on(found(N1, exhaustive=True), 4.0)


LOOK = (Lookup(everyone=True),)


def census(complete: int, arriving: int, *holders: Ranked) -> Found:
    """All peers were asked: so many of the zone have all of it, and so many are still fetching it."""
    return Found(holders=holders, exhaustive=True, neighbours=Neighbours(complete, arriving))


def test_slow_one_in_flight_is_kept_while_nobody_else_has_all_of_it() -> None:
    slow = progressed(1e6, usual=1e9)
    play(delivering(N1, N2, limits=FLOORED), (slow, 4.0, LOOK))
    play(delivering(N1, N2, limits=FLOORED, exhaustive=False), (slow, 4.0, LOOK))


def test_follower_that_was_left_behind_goes_on_from_a_complete_one() -> None:
    pull = delivering(N1, N2)
    slow = progressed(1e6, left_bytes=100 * PROGRESS_BYTES)
    play(
        pull,
        (slow, 4.0, LOOK),
        (census(2, 1, B, C, N2), 4.1, ()),
        (slow, 4.2, (GiveUp(failure=Failure.LAGGING),)),
    )
    commands = pull.on(Broke(failure=Failure.LAGGING, offset=PROGRESS_BYTES), 4.3)
    assert commands[:2] == (Abandon(attempt=1), Fetch(attempt=2, holder=B, offset=PROGRESS_BYTES))
    assert not [each for each in commands if isinstance(each, Avoid)], "its source is not to blame"


def test_follower_stays_while_most_of_its_neighbours_still_fetch_it() -> None:
    pull = delivering(N1, N2)
    slow = progressed(1e6)
    play(
        pull,
        (slow, 4.0, LOOK),
        (census(1, 3, B, N2, N3, N4), 4.1, ()),
        (slow, 4.2, ()),
        (slow, 5.1, LOOK),
        (slow, 5.2, ()),
    )


def test_follower_with_little_left_stays() -> None:
    pull = delivering(N1, N2)
    play(pull, (progressed(1e6, left_bytes=PROGRESS_BYTES), 4.0, ()))


def test_follower_whose_reader_is_slow_stays() -> None:
    play(delivering(N1, N2), (progressed(1e6, source_bound=False), 4.0, ()))


def test_follower_does_not_leave_for_the_one_that_sent_it_on() -> None:
    pull = started(FLOORED)
    pull.on(found(A, exhaustive=True), 0.0)
    pull.on(shared(1, N1), 0.0)
    pull.on(Responded(attempt=2), 0.1)
    play(pull, (progressed(1e7), 4.0, LOOK), (census(1, 1, A), 4.1, ()), (progressed(1e7), 4.2, ()))


def test_follower_does_not_leave_its_zone_for_a_complete_one() -> None:
    pull = delivering(N1, N2)
    play(pull, (progressed(1e7), 4.0, LOOK), (census(1, 1, FAR), 4.1, ()), (progressed(1e7), 4.2, ()))


def test_slow_one_in_flight_is_left_for_a_complete_one_and_may_go_on_if_that_fails() -> None:
    pull = delivering(N1, FAR, limits=FLOORED)
    assert pull.rival == FAR
    play(pull, (progressed(1e6, usual=1e9), 4.0, (GiveUp(failure=Failure.LAGGING),)))
    commands = pull.on(Broke(failure=Failure.LAGGING, offset=PROGRESS_BYTES), 4.0)
    assert commands[:2] == (Abandon(attempt=1), Fetch(attempt=2, holder=FAR, offset=PROGRESS_BYTES))


def test_slow_one_in_flight_is_not_left_for_the_one_that_sent_the_pull_to_it() -> None:
    pull = started(FLOORED)
    pull.on(found(A, exhaustive=True), 0.0)
    pull.on(shared(1, N1), 0.0)
    pull.on(Responded(attempt=2), 0.1)
    assert pull.rival is None
    assert pull.on(progressed(5e7, usual=1e9), 4.0) == LOOK


def test_one_in_flight_that_crawls_is_left_even_for_the_one_that_sent_the_pull_to_it() -> None:
    """It may be that one's own disk that is slow, and then all that follow it would be as slow."""
    pull = started(FLOORED)
    pull.on(found(A, exhaustive=True), 0.0)
    pull.on(shared(1, N1), 0.0)
    pull.on(Responded(attempt=2), 0.1)
    assert pull.on(progressed(3e7, usual=1e9), 4.0) == LOOK
    assert pull.on(progressed(2e7, usual=1e9), 4.5) == (GiveUp(failure=Failure.LAGGING),)


def test_slow_complete_one_is_not_left_for_one_in_flight() -> None:
    pull = delivering(A, N1, limits=FLOORED)
    assert pull.rival is None
    assert pull.on(progressed(1e6, usual=1e9), 4.0) == ()
    assert delivering(A, N1, B, limits=FLOORED).rival == B


def test_one_in_flight_that_gives_next_to_nothing_is_given_up() -> None:
    play(delivering(N1, limits=FLOORED), (progressed(10.0), 4.0, (GiveUp(failure=Failure.SLOW),)))


@pytest.mark.parametrize("holders", [(N1, B, C), (A, N1, N2), (N1, N2)])
def test_body_is_not_striped_over_what_is_still_arriving(holders: tuple[Ranked, ...]) -> None:
    pull = delivering(*holders, limits=STRIPING)
    pull.on(progressed(1e8, over_s=0.6, left_bytes=GIB, lanes_max=4), 1.0)
    assert pull.state is State.DELIVERING


def test_holder_counts_as_its_answer_shows_it() -> None:
    pull = started(STRIPING)
    pull.on(found(N1, B), 0.0)
    assert pull.on(Responded(attempt=1, holder=ranked("n1")), 0.1) == (
        Deliver(attempt=1, holder=ranked("n1")),
    )
    pull.on(progressed(1e8, over_s=0.6, left_bytes=GIB, lanes_max=4), 1.0)
    assert pull.state is State.STRIPING


def test_one_that_is_asked_for_a_further_piece_and_shares_it_out_by_then_is_asked_again() -> None:
    pull = delivering(A, B)
    offset = 2 * PROGRESS_BYTES
    commands = pull.on(Broke(failure=Failure.SHARED, offset=offset), 1.0)
    assert commands[:2] == (Abandon(attempt=1), Fetch(attempt=2, holder=A, offset=offset))


def test_follower_commends_the_one_in_flight_that_gave_it_all() -> None:
    pull = delivering(N1)
    assert pull.on(Completed(given_bytes={N1.node: GIB}), 9.0)[0] == Abandon(attempt=1)
    assert pull.state is State.DONE


def test_deadline_stands_although_holders_are_not_ahead() -> None:
    pull = started(replace(LIMITS, deadline_s=1.0))
    pull.on(found(N1, N2, N3, D, exhaustive=True), 0.0)
    for number in range(1, 4):
        pull.on(failed(number, Failure.STARVED), 0.3 * number)
    pull.on(Ticked(), 1.0)
    assert pull.state is State.DONE
    assert DEADLINE.at_s > 1.0
