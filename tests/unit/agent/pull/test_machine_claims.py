"""The pull machine when nobody has the content: whose turn it is to fetch it from the registry."""

from dataclasses import replace

import pytest

from agent.pull.events import (
    Abandon,
    AskClaim,
    Broke,
    ClaimAnswered,
    ClientGone,
    Command,
    Cut,
    Deliver,
    Event,
    Failure,
    Fetch,
    Lookup,
    NotFound,
    Responded,
    Ticked,
    Turn,
    WakeAt,
)
from agent.pull.machine import Pull, State
from tests.unit.agent.pull.playbook import (
    LIMITS,
    A,
    B,
    C,
    failed,
    forgotten,
    found,
    play,
    ranked,
    started,
)
from topology.placement import Tier
from topology.ranking import Condition

WAIT_S, LOOK_S = 20.0, 5.0
CLAIMING = replace(LIMITS, claim_wait_s=WAIT_S, claim_look_s=LOOK_S)
NOBODY = found(exhaustive=True)
ARRIVING = A._replace(condition=Condition(in_flight=0))


def asked(offset: int = 0, wait_s: float = WAIT_S, despite: object = None) -> AskClaim:
    return AskClaim(offset=offset, wait_s=wait_s, despite=despite)  # type: ignore[arg-type]


def others_turn(*holders: object, complete: bool = False) -> ClaimAnswered:
    return ClaimAnswered(turn=Turn.OTHER, holders=holders, complete=complete)  # type: ignore[arg-type]


OWN, NOBODYS = ClaimAnswered(turn=Turn.OWN), ClaimAnswered(turn=Turn.NOBODYS)


def waiting(now_s: float = 0.125) -> Pull:
    """A pull that nobody can serve, and that asked for a turn."""
    pull = started(CLAIMING)
    assert pull.on(NOBODY, now_s) == (asked(), WakeAt(at_s=now_s + LOOK_S))
    return pull


def commands(pull: Pull, event: Event, now_s: float) -> tuple[Command, ...]:
    """What it does, but for when it wants to be woken."""
    return tuple(command for command in pull.on(event, now_s) if not isinstance(command, WakeAt))


def starve(pull: Pull, attempt: int, now_s: float) -> tuple[Command, ...]:
    """The holder is not ahead, however often it is asked. Returns what the pull does then."""
    while True:
        done = commands(pull, failed(attempt, Failure.STARVED), now_s)
        if done != (Fetch(attempt=attempt + 1, holder=ARRIVING),):
            return done
        attempt += 1


@pytest.mark.parametrize("answer", [OWN, NOBODYS])
def test_own_turn_and_nobodys_send_the_client_to_the_registry_at_once(answer: ClaimAnswered) -> None:
    play(waiting(), (answer, 0.25, (NotFound(attempts=0),)))


def test_nobody_is_asked_where_claims_are_off() -> None:
    play(started(), (NOBODY, 0.125, (NotFound(attempts=0),)))


def test_whoever_has_it_by_then_is_fetched_from() -> None:
    pull = waiting()
    assert commands(pull, others_turn(A), 12.0) == (Fetch(attempt=1, holder=A),)
    assert commands(pull, Responded(attempt=1), 12.1) == (Deliver(attempt=1, holder=A),)


def test_time_that_it_waits_for_a_turn_adds_to_the_deadline_and_no_more() -> None:
    pull = waiting(0.0)
    assert commands(pull, others_turn(A), 15.0) == (Fetch(attempt=1, holder=A),)
    assert asked(wait_s=5.0, despite=A.node) in commands(pull, failed(1), 18.0)
    assert NotFound(attempts=1) in commands(pull, Ticked(), 15.0 + 10.0 + 3 * 5.0 + 2.0)


def test_answer_that_does_not_come_ends_the_wait() -> None:
    pull = waiting(0.0)
    now_s = 0.0
    while pull.state is State.SEEKING:
        now_s += 0.5
        for command in commands(pull, Ticked(), now_s):
            if isinstance(command, Lookup):
                assert commands(pull, NOBODY, now_s) == ()
    assert 3 * WAIT_S <= now_s <= 3 * WAIT_S + 3.0


