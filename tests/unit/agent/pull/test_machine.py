"""The pull state machine: playbooks of (event, time, expected commands).

What holds under every schedule is in ``test_machine_schedules.py``.
"""

from dataclasses import replace

import pytest

from agent.pull.events import (
    PROGRESS_BYTES,
    Abandon,
    Avoid,
    Broke,
    ClientGone,
    Command,
    Commend,
    Completed,
    Cut,
    Deliver,
    Event,
    Failed,
    Failure,
    Fetch,
    Forget,
    Found,
    Gathered,
    GiveUp,
    LaneFailed,
    Limits,
    Lookup,
    NotFound,
    Progressed,
    Relieve,
    Responded,
    Shun,
    Stripe,
    Ticked,
    WakeAt,
)
from agent.pull.machine import Pull, State
from agent.pull.meter import Rate
from tests.unit.twins import node
from topology.placement import Tier
from topology.ranking import Condition, Ranked

LIMITS = Limits(patience_s=0.5, deadline_s=10.0, attempts_max=3)
HEDGING = replace(LIMITS, hedge_s={Tier.ZONE: 0.125})
FLOORED = replace(LIMITS, floor_bytes_per_s=65536, floor_ratio=0.1)
STRIPING = replace(LIMITS, stripe_min_bytes=64 << 20)
DEADLINE = WakeAt(at_s=10.0)
GIB = 1 << 30
Step = tuple[Event, float, tuple[Command, ...]]


def ranked(name: str, tier: Tier = Tier.ZONE, condition: Condition | None = None) -> Ranked:
    return Ranked(node=node(name), tier=tier, rank=1, condition=condition or Condition())


A, B, C, D = (ranked(name) for name in "abcd")


def started(limits: Limits = LIMITS) -> Pull:
    pull = Pull(limits=limits)
    pull.start(0.0)
    return pull


def delivering(*holders: Ranked, limits: Limits = LIMITS, exhaustive: bool = True) -> Pull:
    """A pull that delivers from the first of these holders since 0.25 s."""
    pull = started(limits)
    pull.on(found(*holders, exhaustive=exhaustive), 0.0)
    assert Deliver(attempt=1, holder=holders[0]) in pull.on(Responded(attempt=1), 0.25)
    return pull


def play(pull: Pull, *steps: Step) -> None:
    for number, (event, now_s, expected) in enumerate(steps):
        assert pull.on(event, now_s) == expected, f"step {number}: {event} at {now_s} s"


def found(*holders: Ranked, exhaustive: bool = False) -> Found:
    return Found(holders=holders, exhaustive=exhaustive)


def failed(attempt: int, failure: Failure = Failure.UNREACHABLE, wait_s: float = 0.0) -> Failed:
    return Failed(attempt=attempt, failure=failure, wait_s=wait_s)


def progressed(
    bytes_per_s: float,
    *,
    over_s: float = 3.0,
    source_bound: bool = True,
    left_bytes: int = GIB,
    usual: float = 0.0,
    lanes_max: int = 1,
) -> Progressed:
    rate = Rate(bytes_per_s=bytes_per_s, over_s=over_s, source_bound=source_bound)
    return Progressed(left_bytes=left_bytes, rate=rate, expected_bytes_per_s=usual, lanes_max=lanes_max)


def avoided(holder: Ranked) -> tuple[Command, ...]:
    return (Avoid(node=holder.node),)


def shunned(holder: Ranked) -> tuple[Command, ...]:
    return (Avoid(node=holder.node), Shun(node=holder.node))


def forgotten(holder: Ranked) -> tuple[Command, ...]:
    return (Forget(node=holder.node),)


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


# After the first byte.


@pytest.mark.parametrize("failure", [Failure.BROKEN, Failure.SILENT, Failure.SLOW, Failure.INVALID])
def test_body_that_breaks_goes_on_from_the_next_holder_at_the_exact_offset(failure: Failure) -> None:
    pull = delivering(A, B)
    resumed = Fetch(attempt=2, holder=B, offset=54_321)
    expected = (Abandon(attempt=1), *shunned(A), resumed, WakeAt(at_s=5.5))
    assert pull.on(Broke(failure=failure, offset=54_321), 5.0) == expected
    assert pull.on(Responded(attempt=2), 5.25) == (Deliver(attempt=2, holder=B),)
    assert pull.on(Completed(), 6.0) == (Abandon(attempt=2),)


