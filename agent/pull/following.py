"""What one pull goes through with holders that are still fetching the content themselves. Pure.

Such a holder is a step in a chain. If it has nothing more for a while, whoever it takes the content from may
be slow or gone. So its failures say nothing about it, and the pull goes on elsewhere from the same byte. A
holder may also send the pull to others, because its link is taken. Both are bounded here, so that no answer
keeps a pull busy: see docs/decisions/0045.

No circle of nodes can wait for each other: a holder answers only if it is ahead of the byte that it is asked
for, and whoever takes the content from it never gets ahead of it.
"""

from collections import Counter

from agent.pull.arrival import AHEAD_S
from agent.pull.events import Failure
from topology.placement import NodeName
from topology.ranking import Ranked

_SENT_ON_MAX = 16  # times; a tree of a thousand nodes with three below each is seven steps deep
_AGAIN_MAX = 3  # times that one holder is asked again because it was not ahead yet; each took it `AHEAD_S`
_STEP_S = 1.0  # a step of the chain gets so much longer than the one before it to find another source
_STEPS_MAX = 4

_OF_THE_CHAIN = frozenset((Failure.SILENT, Failure.SLOW, Failure.BROKEN))


def is_in_flight(holder: Ranked) -> bool:
    """Whether the holder is still fetching the content, as far as this node knows."""
    return holder.condition.in_flight is not None


def is_complete(holder: Ranked) -> bool:
    """Whether the holder has all of the content, as far as this node knows."""
    return holder.condition.in_flight is None


def as_follower(failure: Failure) -> Failure:
    """What a failure in the middle of a body means if its holder is still fetching the content."""
    return Failure.STARVED if failure in _OF_THE_CHAIN else failure


def stall_s(stall_s: float, depth: int) -> float:
    """How long such a holder may give nothing in the middle of a body. ``depth``: see `DEPTH_HEADER`.

    A holder far down the chain has to notice the same silence itself, and should then go on for all below it.
    """
    return stall_s + _STEP_S * min(depth, _STEPS_MAX)


def patience_s(patience_s: float, holder: Ranked) -> float:
    """How long to wait for a holder's answer. One that is not ahead may wait before it answers."""
    return patience_s + AHEAD_S if is_in_flight(holder) else patience_s


class Following:
    """What one pull was told by such holders. ``sharing``: those that sent it to others."""

    def __init__(self) -> None:
        self._sent_on = 0
        self._not_ahead: Counter[NodeName] = Counter()
        self.sharing: set[NodeName] = set()

    def sent_on(self, holder: Ranked) -> bool:
        """The holder sent the pull to others. Returns whether to go there, and to come back if that fails.

        A holder gives the content to whoever comes back. One that does not is not asked a third time.
        """
        first = holder.node not in self.sharing
        self.sharing.add(holder.node)
        self._sent_on += 1
        return first and self._sent_on <= _SENT_ON_MAX

    def not_ahead(self, holder: Ranked, *, begun: bool) -> bool:
        """The holder has not got as far yet. Returns whether to ask it again at once.

        ``begun``: the client has a part. Then it probably takes the content from this node, so it will not
        get any farther, and waits until this node does.
        """
        if begun:
            return False
        self._not_ahead[holder.node] += 1
        return self._not_ahead[holder.node] <= _AGAIN_MAX and self._not_ahead.total() <= _SENT_ON_MAX

    def may_replace(self, other: Ranked) -> bool:
        """Whether to go on from this holder because one in flight is slow.

        Not from one whose link is taken: the one in flight is slow because of it.
        """
        return not is_in_flight(other) and other.node not in self.sharing
