"""One pull from peers, as a state machine: events and the time in, commands out. No I/O.

Decides whom to ask next, when to stop waiting, where to go on after a failure, and how the pull ends. The
transfer room executes the commands and reports what came of them. Sources: DESIGN 7; the reactions that
containerd shows to each kind of failure (docs/decisions/0003); docs/decisions/0012.

    state        event         next         commands
    ---------------------------------------------------------------------------------------------
    TRYING       Found         TRYING       Fetch the first holder
    TRYING       Failed        TRYING       Fetch the next one; else look further (see below)
    TRYING       Ticked        TRYING       usual time over: Fetch a second one, the first may still win
                                            patience over: Avoid it, Fetch the next one
                                            stall_s over: Abandon it, and as if it had failed
                                            a busy one's wait over: Fetch it
    TRYING       Ticked        DONE         past the deadline: Abandon all, end
    TRYING       Responded     DELIVERING   Abandon the others, Deliver
    DELIVERING   Broke         TRYING       Abandon, Avoid; Fetch the next one from the offset reached
    DELIVERING   Progressed    DELIVERING   far too slow: GiveUp, which Broke follows
    DELIVERING   Progressed    DELIVERING   slower than the reader, and others of the tier have it: Stripe
    DELIVERING   LaneFailed    DELIVERING   Avoid, Relieve or Forget it; the others go on
    DELIVERING   Gathered      TRYING       one is left, or several were no faster: Fetch from one alone
    DELIVERING   Found         DELIVERING   more to go on from, or to stripe with
    DELIVERING   Completed     DONE         Commend those that gave plenty
    any          ClientGone    DONE         Abandon all

Looking further: ask everyone who has it; wait for attempts still open; a holder that broke off after it gave
plenty gets a second chance; wait for busy ones; end. The end is NotFound before the first byte, and Cut after
it: the client then resumes with a Range request.
"""

from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import Enum

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
from topology.placement import NodeName
from topology.ranking import Ranked

_STRIPE_AFTER_S = 0.5  # TCP is up to speed by then
_STRIPE_BELOW_BYTES_PER_S = 400e6  # faster sources are as fast as copying from several would be
_LAGGING_S = 5.0
_LOOK_AGAIN_S = 0.25
_LOOK_AGAIN_MOST_S = 2.0