def test_body_that_breaks_with_nobody_left_is_cut_after_everyone_was_asked() -> None:
    pull = delivering(A, exhaustive=False)
    lookup = (Abandon(attempt=1), *shunned(A), Lookup(everyone=True), WakeAt(at_s=15.0))
    play(
        pull,
        (Broke(failure=Failure.BROKEN, offset=1000), 5.0, lookup),
        (found(A, exhaustive=True), 5.25, (Cut(),)),
    )
    assert pull.state is State.DONE


def test_holder_that_gave_plenty_before_it_broke_off_is_asked_once_more_after_all_others() -> None:
    pull = delivering(A, B)
    first = Fetch(attempt=2, holder=B, offset=PROGRESS_BYTES)
    again = Fetch(attempt=3, holder=A, offset=PROGRESS_BYTES)
    play(
        pull,
        (
            Broke(failure=Failure.BROKEN, offset=PROGRESS_BYTES),
            5.0,
            (Abandon(attempt=1), *avoided(A), first, WakeAt(at_s=5.5)),
        ),
        (failed(2, Failure.MISSING), 5.25, (*forgotten(B), Lookup(everyone=True), WakeAt(at_s=15.0))),
        (found(A, B, exhaustive=True), 5.25, (again, WakeAt(at_s=5.75))),
        (Responded(attempt=3), 5.5, (Deliver(attempt=3, holder=A),)),
        (
            Broke(failure=Failure.BROKEN, offset=PROGRESS_BYTES + 5),
            6.0,
            (Abandon(attempt=3), *shunned(A), Cut()),
        ),
    )


@pytest.mark.parametrize("failure", [Failure.SILENT, Failure.SLOW, Failure.INVALID])
def test_holder_that_stalls_is_not_asked_again_however_much_it_gave(failure: Failure) -> None:
    pull = delivering(A)
    commands = pull.on(Broke(failure=failure, offset=10 * PROGRESS_BYTES), 5.0)
    assert commands[:3] == (Abandon(attempt=1), *shunned(A))
    assert pull.on(found(A, exhaustive=True), 5.25) == (Cut(),)


def test_second_chance_is_measured_from_where_the_holder_began() -> None:
    pull = delivering(A, B)
    pull.on(Broke(failure=Failure.BROKEN, offset=10 * PROGRESS_BYTES), 5.0)
    pull.on(Responded(attempt=2), 5.25)
    commands = pull.on(Broke(failure=Failure.BROKEN, offset=11 * PROGRESS_BYTES - 1), 6.0)
    assert commands[:3] == (Abandon(attempt=2), *shunned(B))
    commands = pull.on(found(A, B, exhaustive=True), 6.25)
    assert Fetch(attempt=3, holder=A, offset=11 * PROGRESS_BYTES - 1) in commands


def test_body_that_went_on_for_a_mebibyte_has_everyone_asked_anew() -> None:
    """The look-up from before the body began may be old."""
    pull = delivering(A)
    commands = pull.on(Broke(failure=Failure.SILENT, offset=PROGRESS_BYTES), 300.0)
    assert commands == (Abandon(attempt=1), *shunned(A), Lookup(everyone=True), WakeAt(at_s=310.0))
    assert Fetch(attempt=2, holder=D, offset=PROGRESS_BYTES) in pull.on(found(D, exhaustive=True), 300.25)
    pull = delivering(A)
    assert pull.on(Broke(failure=Failure.SILENT, offset=PROGRESS_BYTES - 1), 300.0)[-1] == Cut()


def test_body_that_went_on_for_a_mebibyte_starts_counting_attempts_anew() -> None:
    limits = replace(LIMITS, attempts_max=1)
    pull = delivering(A, B, limits=limits)
    commands = pull.on(Broke(failure=Failure.SILENT, offset=PROGRESS_BYTES), 5.0)
    assert Fetch(attempt=2, holder=B, offset=PROGRESS_BYTES) in commands
    pull = delivering(A, B, limits=limits)
    commands = pull.on(Broke(failure=Failure.SILENT, offset=PROGRESS_BYTES - 1), 5.0)
    assert Lookup(everyone=True) in commands


def test_loser_of_a_race_is_the_next_when_the_winner_breaks_off() -> None:
    pull = started(HEDGING)
    pull.on(found(A, B, C, exhaustive=True), 0.0)
    pull.on(Ticked(), 0.125)
    pull.on(Responded(attempt=2), 0.25)
    commands = pull.on(Broke(failure=Failure.SILENT, offset=7), 1.0)
    assert Fetch(attempt=3, holder=A, offset=7) in commands


