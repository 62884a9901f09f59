"""The pull machine until the first byte: finding holders, waiting for them, and busy ones."""

from dataclasses import replace

import pytest

from agent.pull.events import (
    Abandon,
    Avoid,
    Command,
    Completed,
    Deliver,
    Failure,
    Fetch,
    Lookup,
    NotFound,
    Relieve,
    Responded,
    Ticked,
    WakeAt,
)
from agent.pull.machine import Pull, State
from tests.unit.agent.pull.playbook import (
    DEADLINE,
    HEDGING,
    LIMITS,
    A,
    B,
    C,
    D,
    avoided,
    delivering,
    failed,
    forgotten,
    found,
    play,
    ranked,
    shunned,
    started,
)
from topology.placement import Tier
from topology.ranking import Condition

# Finding and first bytes.


def test_pull_starts_with_a_cached_lookup_and_the_deadline() -> None:
    assert Pull(limits=LIMITS).start(7.0) == (Lookup(everyone=False), WakeAt(at_s=17.0))


def test_first_holder_that_responds_is_delivered() -> None:
    pull = started()
    play(
        pull,
        (found(A, B), 0.125, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.625))),
        (Responded(attempt=1), 0.25, (Deliver(attempt=1, holder=A),)),
        (Completed(), 3.0, (Abandon(attempt=1),)),
    )
    assert pull.state is State.DONE


def test_nobody_has_it_after_everyone_was_asked_is_not_found_at_once() -> None:
    pull = started()
    play(pull, (found(exhaustive=True), 0.125, (NotFound(attempts=0),)))
    assert pull.state is State.DONE


def test_empty_cached_answer_makes_it_ask_everyone_before_not_found() -> None:
    play(
        started(),
        (found(), 0.125, (Lookup(everyone=True), DEADLINE)),
        (found(exhaustive=True), 0.25, (NotFound(attempts=0),)),
    )


def test_holder_found_by_asking_everyone_is_tried() -> None:
    play(
        started(),
        (found(), 0.125, (Lookup(everyone=True), DEADLINE)),
        (found(A, exhaustive=True), 0.25, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.75))),
    )


