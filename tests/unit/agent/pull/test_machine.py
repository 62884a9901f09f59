"""The end of a pull, and events that come too late or too early.

The states before the end are in ``test_machine_*.py``.
"""

import pytest

from agent.pull.events import (
    PROGRESS_BYTES,
    Abandon,
    Broke,
    ClientGone,
    Commend,
    Completed,
    Event,
    Failed,
    Failure,
    Fetch,
    Found,
    Gathered,
    Limits,
    NotFound,
    Responded,
    Ticked,
)
from agent.pull.machine import State
from tests.unit.agent.pull.playbook import (
    DEADLINE,
    A,
    B,
    C,
    D,
    delivering,
    failed,
    found,
    lane_failed,
    play,
    progressed,
    started,
)


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