def test_loser_that_was_too_slow_comes_after_those_not_asked_yet() -> None:
    pull = started(replace(LIMITS, attempts_max=5))
    pull.on(found(A, B, C, exhaustive=True), 0.0)
    pull.on(Ticked(), 0.5)
    pull.on(Responded(attempt=2), 0.75)
    assert Fetch(attempt=3, holder=C, offset=7) in pull.on(Broke(failure=Failure.SILENT, offset=7), 1.0)
    assert Fetch(attempt=4, holder=A, offset=7) in pull.on(failed(3, Failure.MISSING), 1.25)


def test_deadline_runs_from_the_break_and_not_from_the_beginning() -> None:
    pull = delivering(A, exhaustive=False)
    pull.on(Broke(failure=Failure.BROKEN, offset=1), 100.0)
    assert pull.on(Ticked(), 109.0) == (WakeAt(at_s=110.0),)
    assert pull.on(Ticked(), 110.0) == (Cut(),)


@pytest.mark.parametrize(("more_bytes", "deadline_s"), [(PROGRESS_BYTES - 1, 110.0), (PROGRESS_BYTES, 115.0)])
def test_body_that_comes_byte_after_byte_from_one_after_the_other_keeps_its_deadline(
    more_bytes: int, deadline_s: float
) -> None:
    pull = delivering(A, B, exhaustive=False)
    pull.on(Broke(failure=Failure.SILENT, offset=1), 100.0)
    pull.on(Responded(attempt=2), 100.25)
    commands = pull.on(Broke(failure=Failure.SILENT, offset=1 + more_bytes), 105.0)
    assert commands[-2:] == (Lookup(everyone=True), WakeAt(at_s=deadline_s))


def test_busy_holder_is_waited_for_before_a_body_is_cut() -> None:
    pull = delivering(A, B)
    pull.on(Broke(failure=Failure.SILENT, offset=77), 5.0)
    assert pull.on(failed(2, Failure.BUSY, 1.0), 5.25)[-1] == WakeAt(at_s=6.25)
    assert Fetch(attempt=3, holder=B, offset=77) in pull.on(Ticked(), 6.25)


# Too slow.


def test_source_below_the_floor_is_given_up_even_if_nobody_else_has_it() -> None:
    pull = delivering(A, limits=FLOORED)
    assert pull.on(progressed(65535.0), 4.0) == (GiveUp(failure=Failure.SLOW),)
    assert pull.on(Broke(failure=Failure.SLOW, offset=5), 4.0) == (Abandon(attempt=1), *shunned(A), Cut())


@pytest.mark.parametrize(
    "progress",
    [
        progressed(65536.0),
        progressed(1.0, over_s=2.9),
        progressed(1.0, source_bound=False),
        progressed(1e6, usual=9e6),
    ],
    ids=["at the floor", "not long enough", "the reader is the slower one", "above a tenth of the usual"],
)
def test_source_that_is_fast_enough_goes_on(progress: Progressed) -> None:
    assert delivering(A, B, limits=FLOORED).on(progress, 4.0) == ()


def test_source_far_below_the_usual_makes_way_for_another_is_not_blamed_and_may_come_back() -> None:
    pull = delivering(A, B, limits=FLOORED)
    assert pull.on(progressed(1e6, usual=11e6), 4.0) == (GiveUp(failure=Failure.LAGGING),)
    abandon, finding, *rest = pull.on(Broke(failure=Failure.LAGGING, offset=5), 4.0)
    assert abandon == Abandon(attempt=1)
    assert isinstance(finding, Relieve), "others come first for a while"
    assert rest == [Fetch(attempt=2, holder=B, offset=5), WakeAt(at_s=4.5)]
    assert Fetch(attempt=3, holder=A, offset=5) in pull.on(failed(2, Failure.MISSING), 4.25)


def test_source_far_below_the_usual_goes_on_while_everyone_is_asked_who_else_has_it() -> None:
    pull = delivering(A, limits=FLOORED, exhaustive=False)
    play(
        pull,
        (progressed(1e6, usual=11e6), 4.0, (Lookup(everyone=True),)),
        (progressed(1e6, usual=11e6), 4.25, ()),
        (found(A, B, exhaustive=True), 4.5, ()),
        (progressed(1e6, usual=11e6), 4.75, (GiveUp(failure=Failure.LAGGING),)),
    )