def test_failed_holder_is_followed_by_the_next_without_a_wait() -> None:
    play(
        started(),
        (found(A, B), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (failed(1), 0.25, (*avoided(A), *forgotten(A), Fetch(attempt=2, holder=B), WakeAt(at_s=0.75))),
        (Responded(attempt=2), 0.5, (Deliver(attempt=2, holder=B),)),
    )


@pytest.mark.parametrize(
    ("failure", "finding"),
    [
        (Failure.UNREACHABLE, (*avoided(A), *forgotten(A))),
        (Failure.BROKEN, (*avoided(A), *forgotten(A))),
        (Failure.ERROR, (*avoided(A), *forgotten(A))),
        (Failure.SILENT, (*shunned(A), *forgotten(A))),
        (Failure.INVALID, (*shunned(A), *forgotten(A))),
        (Failure.MISSING, forgotten(A)),
        (Failure.UNSATISFIABLE, ()),
        (Failure.OTHER_SIZE, ()),
        (Failure.EXHAUSTED, ()),
    ],
)
def test_finding_about_a_holder_fits_its_failure(failure: Failure, finding: tuple[Command, ...]) -> None:
    pull = started()
    pull.on(found(A, exhaustive=True), 0.0)
    assert pull.on(failed(1, failure), 0.25) == (*finding, NotFound(attempts=1))


def test_when_all_known_holders_failed_everyone_is_asked_and_tried_ones_are_not_repeated() -> None:
    missing = Failure.MISSING
    play(
        started(),
        (found(A), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (failed(1, missing), 0.25, (*forgotten(A), Lookup(everyone=True), DEADLINE)),
        (found(A, B, exhaustive=True), 0.5, (Fetch(attempt=2, holder=B), WakeAt(at_s=1.0))),
        (failed(2, missing), 0.75, (*forgotten(B), NotFound(attempts=2))),
    )


def test_attempts_are_capped_and_then_everyone_is_asked() -> None:
    pull = started()
    pull.on(found(A, B, C, D), 0.0)
    pull.on(failed(1), 0.1)
    pull.on(failed(2), 0.2)
    assert pull.on(failed(3), 0.3) == (*avoided(C), *forgotten(C), Lookup(everyone=True), DEADLINE)
    pull.on(found(D, exhaustive=True), 0.4)
    assert pull.on(failed(4, Failure.MISSING), 0.5) == (*forgotten(D), NotFound(attempts=4))


def test_near_holders_that_all_fail_do_not_hide_a_far_one() -> None:
    pull = started(replace(LIMITS, attempts_max=2))
    pull.on(found(A, B, C), 0.0)
    pull.on(failed(1), 0.1)
    pull.on(failed(2), 0.2)
    commands = pull.on(found(D, C, A, B, exhaustive=True), 0.3)
    assert commands[0] == Fetch(attempt=3, holder=D), "by the newer ranking, without those tried"
    assert pull.on(Responded(attempt=3), 0.4)[-1] == Deliver(attempt=3, holder=D)


@pytest.mark.parametrize("condition", [Condition(cooling=True), Condition(saturated=True)])
def test_tier_of_which_all_are_busy_or_ill_is_no_reason_not_to_go_to_the_next(condition: Condition) -> None:
    unwell = ranked("unwell", condition=condition)
    play(
        started(),
        (found(unwell), 0.0, (Lookup(everyone=True), DEADLINE)),
        (found(B, unwell, exhaustive=True), 0.25, (Fetch(attempt=1, holder=B), WakeAt(at_s=0.75))),
        (
            failed(1, Failure.MISSING),
            0.5,
            (*forgotten(B), Fetch(attempt=2, holder=unwell), WakeAt(at_s=1.0)),
        ),
    )


# Waiting for a first byte.


def test_second_holder_is_asked_when_the_tiers_usual_time_is_over_and_the_first_is_not_blamed() -> None:
    play(
        started(HEDGING),
        (found(A, B), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.125))),
        (Ticked(), 0.125, (Fetch(attempt=2, holder=B, hedge=True), WakeAt(at_s=0.5))),
        (Responded(attempt=1), 0.25, (Abandon(attempt=2), Deliver(attempt=1, holder=A))),
    )


def test_hedge_that_is_faster_wins_and_the_slower_one_is_abandoned_without_blame() -> None:
    play(
        started(HEDGING),
        (found(A, B), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.125))),
        (Ticked(), 0.125, (Fetch(attempt=2, holder=B, hedge=True), WakeAt(at_s=0.5))),
        (Responded(attempt=2), 0.25, (Abandon(attempt=1), Deliver(attempt=2, holder=B))),
        (Responded(attempt=1), 0.375, ()),
    )


def test_only_one_hedge_runs_at_a_time_until_patience_is_over() -> None:
    play(
        started(HEDGING),
        (found(A, B, C, D), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.125))),
        (Ticked(), 0.125, (Fetch(attempt=2, holder=B, hedge=True), WakeAt(at_s=0.5))),
        (Ticked(), 0.375, (WakeAt(at_s=0.5),)),
        (Ticked(), 0.5, (*avoided(A), Fetch(attempt=3, holder=C), WakeAt(at_s=0.625))),
    )


def test_hedge_goes_on_alone_and_is_hedged_itself_when_the_first_fails() -> None:
    missing = (*forgotten(A), Fetch(attempt=3, holder=C), WakeAt(at_s=0.625))
    play(
        started(HEDGING),
        (found(A, B, C), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.125))),
        (Ticked(), 0.125, (Fetch(attempt=2, holder=B, hedge=True), WakeAt(at_s=0.5))),
        (failed(1, Failure.MISSING), 0.25, missing),
    )


def test_tier_that_was_not_measured_is_hedged_when_patience_is_over() -> None:
    far = ranked("far", Tier.REMOTE)
    play(started(HEDGING), (found(far, A), 0.0, (Fetch(attempt=1, holder=far), WakeAt(at_s=0.5))))


def test_nobody_is_left_to_hedge_with_so_patience_decides() -> None:
    play(started(HEDGING), (found(A, exhaustive=True), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))))


