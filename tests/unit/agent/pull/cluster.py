"""A fictitious cluster around one pull: it obeys the pull's commands, and checks each against the rules.

What a finding on a peer means is decided by the product's own policy.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from hypothesis import note

from agent.config import PullSettings
from agent.pull.events import (
    PROGRESS_BYTES,
    Abandon,
    AskClaim,
    Avoid,
    Broke,
    ClaimAnswered,
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
    Shun,
    Stripe,
    Ticked,
    Turn,
    WakeAt,
)
from agent.pull.following import is_in_flight
from agent.pull.machine import Pull, State
from agent.pull.regard import Regard
from tests.unit.twins import make_policy, node, sha256
from topology.placement import NodeName
from topology.ranking import Ranked

SENT_ON_MAX, AGAIN_MAX = 16, 3
DIGEST = sha256("what is pulled")
NODES = tuple(map(node, "abcdefgh"))
CLAIM_LATE_S = 2.0  # an answer may be so late, by the fault of this node


def _most_s(question: AskClaim) -> float:
    """After this time its answer does not come any more."""
    return 3 * question.wait_s + CLAIM_LATE_S


@dataclass(slots=True)
class Opened:
    """An attempt that is under way."""

    holder: Ranked
    offset: int


@dataclass
class Cluster:
    """The pull's events and commands so far. Use `start`, then `tell`.

    A command against the rules fails the test at once.
    """

    limits: Limits
    now_s: float = 0.0
    offset: int = 0  # how many bytes of the body the client has
    wake_s: float = 0.0
    deadline_s: float = 0.0
    began_s: float = 0.0
    lookups: int = 0  # look-ups that are not answered yet
    everyone_asked: bool = False
    open: dict[int, Opened] = field(default_factory=dict)
    delivering: int | None = None
    striped: bool = False
    lanes: dict[NodeName, Ranked] = field(default_factory=dict)  # the holders that still give a striped body
    given_up: Failure | None = None
    end: NotFound | Cut | None = None
    question: AskClaim | None = None  # for a turn; it is not answered yet
    waited_s: float = 0.0  # for answers to such questions, in all
    _questions: int = 0
    _asked_s: float = 0.0  # since when there is a question
    _known: set[NodeName] = field(default_factory=set)
    _asked: set[NodeName] = field(default_factory=set)
    _spent: set[NodeName] = field(default_factory=set)  # holders that failed and were not busy
    _blamed: set[NodeName] = field(default_factory=set)  # holders that failed while they delivered
    _ready_s: dict[NodeName, float] = field(default_factory=dict)  # when a busy holder may be asked again
    _attempts: int = 0
    _withheld: int = 0
    _sent_on: list[NodeName] = field(default_factory=list)  # holders that sent the pull to others
    _not_ahead: list[NodeName] = field(default_factory=list)  # holders in flight that were not as far yet
    _allowed: int = 0
    _counted_from: int = 0  # of the attempts
    _stopped_at: int | None = None  # the byte at which the deadline began again
    _given_bytes: Mapping[NodeName, int] = field(default_factory=dict)
    _begun: bool = False
    _lanes_max: int = 1
    _no_such_range: bool = False  # a peer said that the range selects nothing: no use in looking again

    def __post_init__(self) -> None:
        self.pull = Pull(limits=self.limits)
        regard = Regard(cooloff_s=PullSettings().cooloff_s)
        regard.members_changed(NODES)
        self.policy = make_policy(regard=regard, patience_s=self.limits.patience_s)

    @property
    def passed_over(self) -> Set[NodeName]:
        """The peers that no look-up returns now, because what they gave was bad."""
        return self.policy.passed_over(DIGEST, self.now_s)

    @property
    def _stubborn_s(self) -> float:
        if self._no_such_range:
            return 0.0
        return self.limits.stubborn_begun_s if self._begun else self.limits.stubborn_s

    @property
    def _looked_again(self) -> bool:
        """Whether the pull may have repeated its look-up, so that every holder may be asked again."""
        stubborn_s = self.limits.stubborn_begun_s if self._begun else self.limits.stubborn_s
        return bool(stubborn_s or self._questions)

    @property
    def done(self) -> bool:
        """Whether the pull has ended."""
        return self.pull.state is State.DONE

    def start(self, now_s: float) -> tuple[Command, ...]:
        """The first commands."""
        self.now_s = now_s
        self._allowed = self.limits.attempts_max
        self._reset_clock()
        return self._obey(self.pull.start(now_s))

    def tell(self, event: Event) -> tuple[Command, ...]:
        """Give the pull an event at `now_s`. Returns its commands, after it checked that all are allowed."""
        was_done, was_trying, was_wake_s = self.done, self.pull.state.is_trying, self.wake_s
        self._happens(event)
        commands = self.pull.on(event, self.now_s)
        note(f"{self.now_s:.2f} s: {event} leads to {commands}")
        assert not (was_done and commands), f"{commands} after the end"
        self._obey(commands)
        if self.pull.state.is_trying:
            assert isinstance(commands[-1], WakeAt), "it would wait for ever"
            soon = self.wake_s < self.deadline_s or self.deadline_s - self.now_s < 0.5
            assert self.open or self.lookups or self.question or soon, (
                "nothing is under way, and it waits for the deadline"
            )
        if self.done:
            assert not self.open, "an attempt goes on after the end"
        if event == Ticked() and was_trying and self.now_s >= was_wake_s:
            moved = self.done or self.wake_s > was_wake_s or len(commands) > 1
            assert moved, f"woken at {was_wake_s} to do nothing"
        return commands

    def _happens(self, event: Event) -> None:
        """Apply the event to the cluster."""
        match event:
            case Found():
                self.lookups -= 1
                self._allowed += self.limits.attempts_max if self._known or self.everyone_asked else 0
                self.everyone_asked = self.everyone_asked or event.exhaustive
                self._known |= {holder.node for holder in event.holders}
            case ClaimAnswered() if self.question is not None and self.pull.state.is_trying:
                self._answered()
                self._known |= {holder.node for holder in event.holders}
                self._allowed = max(self._allowed, self._attempts + (event.turn is Turn.OTHER))
            case Ticked() if self.question is not None and self.pull.state.is_trying:
                late_s = self._asked_s + _most_s(self.question)
                if late_s <= self.now_s < self.deadline_s:
                    self._answered()  # it does not come any more
            case Failed() if event.attempt in self.open and event.attempt != self.delivering:
                node = self.open.pop(event.attempt).holder.node
                self._withheld += event.failure is Failure.WITHHELD
                self._allowed += event.failure is Failure.WITHHELD
                self._no_such_range = self._no_such_range or event.failure is Failure.UNSATISFIABLE
                self._lost(node, event.failure, 0, event.wait_s, second_chance=False)
            case Progressed():
                self._lanes_max = event.lanes_max
            case LaneFailed():
                self.lanes.pop(event.holder.node, None)
                self._lost(event.holder.node, event.failure, event.given_bytes, event.wait_s)
            case Broke() if self.delivering is not None:
                opened = self.open[self.delivering]
                given_bytes = event.offset - opened.offset
                if given_bytes >= PROGRESS_BYTES:  # the body made progress: attempts are counted from zero
                    self._allowed = self._attempts + self.limits.attempts_max + len(self._ready_s)
                    self._counted_from = self._attempts
                    self.everyone_asked = False
                if not self.striped:  # in a striped body `LaneFailed` reported each failure already
                    self._lost(opened.holder.node, event.failure, given_bytes, event.wait_s)
                self._stopped(event.offset)
            case Gathered() if self.delivering is not None:
                self._allowed += 1
                self._stopped(event.offset)
            case Completed():
                self.delivering, self._given_bytes = None, event.given_bytes
            case ClientGone():
                self.delivering = None
            case _:
                pass

    def _lost(
        self,
        node: NodeName,
        failure: Failure,
        given_bytes: int,
        wait_s: float,
        *,
        second_chance: bool = True,
    ) -> None:
        if failure is Failure.SHARED:
            self._sent_on.append(node)
            self._allowed += 1
            if self._sent_on.count(node) > 1 or len(self._sent_on) > SENT_ON_MAX:
                self._spent.add(node)
            return
        if failure is Failure.STARVED:
            if second_chance or self.offset or self.limits.stubborn_s:
                self._spent.add(node)
                return
            self._not_ahead.append(node)
            if self._not_ahead.count(node) <= AGAIN_MAX and len(self._not_ahead) <= SENT_ON_MAX:
                self._allowed += 1
            else:
                self._spent.add(node)
            return
        if second_chance:
            self._blamed.add(node)
        if failure is Failure.BUSY:
            self._ready_s[node] = self.now_s + wait_s
            self._allowed += 1
            return
        plenty = failure is Failure.BROKEN and given_bytes >= PROGRESS_BYTES
        if not (second_chance and (plenty or failure is Failure.LAGGING)):
            self._spent.add(node)

    def _stopped(self, offset: int) -> None:
        self.offset = offset
        self.lanes, self.striped, self.given_up, self.delivering = {}, False, None, None
        if self._stopped_at is None or offset - self._stopped_at >= PROGRESS_BYTES:
            self._stopped_at = offset  # a few bytes at a time would never meet the deadline
            self._reset_clock()

    def _answered(self) -> None:
        """The question for a turn is answered, or of no use any more. What it took adds to the deadline."""
        assert self.question is not None
        took_s = self.now_s - self._asked_s
        self.waited_s += took_s
        self.deadline_s += min(0.0, took_s - _most_s(self.question))
        self.question = None

    def _reset_clock(self) -> None:
        self.began_s, self.deadline_s = self.now_s, self.now_s + self.limits.deadline_s

    def _obey(self, commands: tuple[Command, ...]) -> tuple[Command, ...]:
        for command in commands:
            assert self.end is None, f"{command} after {self.end}"
            self._obey_one(command)
        return commands

    def _obey_one(self, command: Command) -> None:
        match command:
            case Lookup():
                assert not self.lookups, "a look-up during another"
                self.lookups += 1
                self.everyone_asked = self.everyone_asked or command.everyone
            case AskClaim():
                self._check_question(command)
                self.question, self._asked_s = command, self.now_s
                self._questions += 1
                self.deadline_s += _most_s(command)
            case Fetch():
                self._check_fetch(command)
                self._attempts += 1
                self._asked.add(command.holder.node)
                self._ready_s.pop(command.holder.node, None)
                self.open[command.attempt] = Opened(command.holder, command.offset)
            case Abandon():
                assert command.attempt in self.open, "abandoned what was not open"
                opened = self.open.pop(command.attempt)
                if command.failure is not None:
                    self._spent.add(opened.holder.node)
            case WakeAt():
                assert self.now_s <= command.at_s <= max(self.now_s, self.deadline_s), "out of time"
                self.wake_s = command.at_s
            case Avoid() | Shun() | Relieve():
                assert command.node in self._asked, "a finding on one that was not asked"
                self.policy.apply(command, DIGEST, self.now_s)
            case Forget():
                assert command.node in self._asked, "a finding on one that was not asked"
            case Commend():
                assert self._given_bytes[command.node] >= PROGRESS_BYTES, "commended for little"
                assert command.node not in self._blamed, "commended though it failed"
                self.policy.apply(command, DIGEST, self.now_s)
            case Deliver():
                assert self.delivering is None, "two at a time"
                assert list(self.open) == [command.attempt], "the others still run"
                assert self.open[command.attempt].offset == self.offset
                self.delivering, self._begun = command.attempt, True
                if self.question is not None:
                    self._answered()
            case Stripe():
                self._check_stripe(command)
                own = self.open[self.delivering or 0].holder
                self.striped = True
                self.lanes = {lane.node: lane for lane in (own, *command.holders)}
                self._asked |= self.lanes.keys()
            case GiveUp():
                assert self.delivering is not None
                self.given_up = command.failure
            case NotFound() | Cut():
                self._check_end(command)
                self.end = command

    def _check_fetch(self, command: Fetch) -> None:
        node = command.holder.node
        assert self.delivering is None, "asks another while one delivers"
        assert command.attempt not in self.open
        assert node not in {opened.holder.node for opened in self.open.values()}, "one peer twice at a time"
        assert node not in self.passed_over, "asks one that is shunned"
        assert node not in self._spent or self._looked_again, "asks again one that failed"
        assert self.now_s >= self._ready_s.get(node, 0.0), "asks a busy one sooner than it said"
        assert command.offset == self.offset, "leaves a gap, or sends bytes twice"
        assert not command.hedge or len(self.open) == 1, "a hedge beside nothing, or beside several"
        assert self._attempts < self._allowed, "more attempts than allowed"

    def _check_question(self, command: AskClaim) -> None:
        assert self.question is None, "asks for a turn twice"
        assert not self.open, "asks for a turn while an attempt is open"
        assert not self.lookups, "asks for a turn before it knows that nobody has it"
        assert self.delivering is None
        assert command.offset == self.offset
        assert not self._no_such_range, "nobody has such a range"
        assert 0 < command.wait_s <= self.limits.claim_wait_s - self.waited_s + 1e-6, (
            "waits longer than it may"
        )

    def _check_stripe(self, command: Stripe) -> None:
        assert self.delivering is not None
        assert not self.striped, "striped twice"
        own = self.open[self.delivering].holder
        nodes = [holder.node for holder in command.holders]
        assert 0 < len(nodes) < self._lanes_max
        assert len({own.node, *nodes}) == len(nodes) + 1, "one holder twice"
        assert all(holder.tier is own.tier for holder in command.holders)
        assert not any(map(is_in_flight, (own, *command.holders))), "stripes over what still arrives"
        assert not self.passed_over & set(nodes), "asks one that is shunned"
        assert not self._spent & set(nodes), "asks one that failed"

    def _check_end(self, command: NotFound | Cut) -> None:
        assert isinstance(command, Cut) == self._begun, "404 after a body began, or a cut before"
        assert not self.open, "gives up while an attempt runs"
        if isinstance(command, NotFound):
            assert command.attempts == self._attempts - self._withheld, "tells who withheld it"
        if self.now_s >= self.deadline_s:
            return
        if self.question is not None:
            late_s = self._asked_s + _most_s(self.question)
            assert self.now_s >= late_s, "gives up while it may be told of a turn"
        may_ask = self.limits.claim_wait_s > 0 and not self._no_such_range
        assert self._questions or not may_ask, "goes to the registry without asking whose turn it is"
        assert self.everyone_asked, "gives up before everyone was asked"
        assert not self.lookups, "gives up during a look-up"
        assert self.now_s >= self.began_s + self._stubborn_s, "gives up too soon for such a client"
        if self._attempts - self._counted_from >= self.limits.attempts_max:
            return
        waited_for = [node for node, ready_s in self._ready_s.items() if ready_s < self.deadline_s]
        assert not waited_for, "gives up though a busy one will have room"
        assert self._known <= self._asked, "gives up with an untried holder"