def test_source_far_below_the_usual_goes_on_where_nobody_else_is_well() -> None:
    cooling, full = ranked("b", condition=Condition(cooling=True)), ranked("c", condition=Condition(0, True))
    pull = delivering(A, cooling, full, limits=FLOORED)
    assert pull.on(progressed(1e6, usual=11e6), 4.0) == ()


# Several holders at once.


def test_source_slower_than_its_reader_is_helped_by_others_of_its_tier() -> None:
    far, tired = ranked("far", Tier.REGION), ranked("tired", condition=Condition(cooling=True))
    pull = delivering(A, far, tired, B, C, D, limits=STRIPING)
    assert pull.on(progressed(50e6, over_s=1.0, lanes_max=3), 1.0) == (Stripe(holders=(B, C)),), (
        "of three lanes one is A's"
    )
    assert pull.on(progressed(50e6, lanes_max=3), 2.0) == (), "only once"
    assert pull.on(Completed(), 3.0) == (Abandon(attempt=1),)


@pytest.mark.parametrize(
    "progress",
    [
        progressed(50e6, source_bound=False, lanes_max=3),
        progressed(50e6, left_bytes=(64 << 20) - 1, lanes_max=3),
        progressed(500e6, lanes_max=3),
        progressed(50e6, over_s=0.3, lanes_max=3),
        progressed(50e6, lanes_max=1),
    ],
    ids=["the reader is the slower one", "too little left", "fast enough", "not up to speed yet", "no room"],
)
def test_body_is_not_striped_where_it_would_not_help(progress: Progressed) -> None:
    assert delivering(A, B, limits=STRIPING).on(progress, 1.0) == ()


def test_source_that_nobody_known_can_help_makes_it_ask_everyone_once() -> None:
    pull = delivering(A, limits=STRIPING, exhaustive=False)
    play(
        pull,
        (progressed(50e6, lanes_max=3), 2.0, (Lookup(everyone=True),)),
        (progressed(50e6, lanes_max=3), 2.25, ()),
        (found(A, B, exhaustive=True), 2.5, ()),
        (progressed(50e6, lanes_max=3), 2.75, (Stripe(holders=(B,)),)),
    )


def striped(*others: Ranked) -> Pull:
    pull = delivering(A, *others, limits=STRIPING)
    (command,) = pull.on(progressed(50e6, lanes_max=3), 1.0)
    assert isinstance(command, Stripe)
    return pull


def lane_failed(holder: Ranked, failure: Failure, given_bytes: int = 0, wait_s: float = 0.0) -> LaneFailed:
    return LaneFailed(holder=holder, failure=failure, given_bytes=given_bytes, wait_s=wait_s)


def test_lane_that_fails_has_its_finding_at_once_and_the_others_go_on() -> None:
    pull = striped(B, C)
    assert pull.on(lane_failed(B, Failure.SILENT), 2.0) == shunned(B)
    assert pull.on(lane_failed(C, Failure.MISSING), 2.0) == forgotten(C)
    assert pull.state is State.STRIPING


def test_striped_body_whose_lanes_all_failed_goes_on_from_others_and_nobody_is_blamed_twice() -> None:
    pull = striped(B, C, D)
    for lane in (A, B, C):
        pull.on(lane_failed(lane, Failure.SILENT, 100 * PROGRESS_BYTES), 2.0)
    resumed = Fetch(attempt=2, holder=D, offset=12_345_678)
    commands = pull.on(Broke(failure=Failure.SILENT, offset=12_345_678), 2.0)
    assert commands == (Abandon(attempt=1), resumed, WakeAt(at_s=2.5))


def test_lane_that_gave_plenty_before_it_broke_off_is_asked_once_more_after_all_others() -> None:
    pull = striped(B, C, D)
    assert pull.on(lane_failed(B, Failure.BROKEN, PROGRESS_BYTES), 2.0) == avoided(B)
    assert pull.on(lane_failed(A, Failure.BROKEN, PROGRESS_BYTES - 1), 2.0) == shunned(A)
    assert pull.on(lane_failed(C, Failure.SILENT, PROGRESS_BYTES), 2.0) == shunned(C)
    commands = pull.on(Broke(failure=Failure.SILENT, offset=PROGRESS_BYTES), 2.0)
    assert Fetch(attempt=2, holder=D, offset=PROGRESS_BYTES) in commands
    assert Lookup(everyone=True) in pull.on(failed(2, Failure.MISSING), 2.25)
    commands = pull.on(found(A, B, C, D, exhaustive=True), 2.25)
    assert Fetch(attempt=3, holder=B, offset=PROGRESS_BYTES) in commands
    assert pull.on(failed(3, Failure.MISSING), 2.5)[-1] == Cut()