def test_slow_holder_stays_in_the_race_when_the_next_is_asked() -> None:
    play(
        started(),
        (found(A, B), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (*avoided(A), Fetch(attempt=2, holder=B), WakeAt(at_s=1.0))),
        (Responded(attempt=1), 0.75, (Abandon(attempt=2), Deliver(attempt=1, holder=A))),
    )


def test_winner_of_a_race_ends_the_slow_holder() -> None:
    play(
        started(),
        (found(A, B), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (*avoided(A), Fetch(attempt=2, holder=B), WakeAt(at_s=1.0))),
        (Responded(attempt=2), 0.75, (Abandon(attempt=1), Deliver(attempt=2, holder=B))),
        (Responded(attempt=1), 0.875, ()),
    )


def test_everyone_is_asked_while_the_only_holder_is_slow_and_it_may_still_win() -> None:
    play(
        started(),
        (found(A), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (*avoided(A), Lookup(everyone=True), WakeAt(at_s=3.0))),
        (Responded(attempt=1), 0.75, (Deliver(attempt=1, holder=A),)),
        (found(B, exhaustive=True), 0.875, ()),
    )


def test_slow_holder_is_waited_for_when_there_is_nobody_else() -> None:
    play(
        started(),
        (found(A, exhaustive=True), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (*avoided(A), WakeAt(at_s=3.0))),
        (Responded(attempt=1), 2.75, (Deliver(attempt=1, holder=A),)),
    )


def test_holder_that_gives_nothing_for_the_stall_time_has_failed() -> None:
    play(
        started(),
        (found(A, exhaustive=True), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (*avoided(A), WakeAt(at_s=3.0))),
        (Ticked(), 3.0, (Abandon(attempt=1, failure=Failure.SILENT), *shunned(A), NotFound(attempts=1))),
    )


def test_stall_time_that_is_shorter_than_patience_decides() -> None:
    play(
        started(replace(LIMITS, stall_s=0.25)),
        (found(A, B), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.25))),
        (
            Ticked(),
            0.25,
            (
                Abandon(attempt=1, failure=Failure.SILENT),
                *shunned(A),
                Fetch(attempt=2, holder=B),
                WakeAt(at_s=0.5),
            ),
        ),
    )


def test_tick_that_comes_early_does_not_lose_the_next_holder() -> None:
    """An event loop's timers count milliseconds, so a tick may come a little early."""
    pull = started()
    pull.on(found(A, B), 0.0)
    assert pull.on(Ticked(), 0.4995) == (WakeAt(at_s=0.5),)
    assert Fetch(attempt=2, holder=B) in pull.on(Ticked(), 0.5)


def test_tick_at_the_very_time_asked_for_is_never_too_early() -> None:
    """4.3 + 0.3 - 4.3 is less than 0.3 in floating point. The machine must not wait for ever for that."""
    pull = Pull(limits=replace(LIMITS, patience_s=0.3))
    pull.start(4.3)
    wake = pull.on(found(A, exhaustive=True), 4.3)[-1]
    assert isinstance(wake, WakeAt)
    assert pull.on(Ticked(), wake.at_s)[0] == Avoid(node=A.node)


def test_tick_that_comes_early_for_the_deadline_is_asked_for_again() -> None:
    play(started(), (Ticked(), 9.9995, (DEADLINE,)), (Ticked(), 10.0, (NotFound(attempts=0),)))


def test_patience_never_outlasts_the_deadline() -> None:
    play(started(), (found(A, B), 9.75, (Fetch(attempt=1, holder=A), DEADLINE)))


def test_deadline_ends_every_open_attempt_with_not_found() -> None:
    pull = started(replace(LIMITS, stall_s=60.0))
    play(
        pull,
        (found(A, B, exhaustive=True), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (*avoided(A), Fetch(attempt=2, holder=B), WakeAt(at_s=1.0))),
        (Ticked(), 1.0, (*avoided(B), DEADLINE)),
    )
    commands = pull.on(Ticked(), 10.0)
    assert commands[-3:] == (Abandon(attempt=1), Abandon(attempt=2), NotFound(attempts=2))
    assert pull.state is State.DONE


