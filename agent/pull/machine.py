"""One pull from peers, as a state machine: events and the time in, commands out. No I/O.

Decides whom to ask next, when to stop waiting, where to go on after a failure, and how the pull ends. The
transfer room executes the commands and reports what came of them. `TABLE` says what each event does in each
state. Sources: docs/decisions/0012; how containerd reacts to each kind of failure: docs/decisions/0003.

When there is nobody to ask, in this order: ask everyone who has it; wait for open attempts; give a holder
that broke off after it gave plenty a second chance; wait for what `agent.pull.search.Wait` lists; end. The
end is `NotFound` before the first byte. After it the end is `Cut`: the client then resumes with a range.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, assert_never

from agent.pull.candidates import Candidates, is_well
from agent.pull.events import (
    PROGRESS_BYTES,
    Abandon,
    Avoid,
    Broke,
    ClientGone,
    Command,
    Commands,
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
from agent.pull.search import BusyHolder, LookAgain, Persistence, Search, Stretch, Waits
from topology.placement import NodeName
from topology.ranking import Ranked

_STRIPE_AFTER_S = 0.5  # TCP is up to speed by then
_STRIPE_BELOW_BYTES_PER_S = 400e6  # faster sources are as fast as copying from several would be
_LAGGING_S = 5.0  # others come first for so long


class State(Enum):
    """What a pull is doing."""

    SEEKING = "seeking"  # nobody gave a byte yet: the client can still be told 404
    RESUMING = "resuming"  # the client has a part: another holder has to go on at the same byte
    DELIVERING = "delivering"  # one holder gives the body
    STRIPING = "striping"  # several holders give parts of it
    DONE = "done"

    @property
    def is_trying(self) -> bool:
        """Whether the pull asks holders for first bytes. Only then does it want to be woken."""
        return self in (State.SEEKING, State.RESUMING)


@dataclass(slots=True)
class _Attempt:
    holder: Ranked
    started_s: float
    offset: int
    avoided: bool = False


@dataclass(slots=True)
class Pull:
    """One pull. Times are seconds of one monotonic clock."""

    limits: Limits
    state: State = State.SEEKING
    _stretch: Stretch = field(default_factory=Stretch)
    _candidates: Candidates = field(default_factory=Candidates)
    _search: Search = field(default_factory=Search)
    _waits: Waits = field(default_factory=Waits)
    _persistence: Persistence = field(default_factory=Persistence)
    _open: dict[int, _Attempt] = field(default_factory=dict)
    _attempts: int = 0  # made so far
    _budget: int = 0  # how many more may be made
    _offset: int = 0  # how much of the body the client has
    _delivering: int = 0  # the attempt that gives the body, in DELIVERING and STRIPING
    _lanes: dict[NodeName, Ranked] = field(default_factory=dict)  # of a striped body, those that are well
    _stripes_useless: bool = False
    _failed: set[NodeName] = field(default_factory=set)

    @property
    def failed(self) -> Set[NodeName]:
        """The holders that failed after they had given a part of the body."""
        return self._failed

    def start(self, now_s: float) -> Commands:
        """The first commands."""
        self._stretch = Stretch(began_s=now_s, deadline_s=now_s + self.limits.deadline_s)
        self._budget = self.limits.attempts_max
        self._search = self._search.started()
        return Lookup(everyone=False), WakeAt(at_s=self._stretch.deadline_s)

    def on(self, event: Event, now_s: float) -> Commands:
        """What to do about ``event``. One that `TABLE` does not have in this state came too late."""
        rule = TABLE[self.state].get(type(event))
        commands = () if rule is None else rule.handle(self, event, now_s)
        return (*commands, WakeAt(at_s=self._wake_s(now_s))) if self.state.is_trying else commands

    def _on_found(self, event: Found, now_s: float) -> Commands:
        if self._search.awaits_everyone:
            # Near holders that all fail must not hide a far one: it gets attempts of its own.
            self._budget += self.limits.attempts_max
        self._search = self._search.answered(exhaustive=event.exhaustive)
        self._candidates.found(event.holders)
        if not self.state.is_trying:
            return ()
        if not self._candidates.any_well and (further := self._look_further()):
            return further  # that all of a tier are busy or ill is no reason not to go to the next one
        return self._go_on(now_s)

    def _on_failed(self, event: Failed, now_s: float) -> Commands:
        attempt = self._open.pop(event.attempt, None)
        if attempt is None:
            return ()
        holder, failure = attempt.holder, event.failure
        if failure is Failure.BUSY:
            self._budget += 1  # a refusal costs a round trip: those behind it should not pay for it
            self._wait_for(holder, event.wait_s, now_s)
        if failure is Failure.UNSATISFIABLE:
            self._persistence = Persistence(useless=True)
        shun = failure in (Failure.SILENT, Failure.INVALID)
        finding = _finding(holder.node, failure, event.wait_s, shun=shun)
        if failure.is_peers_fault:
            finding = (*finding, Forget(node=holder.node))
        return (*finding, *self._go_on(now_s))

    def _on_responded(self, event: Responded, _: float) -> Commands:
        attempt = self._open.pop(event.attempt, None)
        if attempt is None:
            return ()
        for other in self._open.values():  # slower, but as good as before if this one fails
            if other.avoided:
                self._candidates.put_last(other.holder)
            else:
                self._candidates.give_back([other.holder])
        abandoned = self._abandon_open()
        self.state = State.DELIVERING
        self._delivering = event.attempt
        self._open[event.attempt] = attempt
        return (*abandoned, Deliver(attempt=event.attempt, holder=attempt.holder))

    def _on_ticked(self, _: Ticked, now_s: float) -> Commands:
        if now_s >= self._stretch.deadline_s:
            silent = [one.holder.node for one in self._open.values() if self._lost_patience(one, now_s)]
            return (*(Avoid(node=node) for node in silent), *self._end())
        commands = self._lose_patience(now_s)
        look_again = False
        for wait in self._waits.over(now_s):
            match wait:
                case BusyHolder():
                    self._candidates.put_last(wait.holder)
                case LookAgain():
                    look_again = True
                case _:
                    assert_never(wait)
        if look_again:
            self._search = self._search.widened()
            return (*commands, Lookup(everyone=True))
        if commands or not self._open:
            return (*commands, *self._go_on(now_s))
        if self._may_hedge and now_s >= self._hedge_at_s():
            return (*commands, *self._fetch(self._candidates.next(), now_s, hedge=True))
        return commands

    def _lose_patience(self, now_s: float) -> Commands:
        """Avoid those that are slow, end those that stall."""
        commands: list[Command] = []
        for number, attempt in [*self._open.items()]:
            node = attempt.holder.node
            if now_s >= attempt.started_s + self.limits.stall_s:
                del self._open[number]
                commands += [Abandon(attempt=number, failure=Failure.SILENT), *_finding(node, Failure.SILENT)]
            elif not attempt.avoided and self._lost_patience(attempt, now_s):
                attempt.avoided = True
                commands.append(Avoid(node=node))
        return tuple(commands)

    def _on_broke(self, event: Broke, now_s: float) -> Commands:
        was_striping = self.state is State.STRIPING
        attempt, abandoned = self._stop_delivering(event.offset, now_s)
        given_bytes = event.offset - attempt.offset
        if given_bytes >= PROGRESS_BYTES:
            self._budget = self.limits.attempts_max
            self._search = self._search.outdated()
        finding: Commands = ()
        if not was_striping:  # otherwise each holder had its finding already
            finding = self._on_lost(attempt.holder, event.failure, given_bytes, 0.0, now_s)
        return (*abandoned, *finding, *self._go_on(now_s))

    def _on_lane_failed(self, event: LaneFailed, now_s: float) -> Commands:
        return self._on_lost(event.holder, event.failure, event.given_bytes, event.wait_s, now_s)

    def _on_gathered(self, event: Gathered, now_s: float) -> Commands:
        _, abandoned = self._stop_delivering(event.offset, now_s)
        self._stripes_useless = self._stripes_useless or event.useless
        self._budget = max(self._budget, 1)
        return (*abandoned, *self._go_on(now_s))

    def _on_progressed(self, event: Progressed, _: float) -> Commands:
        rate, limits = event.rate, self.limits
        if not rate.source_bound or not event.left_bytes:
            return ()
        if rate.over_s >= limits.stall_s:
            if rate.bytes_per_s < limits.floor_bytes_per_s:
                return (GiveUp(failure=Failure.SLOW),)
            if rate.bytes_per_s < limits.floor_ratio * event.expected_bytes_per_s:
                if self._candidates.any_well:
                    return (GiveUp(failure=Failure.LAGGING),)
                return self._look_further()
        return self._stripe(event) if self._is_worth_striping(event) else ()

    def _on_completed(self, event: Completed, _: float) -> Commands:
        self.state = State.DONE
        # What is read along with a head proves little: a peer that stalls on every layer gives that, too.
        proved = [node for node, size_bytes in event.given_bytes.items() if size_bytes >= PROGRESS_BYTES]
        commended = (Commend(node=node) for node in proved if node not in self._failed)
        return (*self._abandon_open(), *commended)

    def _on_client_gone(self, _: ClientGone, __: float) -> Commands:
        self.state = State.DONE
        return self._abandon_open()

    def _on_lost(
        self, holder: Ranked, failure: Failure, given_bytes: int, wait_s: float, now_s: float
    ) -> Commands:
        """A holder that gave a part of the body gives no more."""
        self._lanes.pop(holder.node, None)
        self._failed.add(holder.node)
        if failure is Failure.BUSY:
            self._wait_for(holder, wait_s, now_s)
        gave_plenty = failure is Failure.BROKEN and given_bytes >= PROGRESS_BYTES
        may_come_back = failure is Failure.LAGGING or gave_plenty
        if may_come_back:
            self._candidates.forgive(holder)
        return _finding(holder.node, failure, wait_s, shun=not may_come_back)

    def _wait_for(self, holder: Ranked, wait_s: float, now_s: float) -> None:
        """Ask a busy holder again when it says."""
        self._waits.add(BusyHolder(until_s=now_s + wait_s, holder=holder))

    def _stop_delivering(self, offset: int, now_s: float) -> tuple[_Attempt, Commands]:
        self.state = State.RESUMING
        self._offset = offset
        self._stretch = self._stretch.ended(offset, now_s, self.limits.deadline_s)
        self._candidates.give_back(self._lanes.values())
        self._lanes.clear()
        return self._open.pop(self._delivering), (Abandon(attempt=self._delivering),)

    def _is_worth_striping(self, event: Progressed) -> bool:
        rate = event.rate
        return (
            not self._stripes_useless
            and event.lanes_max >= 2
            and event.left_bytes >= self.limits.stripe_min_bytes
            and rate.over_s >= _STRIPE_AFTER_S
            and rate.bytes_per_s <= _STRIPE_BELOW_BYTES_PER_S
        )

    def _stripe(self, event: Progressed) -> Commands:
        holder = self._open[self._delivering].holder
        lanes = self._candidates.next_matching(
            event.lanes_max - 1, lambda other: other.tier is holder.tier and is_well(other)
        )
        if not lanes:
            return self._look_further()
        self.state = State.STRIPING
        self._lanes = {lane.node: lane for lane in (holder, *lanes)}
        return (Stripe(holders=lanes),)

    def _go_on(self, now_s: float) -> Commands:
        """The next holder, or whatever else may lead to one, or the end."""
        if self._candidates and self._budget > 0:
            return self._fetch(self._candidates.next(), now_s)
        if self._search.under_way:
            return ()
        # Who could not be tried for want of attempts may have others behind it: that is worth a second rate.
        if further := self._look_further(again=bool(self._candidates)):
            return further
        if self._open:
            return ()
        if self._budget > 0 and (forgiven := self._candidates.next_second_chance()) is not None:
            return self._fetch(forgiven, now_s)
        if self._waits.worth_it(self._stretch.deadline_s) or self._looks_again(now_s):
            return ()
        return self._end()

    def _looks_again(self, now_s: float) -> bool:
        """Whether there will be another rate, for a client that takes an end badly."""
        begun = self.state is State.RESUMING
        stubborn_s = self.limits.stubborn_begun_s if begun else self.limits.stubborn_s
        again = self._persistence.look_again(now_s, self._stretch.began_s + stubborn_s)
        if again is None:
            return False
        self._waits.add(again)
        self._persistence = self._persistence.paused()
        self._candidates.forget_tried()
        return True

    def _look_further(self, *, again: bool = False) -> Commands:
        """Ask everyone, once; ``again``: also if the first answer came from everyone."""
        if not self._search.may_widen(again=again):
            return ()
        self._search = self._search.widened()
        return (Lookup(everyone=True),)

    def _fetch(self, holder: Ranked, now_s: float, *, hedge: bool = False) -> Commands:
        self._budget -= 1
        self._attempts += 1
        self._open[self._attempts] = _Attempt(holder, now_s, self._offset)
        return (Fetch(attempt=self._attempts, holder=holder, offset=self._offset, hedge=hedge),)

    def _end(self) -> Commands:
        end = Cut() if self.state is State.RESUMING else NotFound(attempts=self._attempts)
        self.state = State.DONE
        return (*self._abandon_open(), end)

    def _wake_s(self, now_s: float) -> float:
        times_s = [self._stretch.deadline_s, *self._waits.times_s()]
        for attempt in self._open.values():
            patience_s = self.limits.stall_s if attempt.avoided else self.limits.patience_s
            times_s.append(attempt.started_s + min(patience_s, self.limits.stall_s))
        if self._may_hedge:
            times_s.append(self._hedge_at_s())
        return max(now_s, min(times_s))

    def _lost_patience(self, attempt: _Attempt, now_s: float) -> bool:
        return now_s >= attempt.started_s + self.limits.patience_s

    @property
    def _may_hedge(self) -> bool:
        return len(self._open) == 1 and bool(self._candidates) and self._budget > 0

    def _hedge_at_s(self) -> float:
        (attempt,) = self._open.values()
        usual_s = self.limits.hedge_s.get(attempt.holder.tier, self.limits.patience_s)
        return attempt.started_s + usual_s

    def _abandon_open(self) -> Commands:
        abandoned = tuple(Abandon(attempt=attempt) for attempt in self._open)
        self._open.clear()
        return abandoned


def _finding(node: NodeName, failure: Failure, wait_s: float = 0.0, *, shun: bool = True) -> Commands:
    """What a failure says of the peer, for all pulls."""
    if failure is Failure.MISSING:
        return (Forget(node=node),)
    if failure is Failure.BUSY:
        return (Relieve(node=node, wait_s=wait_s),)
    if failure is Failure.LAGGING:  # to be slower than others is no failure
        return (Relieve(node=node, wait_s=_LAGGING_S),)
    if not failure.is_peers_fault:
        return ()
    return (Avoid(node=node), Shun(node=node)) if shun else (Avoid(node=node),)


@dataclass(frozen=True, slots=True)
class Rule:
    """What an event does in a state: who handles it, which states may follow, which commands may come.

    `WakeAt` comes last in every trying state, and is not listed.
    """

    handle: Callable[[Pull, Any, float], Commands]
    next: frozenset[State]
    commands: frozenset[type[Command]]


def _rule(
    handle: Callable[[Pull, Any, float], Commands], next_: Set[State], *commands: type[Command]
) -> Rule:
    return Rule(handle, frozenset(next_), frozenset(commands))


_SEEKING, _RESUMING, _DELIVERING, _STRIPING, _DONE = State
_FINDINGS = (Avoid, Shun, Relieve, Forget)

TABLE: Mapping[State, Mapping[type[Event], Rule]] = {
    _SEEKING: {
        # The first holder; nobody is there or well: everyone is asked; nobody at all: 404.
        Found: _rule(Pull._on_found, {_SEEKING, _DONE}, Lookup, Fetch, NotFound),
        # The next holder, and what the failure says of this one.
        Failed: _rule(Pull._on_failed, {_SEEKING, _DONE}, *_FINDINGS, Lookup, Fetch, NotFound),
        # The first to respond wins. (One that was abandoned changes nothing.)
        Responded: _rule(Pull._on_responded, {_SEEKING, _DELIVERING}, Abandon, Deliver),
        # hedge_s over: a second holder. patience_s over: Avoid this one, the next. stall_s over: Abandon it.
        # A wait over: the busy holder again, or everyone. Past the deadline: 404.
        Ticked: _rule(Pull._on_ticked, {_SEEKING, _DONE}, Abandon, Avoid, Shun, Lookup, Fetch, NotFound),
        ClientGone: _rule(Pull._on_client_gone, {_DONE}, Abandon),
    },
    _RESUMING: {
        # As before the first byte, but from the byte reached, and the end is a cut.
        Found: _rule(Pull._on_found, {_RESUMING, _DONE}, Lookup, Fetch, Cut),
        Failed: _rule(Pull._on_failed, {_RESUMING, _DONE}, *_FINDINGS, Lookup, Fetch, Cut),
        Responded: _rule(Pull._on_responded, {_RESUMING, _DELIVERING}, Abandon, Deliver),
        Ticked: _rule(Pull._on_ticked, {_RESUMING, _DONE}, Abandon, Avoid, Shun, Lookup, Fetch, Cut),
        ClientGone: _rule(Pull._on_client_gone, {_DONE}, Abandon),
    },
    _DELIVERING: {
        # More to go on from, or to stripe with.
        Found: _rule(Pull._on_found, {_DELIVERING}),
        # Far too slow: GiveUp, which Broke follows. Slower than the reader, and others have it: Stripe.
        Progressed: _rule(Pull._on_progressed, {_DELIVERING, _STRIPING}, GiveUp, Stripe, Lookup),
        # The next holder goes on at this byte.
        Broke: _rule(Pull._on_broke, {_RESUMING, _DONE}, Abandon, *_FINDINGS, Lookup, Fetch, Cut),
        Completed: _rule(Pull._on_completed, {_DONE}, Abandon, Commend),
        ClientGone: _rule(Pull._on_client_gone, {_DONE}, Abandon),
    },
    _STRIPING: {
        Found: _rule(Pull._on_found, {_STRIPING}),
        # The other holders go on with what it leaves.
        LaneFailed: _rule(Pull._on_lane_failed, {_STRIPING}, *_FINDINGS),
        # One is left, or several were no faster than one: one alone from here.
        Gathered: _rule(Pull._on_gathered, {_RESUMING, _DONE}, Abandon, Lookup, Fetch, Cut),
        # None is left. Each had its finding already.
        Broke: _rule(Pull._on_broke, {_RESUMING, _DONE}, Abandon, Lookup, Fetch, Cut),
        Completed: _rule(Pull._on_completed, {_DONE}, Abandon, Commend),
        ClientGone: _rule(Pull._on_client_gone, {_DONE}, Abandon),
    },
    _DONE: {},
}
"""What each event does in each state. A tick in DELIVERING or STRIPING does nothing: there `Progressed`
tells how the body comes along, and the transfer room notices a stall.
"""
