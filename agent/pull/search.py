"""How far the look-ups of one pull went, and what it waits for while it has no holder to ask. Pure values.

To add a reason to wait, add a value to `Wait` and a case to `Pull._on_ticked` in `agent.pull.machine`.
"""

from dataclasses import dataclass, replace
from enum import Enum

from agent.pull.events import PROGRESS_BYTES, ClaimAnswered, Failure, Turn
from topology.placement import NodeName
from topology.ranking import Ranked

_PAUSE_S = 0.25
_PAUSE_MOST_S = 2.0
_CLAIM_ASKS_MAX = 8
_QUEUED_FACTOR = 3.0  # see `agent.holders.claims.QUEUED_FACTOR`
_CLAIM_LATE_S = 2.0  # an answer comes in time, unless this node is at fault
_STARVED_MAX = (
    5  # answers that it is not ahead, which `Following` asks for again; in a body one counts as three
)
_STARVED_BODY = 3


class Reach(Enum):
    """Which peers were asked for holders, since the body last made progress."""

    NEAREST = "nearest"  # the nearest ring that has a holder, or none (a cache answered)
    EXHAUSTIVE = "exhaustive"  # all peers: a look-up of the nearest ring had to go through all rings
    EVERYONE = "everyone"  # all peers, on purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The look-ups of a pull. ``under_way``: an answer is expected. Each method returns a new search."""

    reach: Reach = Reach.NEAREST
    under_way: bool = False

    @property
    def awaits_everyone(self) -> bool:
        """Whether an answer of all peers is expected."""
        return self.under_way and self.reach is Reach.EVERYONE

    def may_widen(self, *, again: bool) -> bool:
        """Whether asking all peers can help. ``again``: also if the first look-up asked all of them."""
        return self.reach is Reach.NEAREST or (again and self.reach is Reach.EXHAUSTIVE)

    def started(self) -> "Search":
        """After the first look-up began."""
        return Search(reach=self.reach, under_way=True)

    def widened(self) -> "Search":
        """After a look-up at all peers began."""
        return Search(reach=Reach.EVERYONE, under_way=True)

    def answered(self, *, exhaustive: bool) -> "Search":
        """After an answer. ``exhaustive``: all peers were asked."""
        reach = Reach.EXHAUSTIVE if exhaustive and self.reach is Reach.NEAREST else self.reach
        return Search(reach=reach, under_way=False)

    def outdated(self) -> "Search":
        """After the body made progress: the answers are old by now, so all peers may be asked again."""
        return Search(under_way=self.under_way)


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyHolder:
    """A holder is busy, and it said when to ask again."""

    until_s: float
    holder: Ranked

    @property
    def subject(self) -> object:
        """See `Wait`."""
        return BusyHolder, self.holder.node

    @property
    def words(self) -> str:
        """See `Wait`."""
        return f"{self.holder.node} is busy and said when to ask again"

    def can_help(self, deadline_s: float) -> bool:
        """See `Wait`. The holder can still give the body, if it is asked before the deadline."""
        return self.until_s < deadline_s


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAgain:
    """No holder is left, but the client handles a failure badly: repeat the look-up after a pause."""

    until_s: float

    @property
    def subject(self) -> object:
        """See `Wait`."""
        return LookAgain

    @property
    def words(self) -> str:
        """See `Wait`."""
        return "nobody is left to ask, and somebody may have it soon"

    def can_help(self, deadline_s: float) -> bool:
        """See `Wait`. A look-up can always find somebody."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAwaited:
    """It was asked whose turn it is to fetch from the registry."""

    until_s: float

    @property
    def subject(self) -> object:
        """See `Wait`."""
        return ClaimAwaited

    @property
    def words(self) -> str:
        """See `Wait`."""
        return "another node is to fetch it from the registry"

    def can_help(self, deadline_s: float) -> bool:
        """See `Wait`. The deadline moves on while it is waited for."""
        return True


Wait = BusyHolder | LookAgain | ClaimAwaited
"""What a pull waits for while it has no holder to ask.