def test_deadline_ends_a_lookup_that_nobody_answers() -> None:
    play(started(), (Ticked(), 10.0, (NotFound(attempts=0),)), (found(A), 10.1, ()))


def test_deadline_does_not_end_a_delivery() -> None:
    pull = delivering(A)
    assert pull.on(Ticked(), 60.0) == ()
    assert pull.state is State.DELIVERING


def test_open_attempts_are_waited_for_when_the_cap_is_reached() -> None:
    pull = started(replace(LIMITS, attempts_max=2))
    missing = Failure.MISSING
    play(
        pull,
        (found(A, B, C), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (*avoided(A), Fetch(attempt=2, holder=B), WakeAt(at_s=1.0))),
        (failed(2, missing), 0.75, (*forgotten(B), Lookup(everyone=True), WakeAt(at_s=3.0))),
        (found(A, B, exhaustive=True), 0.875, (Fetch(attempt=3, holder=C), WakeAt(at_s=1.375))),
        (failed(3, missing), 1.0, (*forgotten(C), WakeAt(at_s=3.0))),
        (Responded(attempt=1), 2.0, (Deliver(attempt=1, holder=A),)),
    )


# Busy holders.


def test_busy_holder_makes_way_for_the_next_and_is_neither_avoided_nor_forgotten() -> None:
    relieved = (Relieve(node=A.node, wait_s=2.0), Fetch(attempt=2, holder=B), WakeAt(at_s=0.75))
    play(
        started(),
        (found(A, B), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (failed(1, Failure.BUSY, 2.0), 0.25, relieved),
        (Responded(attempt=2), 0.5, (Deliver(attempt=2, holder=B),)),
    )


def test_busy_holder_is_asked_again_when_the_time_that_it_said_is_over() -> None:
    play(
        started(),
        (found(A, exhaustive=True), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (failed(1, Failure.BUSY, 2.0), 0.25, (Relieve(node=A.node, wait_s=2.0), WakeAt(at_s=2.25))),
        (Ticked(), 2.0, (WakeAt(at_s=2.25),)),
        (Ticked(), 2.25, (Fetch(attempt=2, holder=A), WakeAt(at_s=2.75))),
        (Responded(attempt=2), 2.5, (Deliver(attempt=2, holder=A),)),
    )


def test_waiting_in_line_is_not_failing_so_no_attempts_are_used_up_by_it() -> None:
    pull = started(replace(LIMITS, attempts_max=1))
    pull.on(found(A, exhaustive=True), 0.0)
    now_s = 0.0
    for attempt in range(1, 9):
        pull.on(failed(attempt, Failure.BUSY, 1.0), now_s)
        now_s += 1.0
        assert Fetch(attempt=attempt + 1, holder=A) in pull.on(Ticked(), now_s)
    assert Deliver(attempt=9, holder=A) in pull.on(Responded(attempt=9), now_s)


def test_busy_holder_whose_time_ends_during_a_lookup_and_a_race_is_still_asked_again() -> None:
    pull = started()
    pull.on(found(A, B, C), 0.0)
    pull.on(failed(1, Failure.BUSY, 1.25), 0.0)
    pull.on(Ticked(), 0.5)  # B is slow: C is asked as well
    assert Lookup(everyone=True) in pull.on(Ticked(), 1.0)  # and so is C
    asked = pull.on(Ticked(), 1.25)  # A's time is over
    asked += pull.on(found(A, B, C, exhaustive=True), 1.375)
    asked += pull.on(failed(2, Failure.MISSING), 1.5)
    asked += pull.on(failed(3, Failure.MISSING), 1.625)
    assert [command.holder for command in asked if isinstance(command, Fetch)] == [A]
    assert pull.state is State.SEEKING


def test_busy_holder_that_says_a_time_past_the_deadline_is_not_waited_for() -> None:
    """So containerd asks the registry ten seconds sooner."""
    pull = started()
    pull.on(found(A, exhaustive=True), 0.0)
    assert pull.on(failed(1, Failure.BUSY, 60.0), 0.25)[-1] == NotFound(attempts=1)