def test_all_peers_are_looked_at_again_while_a_turn_is_waited_for() -> None:
    play(
        waiting(0.0),
        (Ticked(), 5.0, (Lookup(everyone=True), WakeAt(at_s=62.0))),
        (NOBODY, 5.25, (WakeAt(at_s=10.25),)),
        (Ticked(), 10.25, (Lookup(everyone=True), WakeAt(at_s=62.0))),
        (found(A, exhaustive=True), 10.5, (Fetch(attempt=1, holder=A), WakeAt(at_s=11.0))),
        (Responded(attempt=1), 10.75, (Deliver(attempt=1, holder=A),)),
    )


def test_answer_that_comes_while_another_holder_delivers_changes_nothing() -> None:
    pull = waiting(0.0)
    commands(pull, Ticked(), 5.0)
    commands(pull, found(A, exhaustive=True), 5.0)
    commands(pull, Responded(attempt=1), 5.0)
    assert commands(pull, OWN, 6.0) == ()
    assert pull.state is State.DELIVERING


def test_holder_whose_turn_it_is_may_be_tried_again_and_again_as_it_gets_more() -> None:
    pull = started(CLAIMING)
    assert commands(pull, found(A, exhaustive=True), 0.0) == (Fetch(attempt=1, holder=A),)
    assert commands(pull, failed(1, Failure.MISSING), 0.0) == (*forgotten(A), asked())
    assert commands(pull, others_turn(ARRIVING), 1.0) == (Fetch(attempt=2, holder=ARRIVING),)
    assert starve(pull, 2, 1.0) == (asked(wait_s=19.0),)
    assert commands(pull, others_turn(ARRIVING), 2.0) == (Fetch(attempt=6, holder=ARRIVING),)


def test_who_is_said_to_have_it_and_gives_nothing_is_complained_of() -> None:
    pull = waiting(0.0)
    commands(pull, others_turn(A), 0.0)
    assert asked(despite=A.node) in commands(pull, failed(1, Failure.SILENT), 0.0)
    assert commands(pull, others_turn(B), 1.0) == (Fetch(attempt=2, holder=B),)
    assert asked(wait_s=19.0, despite=B.node) in commands(pull, failed(2, Failure.ERROR), 1.0)


def test_who_only_ever_says_that_it_has_more_is_complained_of() -> None:
    pull = waiting(0.0)
    commands(pull, others_turn(ARRIVING), 0.0)
    assert starve(pull, 1, 0.0) == (asked(),)
    commands(pull, others_turn(ARRIVING), 0.0)
    assert starve(pull, 5, 0.0) == (asked(despite=A.node),)


def test_who_says_that_it_has_bytes_and_sends_none_is_complained_of_the_second_time() -> None:
    pull = waiting(0.0)
    for attempt, despite in ((1, None), (2, A.node)):
        commands(pull, others_turn(A), 0.0)
        commands(pull, Responded(attempt=attempt), 0.0)
        broke = Broke(failure=Failure.STARVED, offset=attempt)
        assert asked(offset=attempt, despite=despite) in commands(pull, broke, 0.0)


def test_who_has_all_of_it_and_gives_nothing_is_complained_of_at_once() -> None:
    """Where layers are discarded once they are unpacked, say."""
    pull = waiting(0.0)
    commands(pull, others_turn(A, complete=True), 0.0)
    assert asked(despite=A.node) in commands(pull, failed(1, Failure.MISSING), 0.0)


def test_who_is_sent_on_to_others_complains_of_nobody() -> None:
    pull = waiting(0.0)
    commands(pull, others_turn(A), 0.0)
    assert commands(pull, failed(1, Failure.SHARED), 0.0) == (Fetch(attempt=2, holder=A),)
    assert commands(pull, failed(2, Failure.SHARED), 0.0)[-1:] == (asked(),)


def test_content_that_is_given_under_other_names_only_is_not_waited_for() -> None:
    pull = waiting(0.0)
    commands(pull, others_turn(A), 0.0)
    assert commands(pull, failed(1, Failure.WITHHELD), 0.0)[-1] == NotFound(attempts=0)


def test_turn_of_somebody_who_may_not_be_asked_is_nobodys() -> None:
    play(waiting(), (others_turn(), 0.25, (NotFound(attempts=0),)))


def test_range_that_selects_nothing_is_nobodys_turn() -> None:
    pull = started(CLAIMING)
    commands(pull, found(A, exhaustive=True), 0.0)
    assert commands(pull, failed(1, Failure.UNSATISFIABLE), 0.0)[-1] == NotFound(attempts=1)