class State(Enum):
    """See the table in the module's docstring."""

    TRYING = "trying"
    DELIVERING = "delivering"
    DONE = "done"


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
    state: State = State.TRYING
    _began_s: float = 0.0
    _deadline_s: float = 0.0
    _attempts: int = 0
    _budget: int = 0
    _offset: int = 0
    _begun: bool = False  # the client has the head
    _looking: bool = False
    _asked_everyone: bool = False
    _widened: bool = False
    _look_again_s: float | None = None
    _pause_s: float = _LOOK_AGAIN_S
    _delivering: int | None = None
    _stopped: bool = False  # a source ended before the body did, and where the clock began anew
    _stopped_at: int = 0
    _waiting: deque[Ranked] = field(default_factory=deque)
    _again: deque[Ranked] = field(default_factory=deque)
    _busy: dict[NodeName, tuple[float, Ranked]] = field(default_factory=dict)
    _open: dict[int, _Attempt] = field(default_factory=dict)
    _tried: set[NodeName] = field(default_factory=set)
    _failed: set[NodeName] = field(default_factory=set)  # while they delivered
    _striped: bool = False
    _lanes: dict[NodeName, Ranked] = field(default_factory=dict)  # of a striped body, those that are well
    _may_stripe: bool = True
    _no_such_range: bool = False

    @property
    def failed(self) -> Set[NodeName]:
        """The holders that failed after they had given a part of the body."""
        return self._failed

    def start(self, now_s: float) -> Commands:
        """The first commands."""
        self._began_s = now_s
        self._deadline_s = now_s + self.limits.deadline_s
        self._budget = self.limits.attempts_max
        self._looking = True
        return Lookup(everyone=False), WakeAt(at_s=self._deadline_s)

    def on(self, event: Event, now_s: float) -> Commands:
        """What to do about ``event``. Events that come too late are answered with nothing."""
        if self.state is State.DONE:
            return ()
        commands = self._on(event, now_s)
        return (*commands, WakeAt(at_s=self._wake_s(now_s))) if self.state is State.TRYING else commands

    def _on(self, event: Event, now_s: float) -> Commands:
        match event:
            case Found():
                return self._on_found(event, now_s)
            case Failed():
                return self._on_failed(event, now_s)
            case Responded():
                return self._on_responded(event)
            case Ticked():
                return self._on_ticked(now_s) if self.state is State.TRYING else ()
            case Broke():
                return self._on_broke(event.failure, event.offset, now_s)
            case Progressed():
                return self._on_progressed(event) if self.state is State.DELIVERING else ()
            case LaneFailed():
                return self._on_lost(event.holder, event.failure, event.given_bytes, event.wait_s, now_s)
            case Gathered():
                return self._on_gathered(event, now_s)
            case Completed():
                self.state = State.DONE
                return (*self._abandon_open(), *self._commend(event.given_bytes))
            case ClientGone():
                self.state = State.DONE
                return self._abandon_open()

    def _on_found(self, event: Found, now_s: float) -> Commands:
        if self._looking and self._widened:
            # Near holders that all fail must not hide a far one: it gets attempts of its own.
            self._budget += self.limits.attempts_max
        self._looking = False
        self._asked_everyone = self._asked_everyone or event.complete
        # The newer answer comes first: it knows of everyone, and whom to avoid by now.
        newer = {holder.node for holder in event.holders}
        merged = (*event.holders, *(holder for holder in self._waiting if holder.node not in newer))
        self._waiting = deque(holder for holder in merged if holder.node not in self._tried)
        if self.state is not State.TRYING:
            return ()
        if not any(map(_is_well, self._waiting)) and (further := self._look_further()):
            return further  # a tier of which all are busy or ill is no reason not to go to the next
        return self._go_on(now_s)

    def _on_failed(self, event: Failed, now_s: float) -> Commands:
        attempt = self._open.pop(event.attempt, None)
        if attempt is None:
            return ()
        holder, failure = attempt.holder, event.failure
        if failure is Failure.BUSY:
            self._budget += 1  # a refusal costs a round trip: those behind it should not pay for it
            self._wait_for(holder, event.wait_s, now_s)
        self._no_such_range = self._no_such_range or failure is Failure.UNSATISFIABLE
        shun = failure in (Failure.SILENT, Failure.INVALID)
        verdict = _verdict(holder.node, failure, event.wait_s, shun=shun)
        if failure.is_peers_fault:
            verdict = (*verdict, Forget(node=holder.node))
        return verdict + (self._go_on(now_s) if self.state is State.TRYING else ())

    def _on_lost(
        self, holder: Ranked, failure: Failure, given_bytes: int, wait_s: float, now_s: float
    ) -> Commands:
        """A holder that gave a part of the body gives no more."""
        self._lanes.pop(holder.node, None)
        self._failed.add(holder.node)
        if failure is Failure.BUSY:
            self._wait_for(holder, wait_s, now_s)
        may_come_back = failure is Failure.LAGGING or (
            failure is Failure.BROKEN and given_bytes >= PROGRESS_BYTES
        )
        if may_come_back:
            self._again.append(holder)
        return _verdict(holder.node, failure, wait_s, shun=not may_come_back)

    def _wait_for(self, holder: Ranked, wait_s: float, now_s: float) -> None:
        """Ask a busy holder again when it says."""
        self._busy[holder.node] = (now_s + wait_s, holder)

    def _on_responded(self, event: Responded) -> Commands:
        attempt = self._open.pop(event.attempt, None) if self.state is State.TRYING else None
        if attempt is None:
            return ()
        for other in self._open.values():  # slower, but as good as before if this one fails
            self._tried.discard(other.holder.node)
            (self._waiting.append if other.avoided else self._waiting.appendleft)(other.holder)
        others = self._abandon_open()
        self.state = State.DELIVERING
        self._begun = True
        self._delivering = event.attempt
        self._open[event.attempt] = attempt
        return (*others, Deliver(attempt=event.attempt, holder=attempt.holder))

    def _on_ticked(self, now_s: float) -> Commands:
        if now_s >= self._deadline_s:
            silent = [open_.holder.node for open_ in self._open.values() if self._lost_patience(open_, now_s)]
            return (*(Avoid(node=node) for node in silent), *self._end())
        commands: list[Command] = []
        lost_patience = False
        for number, attempt in list(self._open.items()):
            node = attempt.holder.node
            if now_s >= attempt.started_s + self.limits.stall_s:
                del self._open[number]
                commands += [Abandon(attempt=number, failure=Failure.SILENT), *_verdict(node, Failure.SILENT)]
                lost_patience = True
            elif not attempt.avoided and self._lost_patience(attempt, now_s):
                attempt.avoided = True
                commands.append(Avoid(node=node))
                lost_patience = True
        for node, (ready_s, holder) in list(self._busy.items()):
            if now_s >= ready_s:
                del self._busy[node]
                self._tried.discard(node)
                self._waiting.append(holder)  # behind those that were not asked yet
        if self._look_again_s is not None and now_s >= self._look_again_s:
            self._look_again_s = None
            self._looking = self._widened = self._asked_everyone = True
            return (*commands, Lookup(everyone=True))
        if lost_patience or not self._open:
            return (*commands, *self._go_on(now_s))
        if self._may_hedge and now_s >= self._hedge_at_s():
            return (*commands, *self._fetch(self._waiting.popleft(), now_s, hedge=True))
        return tuple(commands)

    def _on_broke(self, failure: Failure, offset: int, now_s: float) -> Commands:
        if self._delivering is None:
            return ()
        number, attempt = self._stop_delivering(self._delivering, offset, now_s)
        given_bytes = offset - attempt.offset
        if given_bytes >= PROGRESS_BYTES:
            self._budget = self.limits.attempts_max
            self._widened = self._asked_everyone = False  # it may be long ago
        verdict: Commands = ()
        if not self._striped:  # otherwise each holder had its verdict already
            verdict = self._on_lost(attempt.holder, failure, given_bytes, 0.0, now_s)
        self._striped = False
        return (Abandon(attempt=number), *verdict, *self._go_on(now_s))

    def _commend(self, given_bytes: Mapping[NodeName, int]) -> Commands:
        # What is read along with a head proves little: a peer that stalls on every layer gives that, too.
        proved = (node for node, size_bytes in given_bytes.items() if size_bytes >= PROGRESS_BYTES)
        return tuple(Commend(node=node) for node in proved if node not in self._failed)

    def _on_gathered(self, event: Gathered, now_s: float) -> Commands:
        if self._delivering is None:
            return ()
        number, _ = self._stop_delivering(self._delivering, event.offset, now_s)
        self._striped = False
        self._may_stripe = self._may_stripe and not event.useless
        self._budget = max(self._budget, 1)
        return (Abandon(attempt=number), *self._go_on(now_s))

    def _stop_delivering(self, number: int, offset: int, now_s: float) -> tuple[int, _Attempt]:
        self._delivering = None
        self.state = State.TRYING
        self._offset = offset
        went_on = offset - self._stopped_at >= PROGRESS_BYTES
        if went_on or not self._stopped:  # one that gives byte after byte shall not go on for ever
            self._stopped, self._stopped_at = True, offset
            self._began_s, self._deadline_s = now_s, now_s + self.limits.deadline_s
        self._tried -= self._lanes.keys()
        self._waiting.extendleft(reversed(self._lanes.values()))
        self._lanes.clear()
        return number, self._open.pop(number)

    def _on_progressed(self, event: Progressed) -> Commands:
        look, limits = event.look, self.limits
        if self._striped or self._delivering is None or not look.source_bound or not event.left_bytes:
            return ()
        holder = self._open[self._delivering].holder
        if look.over_s >= limits.stall_s:
            if look.bytes_per_s < limits.floor_bytes_per_s:
                return (GiveUp(failure=Failure.SLOW),)
            if look.bytes_per_s < limits.floor_ratio * event.expected_bytes_per_s:
                if any(_is_well(other) for other in self._waiting):
                    return (GiveUp(failure=Failure.LAGGING),)
                return self._look_further()
        if not self._may_stripe or event.lanes_max < 2 or event.left_bytes < limits.stripe_min_bytes:
            return ()
        if look.over_s < _STRIPE_AFTER_S or look.bytes_per_s > _STRIPE_BELOW_BYTES_PER_S:
            return ()
        lanes = [other for other in self._waiting if other.locality is holder.locality and _is_well(other)]
        lanes = lanes[: event.lanes_max - 1]
        if not lanes:
            return self._look_further()
        self._striped = True
        self._lanes = {lane.node: lane for lane in (holder, *lanes)}
        self._tried.update(lane.node for lane in lanes)
        self._waiting = deque(other for other in self._waiting if other not in lanes)
        return (Stripe(holders=tuple(lanes)),)

    def _go_on(self, now_s: float) -> Commands:
        """The next holder, or whatever else may lead to one, or the end."""
        if self._waiting and self._budget > 0:
            return self._fetch(self._waiting.popleft(), now_s)
        if self._looking:
            return ()
        # Who could not be tried for want of attempts may have others behind it: that is worth a second look.
        if further := self._look_further(again=bool(self._waiting)):
            return further
        if self._open:
            return ()
        if self._again and self._budget > 0:
            return self._fetch(self._again.popleft(), now_s)
        in_time = any(ready_s < self._deadline_s for ready_s, _ in self._busy.values())
        if in_time or self._look_again_s is not None:
            return ()
        stubborn_s = self.limits.stubborn_begun_s if self._begun else self.limits.stubborn_s
        if now_s < self._began_s + stubborn_s and not self._no_such_range:
            self._look_again_s = min(now_s + self._pause_s, self._began_s + stubborn_s)
            self._pause_s = min(2 * self._pause_s, _LOOK_AGAIN_MOST_S)
            self._tried.clear()
            return ()
        return self._end()

    def _look_further(self, *, again: bool = False) -> Commands:
        """Ask everyone, once; ``again``: also if the first answer came from everyone."""
        if self._widened or (self._asked_everyone and not again):
            return ()
        self._widened = self._asked_everyone = self._looking = True
        return (Lookup(everyone=True),)

    def _fetch(self, holder: Ranked, now_s: float, *, hedge: bool = False) -> Commands:
        self._budget -= 1
        self._attempts += 1
        self._tried.add(holder.node)
        self._open[self._attempts] = _Attempt(holder, now_s, self._offset)
        return (Fetch(attempt=self._attempts, holder=holder, offset=self._offset, hedge=hedge),)

    def _end(self) -> Commands:
        self.state = State.DONE
        return (*self._abandon_open(), Cut() if self._begun else NotFound(attempts=self._attempts))

    def _wake_s(self, now_s: float) -> float:
        times_s = [self._deadline_s]
        for attempt in self._open.values():
            patience_s = self.limits.stall_s if attempt.avoided else self.limits.patience_s
            times_s.append(attempt.started_s + min(patience_s, self.limits.stall_s))
        if self._may_hedge:
            times_s.append(self._hedge_at_s())
        times_s += [ready_s for ready_s, _ in self._busy.values()]
        if self._look_again_s is not None:
            times_s.append(self._look_again_s)
        return max(now_s, min(times_s))

    def _lost_patience(self, attempt: _Attempt, now_s: float) -> bool:
        return now_s >= attempt.started_s + self.limits.patience_s

    @property
    def _may_hedge(self) -> bool:
        return len(self._open) == 1 and bool(self._waiting) and self._budget > 0

    def _hedge_at_s(self) -> float:
        (attempt,) = self._open.values()
        usual_s = self.limits.hedge_s.get(attempt.holder.locality, self.limits.patience_s)
        return attempt.started_s + usual_s

    def _abandon_open(self) -> Commands:
        abandoned = tuple(Abandon(attempt=attempt) for attempt in self._open)
        self._open.clear()
        return abandoned


def _is_well(holder: Ranked) -> bool:
    return not (holder.condition.cooling or holder.condition.saturated)


def _verdict(node: NodeName, failure: Failure, wait_s: float = 0.0, *, shun: bool = True) -> Commands:
    """What a failure says of the peer, for all pulls."""
    if failure is Failure.MISSING:
        return (Forget(node=node),)
    if failure is Failure.BUSY:
        return (Relieve(node=node, wait_s=wait_s),)
    if (
        failure is Failure.LAGGING
    ):  # being slower than others is no failure: let others come first for a while
        return (Relieve(node=node, wait_s=_LAGGING_S),)
    if not failure.is_peers_fault:
        return ()
    return (Avoid(node=node), Shun(node=node)) if shun else (Avoid(node=node),)
