"""The pull state machine: playbooks of (event, time, expected commands), and what any schedule keeps."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pull.machine import (
    Abandon,
    Avoid,
    Broke,
    ClientGone,
    Command,
    Completed,
    Cut,
    Deliver,
    Event,
    Failed,
    Failure,
    Fetch,
    Forget,
    Found,
    Limits,
    Lookup,
    NotFound,
    Pull,
    Relieve,
    Responded,
    State,
    Ticked,
    WakeAt,
)
from tests.unit.twins import node
from topology.placement import Locality
from topology.ranking import Ranked

LIMITS = Limits(patience_s=0.5, deadline_s=10.0, attempts_max=3)
DEADLINE = WakeAt(at_s=10.0)
Step = tuple[Event, float, tuple[Command, ...]]


def ranked(name: str) -> Ranked:
    return Ranked(node=node(name), locality=Locality.ZONE, rank=1)


A, B, C, D = (ranked(name) for name in "abcd")


def started(limits: Limits = LIMITS) -> Pull:
    pull = Pull(limits=limits)
    pull.start(0.0)
    return pull


def play(pull: Pull, *steps: Step) -> None:
    for number, (event, now_s, expected) in enumerate(steps):
        assert pull.on(event, now_s) == expected, f"step {number}: {event} at {now_s} s"


def found(*holders: Ranked, complete: bool = False) -> Found:
    return Found(holders=holders, complete=complete)


def failed(attempt: int, failure: Failure = Failure.UNREACHABLE) -> Failed:
    return Failed(attempt=attempt, failure=failure)


def test_pull_starts_with_a_cached_lookup_and_the_deadline() -> None:
    assert Pull(limits=LIMITS).start(7.0) == (Lookup(everyone=False), WakeAt(at_s=17.0))


def test_first_holder_that_responds_is_delivered() -> None:
    pull = started()
    play(
        pull,
        (found(A, B), 0.1, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.6))),
        (Responded(attempt=1), 0.2, (Deliver(attempt=1, holder=A),)),
        (Completed(), 3.0, ()),
    )
    assert pull.state is State.DONE


def test_nobody_has_it_after_everyone_was_asked_is_not_found_at_once() -> None:
    pull = started()
    play(pull, (found(complete=True), 0.1, (NotFound(attempts=0),)))
    assert pull.state is State.DONE


def test_empty_cached_answer_makes_it_ask_everyone_before_not_found() -> None:
    play(
        started(),
        (found(), 0.1, (Lookup(everyone=True), DEADLINE)),
        (found(complete=True), 0.2, (NotFound(attempts=0),)),
    )


def test_holder_found_by_asking_everyone_is_tried() -> None:
    play(
        started(),
        (found(), 0.1, (Lookup(everyone=True), DEADLINE)),
        (found(A, complete=True), 0.2, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.7))),
    )


FAULT_A = (Avoid(node=A.node), Forget(node=A.node))


def test_failed_holder_is_followed_by_the_next_without_a_wait() -> None:
    play(
        started(),
        (found(A, B), 0.1, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.6))),
        (failed(1), 0.2, (*FAULT_A, Fetch(attempt=2, holder=B), WakeAt(at_s=0.7))),
        (Responded(attempt=2), 0.3, (Deliver(attempt=2, holder=B),)),
    )


@pytest.mark.parametrize(
    "failure", [Failure.UNREACHABLE, Failure.SILENT, Failure.BROKEN, Failure.INVALID, Failure.ERROR]
)
def test_peer_at_fault_is_avoided(failure: Failure) -> None:
    pull = started()
    pull.on(found(A, complete=True), 0.1)
    assert pull.on(failed(1, failure), 0.2) == (*FAULT_A, NotFound(attempts=1))


def test_holder_without_the_digest_is_forgotten_and_not_avoided() -> None:
    pull = started()
    pull.on(found(A, complete=True), 0.1)
    assert pull.on(failed(1, Failure.MISSING), 0.2) == (Forget(node=A.node), NotFound(attempts=1))


def test_busy_peer_is_relieved_and_neither_avoided_nor_forgotten() -> None:
    pull = started()
    pull.on(found(A, complete=True), 0.1)
    assert pull.on(failed(1, Failure.BUSY), 0.2) == (Relieve(node=A.node), NotFound(attempts=1))


def test_when_all_known_holders_failed_everyone_is_asked_and_tried_ones_are_not_repeated() -> None:
    play(
        started(),
        (found(A), 0.1, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.6))),
        (failed(1, Failure.BUSY), 0.2, (Relieve(node=A.node), Lookup(everyone=True), DEADLINE)),
        (found(A, B, complete=True), 0.3, (Fetch(attempt=2, holder=B), WakeAt(at_s=0.8))),
        (
            failed(2, Failure.BUSY),
            0.4,
            (
                Relieve(node=B.node),
                NotFound(attempts=2),
            ),
        ),
    )


def test_slow_holder_stays_in_the_race_when_the_next_is_asked() -> None:
    play(
        started(),
        (found(A, B), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (Avoid(node=A.node), Fetch(attempt=2, holder=B), WakeAt(at_s=1.0))),
        (Responded(attempt=1), 0.6, (Abandon(attempt=2), Deliver(attempt=1, holder=A))),
    )


def test_winner_of_a_hedge_ends_the_slow_holder() -> None:
    play(
        started(),
        (found(A, B), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (Avoid(node=A.node), Fetch(attempt=2, holder=B), WakeAt(at_s=1.0))),
        (Responded(attempt=2), 0.6, (Abandon(attempt=1), Deliver(attempt=2, holder=B))),
        (Responded(attempt=1), 0.7, ()),
    )


def test_everyone_is_asked_while_the_only_holder_is_slow_and_it_may_still_win() -> None:
    play(
        started(),
        (found(A), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (Avoid(node=A.node), Lookup(everyone=True), DEADLINE)),
        (Responded(attempt=1), 0.6, (Deliver(attempt=1, holder=A),)),
        (found(B, complete=True), 0.7, ()),
    )


def test_slow_holder_is_waited_for_when_there_is_nobody_else() -> None:
    play(
        started(),
        (found(A, complete=True), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (Avoid(node=A.node), DEADLINE)),
        (Responded(attempt=1), 9.0, (Deliver(attempt=1, holder=A),)),
    )


def test_tick_that_comes_early_does_not_lose_the_hedge() -> None:
    """Timers of an event loop are of milliseconds: a tick may come a little before its time."""
    pull = started()
    pull.on(found(A, B), 0.0)
    assert pull.on(Ticked(), 0.4995) == (WakeAt(at_s=0.5),)
    assert Fetch(attempt=2, holder=B) in pull.on(Ticked(), 0.5)


def test_tick_that_comes_early_for_the_deadline_is_asked_for_again() -> None:
    play(started(), (Ticked(), 9.9995, (DEADLINE,)), (Ticked(), 10.0, (NotFound(attempts=0),)))


def test_patience_never_outlasts_the_deadline() -> None:
    play(started(), (found(A, B), 9.8, (Fetch(attempt=1, holder=A), DEADLINE)))


def test_deadline_ends_every_open_attempt_with_not_found() -> None:
    pull = started()
    play(
        pull,
        (found(A, B), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (Avoid(node=A.node), Fetch(attempt=2, holder=B), WakeAt(at_s=1.0))),
        (
            Ticked(),
            10.0,
            (
                Avoid(node=A.node),
                Avoid(node=B.node),
                Abandon(attempt=1),
                Abandon(attempt=2),
                NotFound(attempts=2),
            ),
        ),
    )
    assert pull.state is State.DONE


def test_deadline_ends_a_lookup_that_nobody_answers() -> None:
    play(started(), (Ticked(), 10.0, (NotFound(attempts=0),)), (found(A), 10.1, ()))


def test_deadline_does_not_end_a_delivery() -> None:
    pull = started()
    play(
        pull,
        (found(A), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Responded(attempt=1), 0.1, (Deliver(attempt=1, holder=A),)),
        (Ticked(), 60.0, ()),
    )
    assert pull.state is State.DELIVERING


def test_attempts_are_capped_and_then_everyone_is_asked() -> None:
    pull = started()
    pull.on(found(A, B, C, D), 0.0)
    pull.on(failed(1), 0.1)
    pull.on(failed(2), 0.2)
    fault = (Avoid(node=C.node), Forget(node=C.node))
    assert pull.on(failed(3), 0.3) == (*fault, Lookup(everyone=True), DEADLINE)
    pull.on(found(D, complete=True), 0.4)
    assert pull.on(failed(4, Failure.BUSY), 0.5) == (Relieve(node=D.node), NotFound(attempts=4))


def test_near_holders_that_all_fail_do_not_hide_a_far_one() -> None:
    pull = started(Limits(patience_s=0.5, deadline_s=10.0, attempts_max=2))
    pull.on(found(A, B, C), 0.0)
    pull.on(failed(1), 0.1)
    pull.on(failed(2), 0.2)
    commands = pull.on(found(D, C, A, B, complete=True), 0.3)
    assert commands[0] == Fetch(attempt=3, holder=D), "by the newer ranking, without those tried"
    assert pull.on(Responded(attempt=3), 0.4)[-1] == Deliver(attempt=3, holder=D)


def test_open_attempts_are_waited_for_when_the_cap_is_reached() -> None:
    pull = started(Limits(patience_s=0.5, deadline_s=10.0, attempts_max=2))
    play(
        pull,
        (found(A, B, C), 0.0, (Fetch(attempt=1, holder=A), WakeAt(at_s=0.5))),
        (Ticked(), 0.5, (Avoid(node=A.node), Fetch(attempt=2, holder=B), WakeAt(at_s=1.0))),
        (failed(2, Failure.BUSY), 0.6, (Relieve(node=B.node), Lookup(everyone=True), DEADLINE)),
        (found(A, B, complete=True), 0.65, (Fetch(attempt=3, holder=C), WakeAt(at_s=1.15))),
        (failed(3, Failure.BUSY), 0.66, (Relieve(node=C.node), DEADLINE)),
        (Responded(attempt=1), 0.7, (Deliver(attempt=1, holder=A),)),
    )


def test_body_that_breaks_by_the_peers_fault_is_cut_and_the_peer_avoided() -> None:
    pull = started()
    pull.on(found(A, B), 0.0)
    pull.on(Responded(attempt=1), 0.1)
    assert pull.on(Broke(failure=Failure.SILENT), 5.0) == (Avoid(node=A.node), Cut())
    assert pull.state is State.DONE


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
    pull = started()
    pull.on(found(A), 0.0)
    pull.on(Responded(attempt=1), 0.1)
    assert pull.on(ClientGone(), 0.2) == (Abandon(attempt=1),)
    assert pull.state is State.DONE


def test_attempt_that_responds_twice_is_delivered_once() -> None:
    pull = started()
    pull.on(found(A), 0.0)
    pull.on(Responded(attempt=1), 0.1)
    assert pull.on(Responded(attempt=1), 0.2) == ()


@pytest.mark.parametrize(
    "late", [found(A), Responded(attempt=1), failed(1), Broke(failure=Failure.BROKEN), Completed(), Ticked()]
)
def test_event_after_the_end_is_answered_with_nothing(late: Event) -> None:
    pull = started()
    pull.on(found(A), 0.0)
    pull.on(ClientGone(), 0.1)
    assert pull.on(late, 20.0) == ()


@dataclass
class World:
    """What surrounds a pull: answers its commands as far as the schedule says so, and checks each of them."""

    limits: Limits
    pull: Pull
    lookups: int = 0  # asked and not yet answered
    everyone_asked: bool = False
    known: dict[str, None] = field(default_factory=dict)  # holders that the pull was told of
    open: dict[int, str] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    wake_s: float = 0.0
    ends: Counter[str] = field(default_factory=Counter)

    def tell(self, event: Event, now_s: float) -> None:
        was_done = self.pull.state is State.DONE
        if isinstance(event, Found):
            self.lookups -= 1
            self.everyone_asked = self.everyone_asked or event.complete
            self.known.update(dict.fromkeys(holder.node for holder in event.holders))
        elif isinstance(event, Failed):
            self.open.pop(event.attempt, None)
        commands = self.pull.on(event, now_s)
        assert not (was_done and commands), f"{commands} after the end"
        for command in commands:
            self.obey(command, now_s)

    def obey(self, command: Command, now_s: float) -> None:
        match command:
            case Lookup():
                self.lookups += 1
                self.everyone_asked = self.everyone_asked or command.everyone
            case Fetch():
                assert command.holder.node not in self.fetched, "one peer tried twice"
                assert command.attempt not in self.open
                self.open[command.attempt] = command.holder.node
                self.fetched.append(command.holder.node)
                assert len(self.fetched) <= 2 * self.limits.attempts_max
            case Abandon():
                assert command.attempt in self.open, "abandoned what was not open"
                del self.open[command.attempt]
            case WakeAt():
                assert command.at_s <= self.limits.deadline_s, "sleeps past the deadline"
                self.wake_s = command.at_s
            case Deliver():
                assert self.open == {command.attempt: command.holder.node}, "the others are still running"
                self.ends["deliver"] += 1
                assert self.ends["deliver"] == 1
            case NotFound():
                self.ends["not found"] += 1
                assert self.ends == {"not found": 1}
                assert not self.open, "404 while an attempt was running"
                if now_s < self.limits.deadline_s:
                    capped = len(self.fetched) == 2 * self.limits.attempts_max
                    assert capped or self.everyone_asked, "404 before everyone was asked"
                    assert capped or not set(self.known) - set(self.fetched), "404 with an untried holder"
                    assert not self.lookups or capped, "404 while a lookup was running"
            case Avoid() | Forget():
                assert command.node in self.fetched, "blamed a peer that was not tried"
            case Cut():
                assert self.ends == {"deliver": 1}, "cut what was not delivered"


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    return Limits(
        patience_s=draw(st.sampled_from((0.1, 0.5, 3.0))),
        deadline_s=draw(st.sampled_from((0.3, 2.0, 10.0))),
        attempts_max=draw(st.integers(1, 5)),
    )


def draw_event(world: World, data: st.DataObject) -> Event:
    attempts = st.integers(1, 6)  # also ones that ended or never were
    choices: list[st.SearchStrategy[Event]] = [
        st.just(Ticked()),
        st.builds(Failed, attempt=attempts, failure=st.sampled_from(Failure)),
        st.builds(Responded, attempt=attempts),
    ]
    if world.lookups:
        names = st.lists(st.sampled_from("abcdefg"), unique=True, max_size=4)
        holders = names.map(lambda chosen: tuple(ranked(name) for name in chosen))
        complete = st.just(value=True) if world.everyone_asked else st.booleans()
        choices += [st.builds(Found, holders=holders, complete=complete)] * 2
    if world.pull.state is State.DELIVERING:
        choices += [st.just(Completed()), st.builds(Broke, failure=st.sampled_from(Failure))]
    if data.draw(st.integers(0, 40), label="client") == 40:
        return ClientGone()
    return data.draw(st.one_of(choices), label="event")


@given(limits=limits(), data=st.data())
def test_any_schedule_ends_in_one_answer(limits: Limits, data: st.DataObject) -> None:
    """DONE or DELIVERING in the end; one answer; no 404 with a holder untried; quiet after the end."""
    world = World(limits=limits, pull=Pull(limits=limits))
    for command in world.pull.start(0.0):
        world.obey(command, 0.0)
    now_s = 0.0
    for _ in range(data.draw(st.integers(0, 25), label="events")):
        now_s += data.draw(st.sampled_from((0.0, 0.01, 0.1, 0.6)), label="later by")
        world.tell(draw_event(world, data), now_s)
    # Whatever happened so far, time alone brings the pull to its end.
    for _ in range(20):
        now_s = max(now_s, world.wake_s)
        world.tell(Ticked(), now_s)
    assert world.pull.state in (State.DONE, State.DELIVERING)
    if world.pull.state is State.DELIVERING:
        world.tell(Completed(), now_s)
    assert world.pull.state is State.DONE
    world.tell(Ticked(), now_s)


@given(failures=st.lists(st.sampled_from(Failure), min_size=1, max_size=6), winner=st.integers(0, 6))
def test_every_holder_is_tried_in_order_until_one_responds(failures: list[Failure], winner: int) -> None:
    holders = tuple(ranked(f"n{place}") for place in range(len(failures) + 1))
    winner = min(winner, len(failures))
    pull = started(Limits(patience_s=1.0, deadline_s=10.0, attempts_max=10))
    commands = pull.on(Found(holders=holders, complete=True), 0.0)
    for place, failure in enumerate(failures[:winner]):
        assert Fetch(attempt=place + 1, holder=holders[place]) in commands
        commands = pull.on(Failed(attempt=place + 1, failure=failure), 0.0)
    assert Fetch(attempt=winner + 1, holder=holders[winner]) in commands
    answer = pull.on(Responded(attempt=winner + 1), 0.0)
    assert answer == (Deliver(attempt=winner + 1, holder=holders[winner]),)
