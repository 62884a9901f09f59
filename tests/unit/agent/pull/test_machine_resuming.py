"""The pull machine after a body broke off, and for a client that has a part already."""

from dataclasses import replace

import pytest

from agent.pull.events import (
    PROGRESS_BYTES,
    Abandon,
    Broke,
    Command,
    Completed,
    Cut,
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
    shunned,
    started,
)

# After the first byte.


def test_holder_that_becomes_busy_between_two_pieces_is_asked_again_after_the_time_that_it_named() -> None:
    pull = delivering(A)
    commands = pull.on(Broke(failure=Failure.BUSY, offset=10, wait_s=2.0), 5.0)
    assert commands == (Abandon(attempt=1), Relieve(node=A.node, wait_s=2.0), WakeAt(at_s=7.0))
    assert Fetch(attempt=2, holder=A, offset=10) in pull.on(Ticked(), 7.0)


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
