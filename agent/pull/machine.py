"""One pull from peers, as a state machine: events and the time in, commands out. No I/O.

Decides whom to ask next, when to stop waiting, and how the pull ends. The transfer room executes the
commands and reports what came of them. Source: DESIGN 7; the reactions that containerd shows to each
kind of failure (docs/decisions/0003).

    state        event       next         commands
    ---------------------------------------------------------------------------------------
    LOOKING      Found       TRYING       Fetch the first holder, or Lookup all, or NotFound
    TRYING       Failed      TRYING       Fetch the next holder, or Lookup all, or NotFound
    TRYING       Ticked      TRYING       the same once patience is over; the slow one stays in the race
    TRYING       Ticked      DONE         past the deadline: Abandon all, NotFound
    TRYING       Responded   DELIVERING   Abandon the others, Deliver
    DELIVERING   Completed   DONE
    DELIVERING   Broke       DONE         Cut: the client resumes with a Range request
    any          ClientGone  DONE         Abandon all
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from topology.placement import NodeName
from topology.ranking import Ranked


class Failure(Enum):
    """Why an attempt gave nothing. The value is its label in metrics."""

    UNREACHABLE = "unreachable"
    SILENT = "silent"
    BROKEN = "broken"  # the connection ended early
    INVALID = "invalid"  # an answer that can't be right: a length, a range, a digest
    UNSATISFIABLE = "unsatisfiable"  # 416: the range selects nothing, says this peer
    MISSING = "missing"  # 404: the index was out of date
    BUSY = "busy"  # 429
    ERROR = "error"  # any other status

    @property
    def is_peers_fault(self) -> bool:
        """Whether the peer should be avoided for a while."""
        return self not in (Failure.MISSING, Failure.BUSY, Failure.UNSATISFIABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """See `PullSettings` for each field."""

    patience_s: float
    deadline_s: float
    attempts_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The index answered. ``complete``: every peer was asked, so there is no use in asking more."""

    holders: tuple[Ranked, ...]
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Responded:
    """The attempt has its headers checked and its first bytes in hand."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The attempt ended before its first bytes."""

    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke:
    """The body that was being delivered ended early or stalled."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The body was delivered whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """The time asked for by `WakeAt` has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientGone:
    """Nobody waits for this pull any more."""


Event = Found | Responded | Failed | Broke | Completed | Ticked | ClientGone


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Ask the index; with ``everyone`` all peers, passing by its cache. Answered by `Found`."""

    everyone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Start an attempt. Answered by `Responded` or `Failed`."""

    attempt: int
    holder: Ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """End an attempt; no answer is expected."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Report `Ticked` at this time; replaces an earlier wish."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Avoid:
    """The peer failed: avoid it for a while, in all pulls."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Relieve:
    """The peer has no capacity left: prefer others for a moment, in all pulls."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """The peer does not have the digest, or can't give it: look it up anew next time."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Send this attempt's bytes to the client. Answered by `Completed`, `Broke` or `ClientGone`."""

    attempt: int
    holder: Ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """Nobody can serve it: answer 404. ``attempts``: how many peers were tried."""

    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """End the response visibly short, so that the client resumes elsewhere."""


Command = Lookup | Fetch | Abandon | WakeAt | Avoid | Relieve | Forget | Deliver | NotFound | Cut


class State(Enum):
    """See the table in the module's docstring."""

    LOOKING = "looking"
    TRYING = "trying"
    DELIVERING = "delivering"
    DONE = "done"


