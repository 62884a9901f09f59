"""How far the look-ups of one pull went, what it waits for when it has nobody to ask, and until when.

Pure values. A further reason to wait is one more value of `Wait`, and one more case where the machine acts
on those that are over.
"""

from dataclasses import dataclass, replace
from enum import Enum

from agent.pull.events import PROGRESS_BYTES
from topology.ranking import Ranked

_PAUSE_S = 0.25
_PAUSE_MOST_S = 2.0


class Reach(Enum):
    """Who was asked who has it, since the body last went on."""

    NEAREST = "nearest"  # the nearest ring that has any, or a cache answered
    EXHAUSTIVE = "exhaustive"  # the same look-up happened to ask everyone
    EVERYONE = "everyone"  # everyone was asked on purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """``under_way``: an answer is expected. Every method returns the search that follows."""

    reach: Reach = Reach.NEAREST
    under_way: bool = False

    @property
    def awaits_everyone(self) -> bool:
        """Whether the answer that is expected is one of everyone."""
        return self.under_way and self.reach is Reach.EVERYONE

    def may_widen(self, *, again: bool) -> bool:
        """Whether it is of use to ask everyone. ``again``: also if the first answer came from everyone."""
        return self.reach is Reach.NEAREST or (again and self.reach is Reach.EXHAUSTIVE)

    def started(self) -> "Search":
        """The first look-up."""
        return replace(self, under_way=True)

    def widened(self) -> "Search":
        """Everyone is asked."""
        return Search(reach=Reach.EVERYONE, under_way=True)

    def answered(self, *, exhaustive: bool) -> "Search":
        """The answer came. ``exhaustive``: from everyone."""
        reach = Reach.EXHAUSTIVE if exhaustive and self.reach is Reach.NEAREST else self.reach
        return Search(reach=reach, under_way=False)

    def outdated(self) -> "Search":
        """The body went on for long: what was found then may be wrong by now."""
        return replace(self, reach=Reach.NEAREST)


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyHolder:
    """A holder is full and said when to ask again."""

    until_s: float
    holder: Ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAgain:
    """Nobody is left, but the client takes an end badly: look once more after a pause."""

    until_s: float


Wait = BusyHolder | LookAgain
"""What a pull waits for while it has nobody to ask."""


class Waits:
    """What one pull waits for. A holder is waited for once, and so is a second look."""

    def __init__(self) -> None:
        self._waits: dict[object, Wait] = {}

    def add(self, wait: Wait) -> None:
        """Wait for this as well; it replaces an earlier wait for the same."""
        self._waits[_subject(wait)] = wait

    def over(self, now_s: float) -> tuple[Wait, ...]:
        """Those that are over, in the order in which they began. They are no longer waited for."""
        ended = {subject: wait for subject, wait in self._waits.items() if now_s >= wait.until_s}
        for subject in ended:
            del self._waits[subject]
        return tuple(ended.values())

    def times_s(self) -> tuple[float, ...]:
        """When each is over."""
        return tuple(wait.until_s for wait in self._waits.values())

    def worth_it(self, deadline_s: float) -> bool:
        """Whether one of them can still lead to something."""
        return any(isinstance(wait, LookAgain) or wait.until_s < deadline_s for wait in self._waits.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A part of the body with a clock of its own. ``began_at``: its first byte.

    The clock begins anew where a source ends, once a MiB came since the last time. So a pull that gets
    a few bytes from each holder still meets its deadline.
    """

    began_s: float = 0.0
    deadline_s: float = 0.0
    began_at: int | None = None  # None: no source ended yet

    def ended(self, offset: int, now_s: float, deadline_s: float) -> "Stretch":
        """A source ended at this byte."""
        if self.began_at is not None and offset - self.began_at < PROGRESS_BYTES:
            return self
        return Stretch(began_s=now_s, deadline_s=now_s + deadline_s, began_at=offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistence:
    """How long to look again when nobody is left. ``pause_s``: before the next look; each is longer."""

    pause_s: float = _PAUSE_S
    useless: bool = False  # a peer said that the range selects nothing

    def look_again(self, now_s: float, end_s: float) -> LookAgain | None:
        """The next pause, if it is not ``end_s`` yet."""
        if self.useless or now_s >= end_s:
            return None
        return LookAgain(until_s=min(now_s + self.pause_s, end_s))

    def paused(self) -> "Persistence":
        """What follows a pause."""
        return replace(self, pause_s=min(2 * self.pause_s, _PAUSE_MOST_S))


def _subject(wait: Wait) -> object:
    return wait.holder.node if isinstance(wait, BusyHolder) else LookAgain