def test_striped_body_whose_lanes_were_all_refused_waits_for_the_first_that_has_room() -> None:
    """A lane sends a request for each segment, so a holder may refuse in the middle of a body."""
    pull = striped(B)
    for lane, wait_s in ((A, 2.0), (B, 1.0)):
        assert pull.on(lane_failed(lane, Failure.BUSY, 0, wait_s), 2.0) == (
            Relieve(node=lane.node, wait_s=wait_s),
        )
    commands = pull.on(Broke(failure=Failure.BUSY, offset=7), 2.0)
    assert commands == (Abandon(attempt=1), WakeAt(at_s=3.0))
    assert Fetch(attempt=2, holder=B, offset=7) in pull.on(Ticked(), 3.0)


def test_lanes_that_were_refused_until_past_the_deadline_are_not_waited_for() -> None:
    pull = striped(B)
    for lane in (A, B):
        pull.on(lane_failed(lane, Failure.BUSY, 0, 60.0), 2.0)
    assert pull.on(Broke(failure=Failure.BUSY, offset=5), 2.0) == (Abandon(attempt=1), Cut())


@pytest.mark.parametrize(("fails", "dismissed"), [(A, B), (B, A)])
def test_lane_that_was_only_dismissed_as_slower_is_asked_when_the_others_failed(
    fails: Ranked, dismissed: Ranked
) -> None:
    pull = striped(B)
    pull.on(lane_failed(fails, Failure.SILENT), 2.0)
    commands = pull.on(Broke(failure=Failure.SILENT, offset=5), 2.0)
    assert Fetch(attempt=2, holder=dismissed, offset=5) in commands


def test_body_that_several_give_no_faster_goes_on_from_the_first_alone_and_nobody_is_blamed() -> None:
    pull = striped(B, C)
    offset = 32 * PROGRESS_BYTES
    resumed = Fetch(attempt=2, holder=A, offset=offset)
    next_one = Fetch(attempt=3, holder=B, offset=offset + 5)
    play(
        pull,
        (Gathered(offset=offset, useless=True), 3.0, (Abandon(attempt=1), resumed, WakeAt(at_s=3.5))),
        (Responded(attempt=2), 3.25, (Deliver(attempt=2, holder=A),)),
        (progressed(50e6, lanes_max=3), 4.0, ()),
        (
            Broke(failure=Failure.SILENT, offset=offset + 5),
            5.0,
            (Abandon(attempt=2), *shunned(A), next_one, WakeAt(at_s=5.5)),
        ),
    )


def test_body_of_which_one_lane_is_left_goes_on_from_that_one_and_may_be_striped_again() -> None:
    pull = striped(B, C, D)
    pull.on(lane_failed(A, Failure.SILENT), 2.0)
    pull.on(lane_failed(C, Failure.SILENT), 2.0)
    commands = pull.on(Gathered(offset=5, useless=False), 3.0)
    assert commands == (Abandon(attempt=1), Fetch(attempt=2, holder=B, offset=5), WakeAt(at_s=3.5))
    pull.on(Responded(attempt=2), 3.25)
    assert pull.on(progressed(50e6, lanes_max=3), 5.0) == (Stripe(holders=(D,)),)


# A client that has a part of it already.


def look_again_until_the_end(
    pull: Pull, commands: tuple[Command, ...], now_s: float
) -> tuple[Command, float]:
    """No look-up finds a holder. Returns how the pull ends, and when."""
    while pull.state is not State.DONE:
        (wake,) = commands
        assert isinstance(wake, WakeAt)
        assert now_s < wake.at_s <= now_s + 2.0
        now_s = wake.at_s
        assert pull.on(Ticked(), now_s)[0] == Lookup(everyone=True)
        commands = pull.on(found(exhaustive=True), now_s)
    return commands[-1], now_s


def test_not_found_to_a_client_that_resumes_waits_until_it_was_looked_for_again() -> None:
    pull = started(replace(LIMITS, stubborn_s=5.0))
    end, now_s = look_again_until_the_end(pull, pull.on(found(exhaustive=True), 0.25), 0.25)
    assert end == NotFound(attempts=0)
    assert 5.0 <= now_s <= 7.0