@dataclass(slots=True)
class Pull:
    """One pull. Times are seconds of one monotonic clock."""

    limits: Limits
    state: State = State.LOOKING
    _started_s: float = 0.0
    _patience_ends_s: float = 0.0
    _attempts: int = 0
    _attempts_max: int = 0
    _asked_everyone: bool = False
    _widened: bool = False
    _waiting: deque[Ranked] = field(default_factory=deque)
    _open: dict[int, Ranked] = field(default_factory=dict)
    _tried: set[NodeName] = field(default_factory=set)

    def start(self, now_s: float) -> tuple[Command, ...]:
        """The first commands."""
        self._started_s = now_s
        self._attempts_max = self.limits.attempts_max
        return Lookup(everyone=False), WakeAt(at_s=self._deadline_s)

    def on(self, event: Event, now_s: float) -> tuple[Command, ...]:
        """What to do about ``event``. Events that come too late are answered with nothing."""
        if self.state is State.DONE:
            return ()
        match event:
            case Found():
                return self._on_found(event, now_s)
            case Failed():
                return self._on_failed(event, now_s)
            case Responded():
                return self._on_responded(event)
            case Ticked():
                return self._on_ticked(now_s)
            case Broke():
                return self._on_broke(event)
            case Completed():
                self.state = State.DONE
                return ()
            case ClientGone():
                return self._abandon_all()

    @property
    def _deadline_s(self) -> float:
        return self._started_s + self.limits.deadline_s

    def _on_found(self, event: Found, now_s: float) -> tuple[Command, ...]:
        self._asked_everyone = self._asked_everyone or event.complete
        if self.state is State.DELIVERING:
            return ()
        self.state = State.TRYING
        # The newer answer comes first: it knows of everyone, and whom to avoid by now.
        newer = {holder.node for holder in event.holders}
        merged = (*event.holders, *(holder for holder in self._waiting if holder.node not in newer))
        self._waiting = deque(holder for holder in merged if holder.node not in self._tried)
        return self._next(now_s)

    def _on_failed(self, event: Failed, now_s: float) -> tuple[Command, ...]:
        holder = self._open.pop(event.attempt, None)
        if holder is None:
            return ()
        if event.failure.is_peers_fault:
            verdict: tuple[Command, ...] = (Avoid(node=holder.node), Forget(node=holder.node))
        elif event.failure is Failure.MISSING:
            verdict = (Forget(node=holder.node),)
        elif event.failure is Failure.BUSY:
            verdict = (Relieve(node=holder.node),)
        else:
            verdict = ()
        return verdict + (self._next(now_s) if self.state is State.TRYING else ())

    def _on_responded(self, event: Responded) -> tuple[Command, ...]:
        if self.state is State.DELIVERING:
            return ()
        holder = self._open.pop(event.attempt, None)
        if holder is None:
            return ()
        others = self._abandon_open()
        self.state = State.DELIVERING
        self._open[event.attempt] = holder
        return (*others, Deliver(attempt=event.attempt, holder=holder))

    def _on_ticked(self, now_s: float) -> tuple[Command, ...]:
        if self.state is State.DELIVERING:
            return ()
        if now_s >= self._deadline_s:
            silent = tuple(Avoid(node=holder.node) for holder in self._open.values())
            return (*silent, *self._abandon_all(), NotFound(attempts=self._attempts))
        if self.state is not State.TRYING or not self._open:
            return (WakeAt(at_s=self._deadline_s),)
        if now_s < self._patience_ends_s:  # timers fire early now and then
            return (WakeAt(at_s=min(self._patience_ends_s, self._deadline_s)),)
        latest = self._open[max(self._open)]
        return (Avoid(node=latest.node), *self._next(now_s))

    def _on_broke(self, event: Broke) -> tuple[Command, ...]:
        self.state = State.DONE
        if event.failure.is_peers_fault:
            return (*(Avoid(node=holder.node) for holder in self._open.values()), Cut())
        return (Cut(),)

    def _next(self, now_s: float) -> tuple[Command, ...]:
        """The next holder; else everyone; else wait for those still open; else 404."""
        if self._waiting and self._attempts < self._attempts_max:
            self._attempts += 1
            holder = self._waiting.popleft()
            self._tried.add(holder.node)
            self._open[self._attempts] = holder
            self._patience_ends_s = now_s + self.limits.patience_s
            wake_s = min(self._patience_ends_s, self._deadline_s)
            return Fetch(attempt=self._attempts, holder=holder), WakeAt(at_s=wake_s)
        if not self._widened and (self._waiting or not self._asked_everyone):
            # Near holders that all fail must not hide a far one: it gets attempts of its own.
            self._widened = self._asked_everyone = True
            self._attempts_max += self.limits.attempts_max
            self.state = State.LOOKING
            return Lookup(everyone=True), WakeAt(at_s=self._deadline_s)
        if self._open:
            return (WakeAt(at_s=self._deadline_s),)
        self.state = State.DONE
        return (NotFound(attempts=self._attempts),)

    def _abandon_open(self) -> tuple[Command, ...]:
        abandoned = tuple(Abandon(attempt=attempt) for attempt in self._open)
        self._open.clear()
        return abandoned

    def _abandon_all(self) -> tuple[Command, ...]:
        self.state = State.DONE
        return self._abandon_open()
