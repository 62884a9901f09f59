"""The pull machine while several holders give parts of the body."""

import pytest

from agent.pull.events import (
    PROGRESS_BYTES,
    Abandon,
    Broke,
    Completed,
    Cut,
    Deliver,
    Failure,
    Fetch,
    Gathered,
    Lookup,
    Progressed,
    Relieve,
    Responded,
    Stripe,
    Ticked,
    WakeAt,
)
from agent.pull.machine import Pull, State
from tests.unit.agent.pull.playbook import (
    STRIPING,
    A,
    B,
    C,
    D,
    avoided,
    delivering,
    failed,
    forgotten,
    found,
    lane_failed,
    play,
    progressed,
    ranked,
    shunned,
)
from topology.placement import Tier
from topology.ranking import Condition, Ranked


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
