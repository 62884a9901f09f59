"""One pull from peers, as a state machine: events and the time in, commands out. No I/O.

The machine decides which holder to ask next, when to stop waiting, how to go on after a failure, and how the
pull ends. The transfer room executes the commands and reports the results. `TABLE` says what each event does
in each state. Sources: docs/decisions/0012; docs/decisions/0003 for how containerd reacts to each failure.

If only other zones have a large content, the pull first asks whose turn it is to bring it into its own zone.
When no holder is left to ask, the pull does the first of these that is possible:

1. Ask all peers who has the content.
2. Wait for the attempts that are open.
3. Try a holder a second time that broke off after it had given much.
4. Wait for what `agent.pull.search.Wait` lists.
5. Ask whose turn it is to fetch it from the registry, and wait for the first bytes of that node.
6. End. Before the first byte the end is `NotFound`. After it the end is `Cut`, and the client resumes with a
   range.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, assert_never

from agent.pull.attempt import Attempt
from agent.pull.candidates import Candidates, is_well
from agent.pull.events import (
    PROGRESS_BYTES,
    Abandon,
    AskClaim,
    Avoid,
    Broke,
    ClaimAnswered,
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
    Turn,
    WakeAt,
)
from agent.pull.findings import finding
from agent.pull.following import Following, is_complete, is_in_flight
from agent.pull.search import (
    BusyHolder,
    ClaimAwaited,
    Claiming,
    LookAgain,
    Persistence,
    Search,
    Stretch,
    Waits,
)
from agent.pull.straggling import Straggling, may_straggle
from topology.placement import NodeName, Tier
from topology.ranking import Ranked

_STRIPE_AFTER_S = 0.5  # TCP has reached its full rate by then
_WITHHELD_MAX = 16  # so many refusals by name cost a pull no attempt; each of them is a round trip
_CRAWLS = 0.25  # of the rate below which a holder lags; then it is left for one whose link is taken, too
_STRIPE_BELOW_BYTES_PER_S = 400e6  # a faster source is as fast as copying from several sources


class State(Enum):
    """What a pull is doing."""

    SEEKING = "seeking"  # no holder gave a byte yet, so the answer can still be 404
    RESUMING = "resuming"  # the client has a part, and another holder has to go on at the same byte
    DELIVERING = "delivering"  # one holder gives the body
    STRIPING = "striping"  # several holders give parts of the body
    DONE = "done"

    @property
    def is_trying(self) -> bool:
        """Whether the pull asks holders for first bytes. It needs `Ticked` only in these states."""
        return self in (State.SEEKING, State.RESUMING)


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
    _following: Following = field(default_factory=Following)
    _straggling: Straggling = field(default_factory=Straggling)
    _claiming: Claiming = field(default_factory=lambda: Claiming(left_s=0.0))
    _open: dict[int, Attempt] = field(default_factory=dict)
    _attempts: int = 0  # made so far
    _withheld: int = 0  # of them, those that a holder withheld
    _budget: int = 0  # how many more attempts may be made
    _offset: int = 0  # how many bytes of the body the client has
    _delivering: int = 0  # the attempt that gives the body, in DELIVERING and STRIPING
    _lanes: dict[NodeName, Ranked] = field(default_factory=dict)  # the holders in STRIPING that did not fail
    _stripes_useless: bool = False
    _failed: set[NodeName] = field(default_factory=set)

    @property
    def failed(self) -> Set[NodeName]:
        """The holders that failed after they had begun to give the body."""
        return self._failed

    @property
    def rival(self) -> Ranked | None:
        """The holder that would go on if the present one were too slow. None: it is as good as any."""
        if not is_in_flight(self._open[self._delivering].holder):
            return self._candidates.best(is_complete)
        return self._candidates.best(self._following.may_replace)

    @property
    def _has_begun(self) -> bool:
        """Whether the client has the beginning of the content, from this pull or from an earlier one."""
        return self._offset > 0 or self.limits.stubborn_s > 0

    def start(self, now_s: float) -> Commands:
        """The first commands."""
        self._stretch = Stretch(began_s=now_s, deadline_s=now_s + self.limits.deadline_s)
        self._budget = self.limits.attempts_max
        self._claiming = Claiming(left_s=self.limits.claim_wait_s)
        self._search = self._search.started()
        return Lookup(everyone=False), WakeAt(at_s=self._stretch.deadline_s)

    def on(self, event: Event, now_s: float) -> Commands:
        """What to do about ``event``. An event that `TABLE` lacks in this state came too late: do nothing."""
        rule = TABLE[self.state].get(type(event))
        commands = () if rule is None else rule.handle(self, event, now_s)
        return (*commands, WakeAt(at_s=self._wake_s(now_s))) if self.state.is_trying else commands

    def _on_found(self, event: Found, now_s: float) -> Commands:
        if self._search.awaits_everyone:
            # If all near holders fail, there must be attempts left for a far one.
            self._budget += self.limits.attempts_max
        self._search = self._search.answered(exhaustive=event.exhaustive)
        self._candidates.found(event.holders)
        self._straggling = self._straggling.answered(event.neighbours)
        if not self.state.is_trying:
            return ()
        if not self._candidates.any_well and (further := self._look_further()):
            return further  # the holders of this tier are busy or failed: there may be others farther away
        return self._go_on(now_s)

    def _on_failed(self, event: Failed, now_s: float) -> Commands:
        attempt = self._open.pop(event.attempt, None)
        if attempt is None:
            return ()
        holder, failure = attempt.holder, event.failure
        self._claiming = self._claiming.lost(holder.node, failure)
        if failure is Failure.BUSY:
            self._budget += 1  # a refusal costs one round trip only, so it does not count as an attempt
            self._wait_for(holder, event.wait_s, now_s)
        if failure is Failure.SHARED:
            self._go_to_others(holder, event.instead)
        told_wrong = failure is Failure.STARVED and is_complete(holder)  # it is only fetching it
        if failure is Failure.STARVED and not told_wrong and self._is_asked_again(holder):
            self._budget += 1
            self._candidates.first([holder])
        if failure is Failure.WITHHELD:
            self._withheld += 1
            self._budget += self._withheld <= _WITHHELD_MAX  # another holder may give it under this name
        if failure is Failure.UNSATISFIABLE:
            self._persistence = Persistence(useless=True)
        shun = failure in (Failure.SILENT, Failure.INVALID)
        found = finding(holder.node, failure, event.wait_s, shun=shun)
        if failure.is_peers_fault or told_wrong:
            found = (*found, Forget(node=holder.node))
        return (*found, *self._go_on(now_s))

    def _is_asked_again(self, holder: Ranked) -> bool:
        """Whether to ask a holder at once that had not got as far yet."""
        return self._following.not_ahead(holder, begun=self._has_begun)

    def _on_responded(self, event: Responded, now_s: float) -> Commands:
        attempt = self._open.pop(event.attempt, None)
        if attempt is None:
            return ()
        attempt.holder = event.holder or attempt.holder
        for other in self._open.values():  # slower, but still good if this one fails
            if other.avoided:
                self._candidates.put_last(other.holder)
            else:
                self._candidates.give_back([other.holder])
        abandoned = self._abandon_open()
        self._claim_answered(None, now_s)
        self.state = State.DELIVERING
        self._delivering = event.attempt
        self._open[event.attempt] = attempt
        return (*abandoned, Deliver(attempt=event.attempt, holder=attempt.holder))

    def _on_ticked(self, _: Ticked, now_s: float) -> Commands:
        if now_s >= self._stretch.deadline_s:
            silent = [one.holder.node for one in self._open.values() if one.is_slow(self.limits, now_s)]
            return (*(Avoid(node=node) for node in silent), *self._end())
        commands = self._lose_patience(now_s)
        look_again = False
        for wait in self._waits.over(now_s):
            match wait:
                case BusyHolder():
                    self._candidates.put_last(wait.holder)
                case LookAgain():
                    look_again = True
                case ClaimAwaited():
                    self._claim_answered(ClaimAnswered(turn=Turn.NOBODYS), now_s)
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
        """Avoid the holders that are slow. End the attempts that stall."""
        commands: list[Command] = []
        for number, attempt in [*self._open.items()]:
            node = attempt.holder.node
            if attempt.stalls(self.limits, now_s):
                del self._open[number]
                commands += [Abandon(attempt=number, failure=Failure.SILENT), *finding(node, Failure.SILENT)]
            elif not attempt.avoided and attempt.is_slow(self.limits, now_s):
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
            self._claiming = self._claiming.progressed()
        finding: Commands = ()
        if not was_striping:  # in STRIPING each `LaneFailed` led to its finding already
            finding = self._on_lost(attempt.holder, event.failure, given_bytes, event.wait_s, now_s)
        return (*abandoned, *finding, *self._go_on(now_s))

    def _on_lane_failed(self, event: LaneFailed, now_s: float) -> Commands:
        return self._on_lost(event.holder, event.failure, event.given_bytes, event.wait_s, now_s)

    def _on_gathered(self, event: Gathered, now_s: float) -> Commands:
        _, abandoned = self._stop_delivering(event.offset, now_s)
        self._stripes_useless = self._stripes_useless or event.useless
        self._budget = max(self._budget, 1)
        return (*abandoned, *self._go_on(now_s))

    def _on_progressed(self, event: Progressed, now_s: float) -> Commands:
        rate, limits = event.rate, self.limits
        if not rate.source_bound or not event.left_bytes:
            return ()
        if limits.is_too_slow(rate.bytes_per_s, over_s=rate.over_s):
            return (GiveUp(failure=Failure.SLOW),)
        lags = rate.bytes_per_s < limits.floor_ratio * event.expected_bytes_per_s
        arrives = is_in_flight(self._open[self._delivering].holder)
        if lags and rate.over_s >= limits.stall_s:
            crawls = rate.bytes_per_s < _CRAWLS * limits.floor_ratio * event.expected_bytes_per_s
            if self.rival is not None or (arrives and crawls and self._candidates.best(is_complete)):
                return (GiveUp(failure=Failure.LAGGING),)
            if not arrives:
                return self._look_further()
        if arrives:
            return self._straggle(event, now_s)
        return self._stripe(event) if self._is_worth_striping(event) else ()

    def _straggle(self, event: Progressed, now_s: float) -> Commands:
        """Leave a source that is still fetching the content if most of those near have all of it by now."""
        if not may_straggle(event.rate, event.left_bytes):
            return ()
        source, complete = self._open[self._delivering].holder, self.rival
        if self._straggling.is_left_behind and complete is not None and complete.tier <= source.tier:
            self._straggling = self._straggling.judged()
            self._candidates.first([complete])
            return (GiveUp(failure=Failure.LAGGING),)
        if self._search.under_way or now_s < self._straggling.next_s:
            return ()
        self._straggling = self._straggling.looked(now_s)
        self._search = self._search.widened()
        return (Lookup(everyone=True),)

    def _on_completed(self, event: Completed, _: float) -> Commands:
        self.state = State.DONE
        # The bytes that come together with a head prove little: a peer that then stalls gives them, too.
        proved = [node for node, size_bytes in event.given_bytes.items() if size_bytes >= PROGRESS_BYTES]
        commended = (Commend(node=node) for node in proved if node not in self._failed)
        return (*self._abandon_open(), *commended)

    def _on_client_gone(self, _: ClientGone, __: float) -> Commands:
        self.state = State.DONE
        return self._abandon_open()

    def _on_lost(
        self, holder: Ranked, failure: Failure, given_bytes: int, wait_s: float, now_s: float
    ) -> Commands:
        """A holder that gave a part of the body failed."""
        self._lanes.pop(holder.node, None)
        self._claiming = self._claiming.lost(holder.node, failure, in_body=True)
        if failure is Failure.SHARED:  # between two pieces others came
            self._go_to_others(holder, ())
        if failure in (Failure.SHARED, Failure.STARVED):
            return ()
        self._failed.add(holder.node)
        if failure is Failure.BUSY:
            self._wait_for(holder, wait_s, now_s)
        gave_plenty = failure is Failure.BROKEN and given_bytes >= PROGRESS_BYTES
        may_come_back = failure is Failure.LAGGING or gave_plenty
        if may_come_back:
            self._candidates.forgive(holder)
        if is_in_flight(holder) and failure is Failure.LAGGING:
            return ()
        return finding(holder.node, failure, wait_s, shun=not may_come_back)

    def _go_to_others(self, holder: Ranked, others: tuple[Ranked, ...]) -> None:
        """The holder's link is taken: take it from those that it gives it to, and else from itself."""
        self._budget += 1
        if self._following.sent_on(holder):
            self._candidates.first([*others, holder])

    def _wait_for(self, holder: Ranked, wait_s: float, now_s: float) -> None:
        """Ask a busy holder again after the time that it named."""
        self._waits.add(BusyHolder(until_s=now_s + wait_s, holder=holder))

    def _stop_delivering(self, offset: int, now_s: float) -> tuple[Attempt, Commands]:
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
            event.lanes_max - 1,
            lambda other: other.tier is holder.tier and is_well(other) and not is_in_flight(other),
        )
        if not lanes:
            return self._look_further()
        self.state = State.STRIPING
        self._lanes = {lane.node: lane for lane in (holder, *lanes)}
        return (Stripe(holders=lanes),)

    @property
    def waits_for(self) -> str:
        """What is waited for while nobody is asked, for people."""
        return self._waits.words

    def _go_on(self, now_s: float) -> Commands:
        """Try the next holder, or do what may lead to one, or end."""
        if self._candidates and self._budget > 0:
            if self._claiming.asked_s is not None and self._is_at_border:
                return ()
            return self._ask_at_border(now_s) or self._fetch(self._candidates.next(), now_s)
        if self._search.under_way:
            return ()
        # If attempts ran out before the holders did, asking everyone gives the pull new attempts.
        if further := self._look_further(again=bool(self._candidates)):
            return further
        if self._open:
            return ()
        if self._budget > 0 and (forgiven := self._candidates.next_second_chance()) is not None:
            return self._fetch(forgiven, now_s)
        if self._waits.worth_it(self._stretch.deadline_s):
            self._look_while_waiting(now_s)
            return ()
        if self._looks_again(now_s):
            return ()
        return self._ask_claim(now_s) or self._end()

    @property
    def _is_at_border(self) -> bool:
        """Whether nothing was fetched yet, and only nodes of other zones are left to ask."""
        holder = self._candidates.upcoming
        fresh = self.state is State.SEEKING and not self._open
        return fresh and holder is not None and holder.tier > Tier.ZONE and self.limits.border_wait_s > 0

    def _ask_at_border(self, now_s: float) -> Commands:
        """Before the first content crosses into the zone, ask whose turn it is, so that it crosses once."""
        claiming = self._claiming
        if not self._is_at_border or claiming.asks or not claiming.may_ask:
            return ()
        wait_s = min(self.limits.border_wait_s, claiming.left_s)
        self._claiming = claiming.asked_at_border(now_s)
        self._waits.add(ClaimAwaited(until_s=now_s + wait_s))
        self._stretch = self._stretch.longer(claiming.wait_most_s)
        return (AskClaim(offset=self._offset, wait_s=wait_s),)

    def _ask_claim(self, now_s: float) -> Commands:
        """Ask whose turn it is to fetch from the registry. The time that it takes adds to the deadline."""
        wait_s = self._claiming.left_s
        if not self._claiming.may_ask or self._persistence.useless:
            return ()
        self._claiming = self._claiming.asked(now_s)
        self._waits.add(ClaimAwaited(until_s=now_s + self._claiming.wait_most_s))
        self._stretch = self._stretch.longer(self._claiming.wait_most_s)
        self._look_while_waiting(now_s)
        return (AskClaim(offset=self._offset, wait_s=wait_s, despite=self._claiming.despite),)

    def _look_while_waiting(self, now_s: float) -> None:
        """While another node's turn is waited for, somebody else may have got the content."""
        if self._claiming.asked_s is not None and LookAgain not in self._waits:
            self._waits.add(LookAgain(until_s=now_s + self.limits.claim_look_s))
            self._candidates.forget_tried()  # whoever was still fetching it may have more by then

    def _on_claim_answered(self, event: ClaimAnswered, now_s: float) -> Commands:
        if not self._claim_answered(event, now_s):
            return ()
        if event.turn is Turn.OTHER:
            self._candidates.again(event.holders)
            self._budget = max(self._budget, 1)
        return self._go_on(now_s)

    def _claim_answered(self, answer: ClaimAnswered | None, now_s: float) -> bool:
        """The question for a turn was answered, or is of no use any more. False: none was open."""
        asked_s, wait_s = self._claiming.asked_s, self._claiming.wait_most_s
        if asked_s is None:
            return False
        self._claiming = self._claiming.answered(answer, now_s)
        self._waits.end(ClaimAwaited)
        self._waits.end(LookAgain)
        self._stretch = self._stretch.longer(min(0.0, now_s - asked_s - wait_s))
        return True

    def _looks_again(self, now_s: float) -> bool:
        """Whether the pull will repeat the look-up, for a client that handles a failure badly."""
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
        """Ask all peers, once. ``again``: also if the first look-up happened to ask all of them."""
        if not self._search.may_widen(again=again):
            return ()
        self._search = self._search.widened()
        return (Lookup(everyone=True),)

    def _fetch(self, holder: Ranked, now_s: float, *, hedge: bool = False) -> Commands:
        self._budget -= 1
        self._attempts += 1
        self._open[self._attempts] = Attempt(holder, now_s, self._offset)
        return (Fetch(attempt=self._attempts, holder=holder, offset=self._offset, hedge=hedge),)

    def _end(self) -> Commands:
        end = Cut() if self.state is State.RESUMING else NotFound(attempts=self._attempts - self._withheld)
        self.state = State.DONE
        return (*self._abandon_open(), end)

    def _wake_s(self, now_s: float) -> float:
        times_s = [self._stretch.deadline_s, *self._waits.times_s()]
        times_s += [attempt.wake_s(self.limits) for attempt in self._open.values()]
        if self._may_hedge:
            times_s.append(self._hedge_at_s())
        return max(now_s, min(times_s))

    @property
    def _may_hedge(self) -> bool:
        return len(self._open) == 1 and bool(self._candidates) and self._budget > 0

    def _hedge_at_s(self) -> float:
        (attempt,) = self._open.values()
        return attempt.hedge_at_s(self.limits)

    def _abandon_open(self) -> Commands:
        abandoned = tuple(Abandon(attempt=attempt) for attempt in self._open)
        self._open.clear()
        return abandoned