``until_s``: when it is over at the latest. ``subject``: what is waited for; a new wait replaces the one for
the same subject. ``words``: what is waited for, for people. ``can_help``: whether the pull should go on
waiting for it rather than end.
"""


class Waits:
    """What one pull waits for: each busy holder once, one repeated look-up, and one question for a turn."""

    def __init__(self) -> None:
        self._waits: dict[object, Wait] = {}

    def add(self, wait: Wait) -> None:
        """Wait for this as well. It replaces an earlier wait for the same thing."""
        self._waits[wait.subject] = wait

    def __contains__(self, subject: object) -> bool:
        """Whether this is waited for."""
        return subject in self._waits

    def end(self, subject: object) -> Wait | None:
        """What was waited for has come: stop waiting. Returns the wait, if there was one."""
        return self._waits.pop(subject, None)

    def over(self, now_s: float) -> tuple[Wait, ...]:
        """Remove and return the waits that are over, in the order in which they began."""
        ended = {subject: wait for subject, wait in self._waits.items() if now_s >= wait.until_s}
        for subject in ended:
            del self._waits[subject]
        return tuple(ended.values())

    @property
    def words(self) -> str:
        """What is waited for, for people."""
        return "; ".join(wait.words for wait in self._waits.values())

    def times_s(self) -> tuple[float, ...]:
        """When each wait is over."""
        return tuple(wait.until_s for wait in self._waits.values())

    def worth_it(self, deadline_s: float) -> bool:
        """Whether one of the waits can still help."""
        return any(wait.can_help(deadline_s) for wait in self._waits.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A part of the body with its own deadline. ``began_at``: its first byte.

    A new stretch begins where a source ends, but only after `PROGRESS_BYTES` more. So a pull that gets only a
    few bytes from each holder does not get a new deadline each time.
    """

    began_s: float = 0.0
    deadline_s: float = 0.0
    began_at: int | None = None  # None: no source ended yet

    def longer(self, wait_s: float) -> "Stretch":
        """With a deadline that is so much later, or sooner if ``wait_s`` is negative."""
        return replace(self, deadline_s=self.deadline_s + wait_s)

    def ended(self, offset: int, now_s: float, deadline_s: float) -> "Stretch":
        """The stretch after a source ended at this byte."""
        if self.began_at is not None and offset - self.began_at < PROGRESS_BYTES:
            return self
        return Stretch(began_s=now_s, deadline_s=now_s + deadline_s, began_at=offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claiming:
    """What a pull knows of whose turn it is to fetch from the registry. Each method returns a new value.

    ``left_s``: for how long it may still wait. ``asked_s``: since when a question is open. ``over``: it asks
    no more. ``holder``: whose turn it is; ``complete``: it has all of the content. ``starved``: how often it
    had nothing more, weighted. ``failed``: it gave nothing. ``at_border``: the last question was
    asked because only other zones have the content.
    """

    left_s: float
    asks: int = 0
    asked_s: float | None = None
    over: bool = False
    holder: NodeName | None = None
    complete: bool = False
    starved: int = 0
    failed: bool = False
    at_border: bool = False

    @property
    def may_ask(self) -> bool:
        """Whether asking can help."""
        return not self.over and self.asked_s is None and self.left_s > 0 and self.asks < _CLAIM_ASKS_MAX

    @property
    def wait_most_s(self) -> float:
        """After this time the answer is late: another node may have to fetch other contents first."""
        return _QUEUED_FACTOR * self.left_s + _CLAIM_LATE_S

    @property
    def despite(self) -> NodeName | None:
        """Who gave nothing although it is its turn."""
        return self.holder if self.failed else None

    def asked(self, now_s: float) -> "Claiming":
        """After a question."""
        return replace(self, asks=self.asks + 1, asked_s=now_s, at_border=False)

    def asked_at_border(self, now_s: float) -> "Claiming":
        """After a question that is asked because only other zones have the content."""
        return replace(self, asks=self.asks + 1, asked_s=now_s, at_border=True)

    def answered(self, answer: ClaimAnswered | None, now_s: float) -> "Claiming":
        """After the answer, or None if there is no use for it any more."""
        waited_s = 0.0 if self.asked_s is None else max(0.0, now_s - self.asked_s)
        ended = replace(self, asked_s=None, left_s=self.left_s - waited_s)
        if answer is None:
            return ended
        if answer.turn is not Turn.OTHER or not answer.holders:
            # If the other zones fail, it is not too late to wait for whoever fetches it.
            return replace(ended, over=not self.at_border or answer.turn is Turn.OWN)
        holder = answer.holders[0].node
        again = holder == self.holder
        return replace(
            ended,
            holder=holder,
            complete=answer.complete,
            starved=self.starved if again else 0,
            failed=False,
        )

    def lost(self, node: NodeName, failure: Failure, *, in_body: bool = False) -> "Claiming":
        """A fetch failed so. If it is the one whose turn it is, others may have to be asked."""
        if node != self.holder:
            return self
        match failure:
            case Failure.WITHHELD:  # it gives it under other names only, and whoever is next may do so too
                return replace(self, over=True)
            case Failure.BUSY | Failure.SHARED | Failure.LAGGING | Failure.EXHAUSTED | Failure.CUT_OFF:
                return self
            case Failure.STARVED | Failure.MISSING if not self.complete:
                # Its registry may be slow. But who says again and again that it has more, and has not, lies.
                starved = self.starved + (_STARVED_BODY if in_body else 1)
                return replace(self, starved=starved, failed=starved >= _STARVED_MAX)
            case _:
                return replace(self, failed=True)

    def progressed(self) -> "Claiming":
        """After the body made progress, a pull may ask anew. What it waited for counts on."""
        return replace(self, asks=0, over=False, starved=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistence:
    """Repeating the look-up when no holder is left. ``pause_s``: the next pause; each is longer."""

    pause_s: float = _PAUSE_S
    useless: bool = False  # a peer said that the range selects nothing

    def look_again(self, now_s: float, end_s: float) -> LookAgain | None:
        """The next wait. None if it is past ``end_s``."""
        if self.useless or now_s >= end_s:
            return None
        return LookAgain(until_s=min(now_s + self.pause_s, end_s))

    def paused(self) -> "Persistence":
        """After a pause: the next one is longer."""
        return replace(self, pause_s=min(2 * self.pause_s, _PAUSE_MOST_S))