def test_body_that_breaks_off_goes_on_with_whoever_fetches_the_rest() -> None:
    pull = started(CLAIMING)
    commands(pull, found(A, exhaustive=True), 0.0)
    commands(pull, Responded(attempt=1), 0.0)
    assert asked(offset=7) in commands(pull, Broke(failure=Failure.BROKEN, offset=7), 1.0)
    assert commands(pull, others_turn(B), 4.0) == (Fetch(attempt=2, holder=B, offset=7),)


def test_body_that_breaks_off_is_cut_for_whoever_has_to_fetch_the_rest() -> None:
    pull = started(CLAIMING)
    commands(pull, found(A, exhaustive=True), 0.0)
    commands(pull, Responded(attempt=1), 0.0)
    commands(pull, Broke(failure=Failure.BROKEN, offset=7), 1.0)
    assert commands(pull, OWN, 4.0) == (Cut(),)


def test_turn_is_asked_for_so_often_and_no_more() -> None:
    pull = started(replace(CLAIMING, attempts_max=100))
    pull.on(NOBODY, 0.0)
    questions = 1
    for attempt in range(1, 100):
        commands(pull, others_turn(A, B, C), 0.0)
        for _ in range(3):
            for command in pull.on(failed(attempt, Failure.SHARED), 0.0):
                questions += isinstance(command, AskClaim)
        if pull.state is State.DONE:
            break
    assert pull.state is State.DONE
    assert questions == 8


def test_client_that_leaves_while_it_waits_ends_the_pull() -> None:
    pull = waiting(0.0)
    commands(pull, others_turn(A), 0.0)
    assert commands(pull, ClientGone(), 0.0) == (Abandon(attempt=1),)


BORDER_S = 2.0
CROSSING = replace(CLAIMING, border_wait_s=BORDER_S)
FAR, FARTHER = ranked("far", Tier.REGION), ranked("farther", Tier.REMOTE)


def at_border(*holders: object) -> Pull:
    """A pull of what only other zones have, that asked whose turn it is to bring it into its zone."""
    pull = started(CROSSING)
    answer = found(*holders or (FAR,), exhaustive=True)  # type: ignore[arg-type]
    assert commands(pull, answer, 0.125) == (asked(wait_s=BORDER_S),)
    return pull


def test_own_turn_at_the_border_is_to_fetch_it_from_the_other_zone() -> None:
    assert commands(at_border(), OWN, 0.25) == (Fetch(attempt=1, holder=FAR),)


def test_whoever_brings_it_into_the_zone_is_followed() -> None:
    assert commands(at_border(), others_turn(A), 1.0) == (Fetch(attempt=1, holder=A),)


@pytest.mark.parametrize("event", [NOBODYS, Ticked()])
def test_pull_waits_two_seconds_at_the_border_and_then_crosses_it(event: Event) -> None:
    pull = at_border()
    assert commands(pull, Ticked(), 2.0) == ()
    assert commands(pull, event, 0.125 + BORDER_S) == (Fetch(attempt=1, holder=FAR),)


def test_border_is_asked_about_once() -> None:
    pull = at_border(FAR, FARTHER)
    commands(pull, NOBODYS, 0.25)
    assert Fetch(attempt=2, holder=FARTHER) in commands(pull, failed(1, Failure.MISSING), 0.5)


def test_pull_that_no_other_zone_serves_still_waits_for_its_turn_at_the_registry() -> None:
    pull = at_border()
    commands(pull, NOBODYS, 0.25)
    assert asked(wait_s=WAIT_S - 0.125) in commands(pull, failed(1, Failure.MISSING), 0.5)


def test_pull_whose_turn_it_is_and_that_no_other_zone_serves_goes_to_the_registry() -> None:
    pull = at_border()
    commands(pull, OWN, 0.25)
    assert NotFound(attempts=1) in commands(pull, failed(1, Failure.MISSING), 0.5)


def test_holder_of_the_own_zone_is_asked_at_once() -> None:
    pull = started(CROSSING)
    assert commands(pull, found(A, FAR, exhaustive=True), 0.125) == (Fetch(attempt=1, holder=A),)


def test_pull_of_what_is_small_crosses_the_border_at_once() -> None:
    pull = started(CLAIMING)
    assert commands(pull, found(FAR, exhaustive=True), 0.125) == (Fetch(attempt=1, holder=FAR),)


def test_client_that_leaves_at_the_border_ends_the_pull() -> None:
    pull = at_border()
    pull.on(ClientGone(), 0.5)
    assert pull.state is State.DONE