@dataclass(frozen=True, slots=True)
class Rule:
    """What an event does in a state: its handler, the states that may follow, the commands that may come.

    In every trying state `WakeAt` comes last. It is not listed.
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
        # Fetch from the first holder. If there is none, or none is well: ask everyone. Still none: 404.
        Found: _rule(Pull._on_found, {_SEEKING, _DONE}, Lookup, Fetch, AskClaim, NotFound),
        # The finding about this holder, then the next holder.
        Failed: _rule(Pull._on_failed, {_SEEKING, _DONE}, *_FINDINGS, Lookup, Fetch, AskClaim, NotFound),
        # The first to respond wins. (The response of an abandoned attempt changes nothing.)
        Responded: _rule(Pull._on_responded, {_SEEKING, _DELIVERING}, Abandon, Deliver),
        # After hedge_s: ask a second holder as well. After patience_s: Avoid this one, ask the next. After
        # stall_s: Abandon it. After a wait: ask the busy holder again, or everyone. After the deadline: 404.
        Ticked: _rule(
            Pull._on_ticked, {_SEEKING, _DONE}, Abandon, Avoid, Shun, Lookup, Fetch, AskClaim, NotFound
        ),
        # Another node has it by now: fetch from it. It is this node's turn, or nobody's: 404.
        ClaimAnswered: _rule(Pull._on_claim_answered, {_SEEKING, _DONE}, Lookup, Fetch, NotFound),
        ClientGone: _rule(Pull._on_client_gone, {_DONE}, Abandon),
    },
    _RESUMING: {
        # As in SEEKING, but from the byte that was reached, and the end is a cut.
        Found: _rule(Pull._on_found, {_RESUMING, _DONE}, Lookup, Fetch, AskClaim, Cut),
        Failed: _rule(Pull._on_failed, {_RESUMING, _DONE}, *_FINDINGS, Lookup, Fetch, AskClaim, Cut),
        Responded: _rule(Pull._on_responded, {_RESUMING, _DELIVERING}, Abandon, Deliver),
        Ticked: _rule(
            Pull._on_ticked, {_RESUMING, _DONE}, Abandon, Avoid, Shun, Lookup, Fetch, AskClaim, Cut
        ),
        ClaimAnswered: _rule(Pull._on_claim_answered, {_RESUMING, _DONE}, Fetch, Cut),
        ClientGone: _rule(Pull._on_client_gone, {_DONE}, Abandon),
    },
    _DELIVERING: {
        # More holders for a resume, or for striping.
        Found: _rule(Pull._on_found, {_DELIVERING}),
        # Far too slow, or left behind: GiveUp, and then Broke follows. Slower than the reader: Stripe, if
        # others have it.
        Progressed: _rule(Pull._on_progressed, {_DELIVERING, _STRIPING}, GiveUp, Stripe, Lookup),
        # The next holder goes on at this byte.
        Broke: _rule(Pull._on_broke, {_RESUMING, _DONE}, Abandon, *_FINDINGS, Lookup, Fetch, AskClaim, Cut),
        Completed: _rule(Pull._on_completed, {_DONE}, Abandon, Commend),
        ClientGone: _rule(Pull._on_client_gone, {_DONE}, Abandon),
    },
    _STRIPING: {
        Found: _rule(Pull._on_found, {_STRIPING}),
        # The other holders go on with what it leaves.
        LaneFailed: _rule(Pull._on_lane_failed, {_STRIPING}, *_FINDINGS),
        # One holder is left, or several were no faster than one: go on with one.
        Gathered: _rule(Pull._on_gathered, {_RESUMING, _DONE}, Abandon, Lookup, Fetch, AskClaim, Cut),
        # No holder is left. Each `LaneFailed` led to its finding already.
        Broke: _rule(Pull._on_broke, {_RESUMING, _DONE}, Abandon, Lookup, Fetch, AskClaim, Cut),
        Completed: _rule(Pull._on_completed, {_DONE}, Abandon, Commend),
        ClientGone: _rule(Pull._on_client_gone, {_DONE}, Abandon),
    },
    _DONE: {},
}
"""What each event does in each state.

`Ticked` does nothing in DELIVERING and STRIPING. There `Progressed` reports the rate, and the transfer room
notices a stall.
"""