def test_body_is_cut_at_once_unless_the_client_takes_that_badly() -> None:
    broke = Broke(failure=Failure.SILENT, offset=5)
    assert delivering(A, limits=replace(LIMITS, stubborn_s=5.0)).on(broke, 20.0)[-1] == Cut()
    pull = delivering(A, limits=replace(LIMITS, stubborn_begun_s=5.0))
    commands = pull.on(broke, 20.0)
    assert commands[:3] == (Abandon(attempt=1), *shunned(A))
    end, now_s = look_again_until_the_end(pull, commands[3:], 20.0)
    assert end == Cut()
    assert 25.0 <= now_s <= 27.0


def test_client_that_resumes_is_given_what_a_later_look_up_finds() -> None:
    pull = started(replace(LIMITS, stubborn_s=5.0))
    pull.on(found(A, exhaustive=True), 0.0)
    wake = pull.on(failed(1, Failure.UNREACHABLE), 0.0)[-1]
    assert isinstance(wake, WakeAt)
    assert pull.on(Ticked(), wake.at_s)[0] == Lookup(everyone=True)
    assert Fetch(attempt=2, holder=A) in pull.on(found(A, exhaustive=True), wake.at_s)


# The end.


def test_peers_that_gave_plenty_to_the_end_are_commended_unless_they_failed() -> None:
    pull = delivering(A, B, C)
    pull.on(Broke(failure=Failure.BROKEN, offset=2 * PROGRESS_BYTES), 5.0)
    pull.on(Responded(attempt=2), 5.25)
    given = {A.node: 2 * PROGRESS_BYTES, B.node: PROGRESS_BYTES, C.node: PROGRESS_BYTES - 1}
    assert pull.on(Completed(given_bytes=given), 6.0) == (Abandon(attempt=2), Commend(node=B.node))


def test_client_that_goes_away_while_looking_ends_the_pull() -> None:
    pull = started()
    play(pull, (ClientGone(), 0.1, ()), (found(A), 0.2, ()))
    assert pull.state is State.DONE


def test_client_that_goes_away_ends_every_open_attempt() -> None:
    pull = started()
    pull.on(found(A, B), 0.0)
    pull.on(Ticked(), 0.5)
    assert pull.on(ClientGone(), 0.6) == (Abandon(attempt=1), Abandon(attempt=2))
    assert pull.state is State.DONE


def test_client_that_goes_away_ends_the_delivery() -> None:
    pull = delivering(A)
    assert pull.on(ClientGone(), 0.5) == (Abandon(attempt=1),)
    assert pull.state is State.DONE


def test_attempt_that_responds_twice_is_delivered_once() -> None:
    assert delivering(A).on(Responded(attempt=1), 0.5) == ()


@pytest.mark.parametrize(
    "late",
    [
        found(A),
        Responded(attempt=1),
        failed(1),
        Broke(failure=Failure.BROKEN, offset=0),
        progressed(0.0),
        lane_failed(A, Failure.BROKEN),
        Gathered(offset=0, useless=True),
        Completed(),
        Ticked(),
        ClientGone(),
    ],
)
def test_event_after_the_end_is_answered_with_nothing(late: Event) -> None:
    pull = started()
    pull.on(found(A), 0.0)
    pull.on(ClientGone(), 0.1)
    assert pull.on(late, 20.0) == ()


@pytest.mark.parametrize(
    "early",
    [
        Responded(attempt=1),
        failed(1),
        Broke(failure=Failure.BROKEN, offset=0),
        Gathered(offset=0, useless=True),
        progressed(0.0),
    ],
)
def test_event_about_what_never_began_changes_nothing(early: Event) -> None:
    assert started().on(early, 0.5) == (DEADLINE,)


def test_refusals_cost_no_attempts_and_those_not_asked_yet_come_first() -> None:
    pull = started(Limits(patience_s=0.5, deadline_s=10.0, attempts_max=2, stall_s=3.0))
    pull.on(Found(holders=(A, B, C, D), exhaustive=True), 0.0)
    asked = ["a"]
    for number in (1, 2, 3):
        commands = pull.on(Failed(attempt=number, failure=Failure.BUSY, wait_s=0.2), 0.1)
        asked += [command.holder.node for command in commands if isinstance(command, Fetch)]
    assert asked == ["a", "b", "c", "d"]


def test_range_that_nobody_has_is_told_at_once_to_a_client_that_resumes() -> None:
    pull = started(Limits(patience_s=0.5, deadline_s=10.0, attempts_max=2, stubborn_s=10.0))
    pull.on(Found(holders=(A,), exhaustive=True), 0.0)
    assert NotFound(attempts=1) in pull.on(Failed(attempt=1, failure=Failure.UNSATISFIABLE), 0.1)
