"""Whether a pull that follows was left behind: most near it have all of the content by now. Pure.

The nodes of a zone that follow each other get on at the same pace, and end together. If one of them has a
slow link, those below it are slow for as long as they stay, while everybody else is done. So a follower
that has much left looks up now and then who is complete. Once these are as many as those that still fetch
it, its own source is at fault, and it goes on from a complete one.

Before that it stays where it is: all of a zone would else leave for the first few that are complete, and
each would get less than before.
"""

from dataclasses import dataclass, replace

from agent.pull.events import Neighbours
from agent.pull.meter import Rate

_AFTER_S = 1.0  # a rate over less time may be a pause of the source's source
_WORTH_S = 2.0  # the rest takes longer than this: a change costs a round trip and a new connection's start
_PAUSE_S = 1.0
_PAUSE_MOST_S = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Straggling:
    """The look-ups of one pull for those that are complete. Each method returns a new value.

    ``next_s``: when to look next. ``pause_s``: how long to pause after that; each pause is longer.
    ``asked``: a look-up is under way. ``neighbours``: its answer, until that is judged.
    """

    next_s: float = 0.0
    pause_s: float = _PAUSE_S
    asked: bool = False
    neighbours: Neighbours | None = None

    def looked(self, now_s: float) -> "Straggling":
        """After a look-up began."""
        pause_s = min(2 * self.pause_s, _PAUSE_MOST_S)
        return Straggling(next_s=now_s + self.pause_s, pause_s=pause_s, asked=True)

    def answered(self, neighbours: Neighbours | None) -> "Straggling":
        """After any look-up was answered. One of before is no news."""
        return replace(self, asked=False, neighbours=neighbours if self.asked else self.neighbours)

    def judged(self) -> "Straggling":
        """After its answer was judged."""
        return replace(self, neighbours=None)

    @property
    def is_left_behind(self) -> bool:
        """Whether as many nodes of the zone have all of it as still fetch it."""
        near = self.neighbours
        return near is not None and near.complete >= max(1, near.arriving)


def may_straggle(rate: Rate, left_bytes: int) -> bool:
    """Whether so much is left, at this rate, that another source would be worth it."""
    return rate.over_s >= _AFTER_S and left_bytes >= rate.bytes_per_s * _WORTH_S
