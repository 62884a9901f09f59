"""Who fetches a content from the registry, as a server says it that all nodes of a scope ask. Pure.

The zone's arbiter decides (`agent.holders.claims`). But two nodes may both be taken for the arbiter: lists of
members differ for a moment, or the network is cut. So whoever is to fetch sets a fence at the server, if
nobody has one for this content. It renews it with what it has so far, and takes it away at the end. A fence
that is not renewed is gone after `LEASE_S`. Each has a number of its own. Only who has the number can renew
the fence, so a node that stood still, and was overtaken, changes nothing when it goes on.

The server is trusted with a hint only: with the name of a node, which must be a member, and with a number of
bytes, which that node gives or does not. Whoever was led to a node that gave nothing takes the fence over.
Times are seconds of one monotonic clock.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from agent.holders.claims import DONE_S, LEASE_S, RENEW_S, STALL_FACTOR
from topology.placement import NodeName

TIPS_MAX = 2
"""So often a node is followed on the server's word without a byte coming of it."""

TAKEN_OVER_MAX = 3
"""So often one question tries to take a fence over. A server that still says otherwise is not believed."""

_GONE_S = 1.0  # the commit renames the file before the store is known to have it
_STALE_S = 60.0  # nothing came for so long: its owner was killed, say, and has left a part of it behind
_QUEUE_STARTS = 8  # times `start_s`: see `agent.holders.claims`
_NAME_MAX = 253
_BYTES_MAX = 1 << 62


class FenceState(Enum):
    """How far who has the fence is. The value is what the server keeps."""

    QUEUED = "q"  # its containerd fetches other contents first
    FETCHING = "f"
    COMPLETE = "c"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """What the server keeps. ``number``: another one each time that a fence is set."""

    node: NodeName
    number: int
    available_bytes: int = 0
    state: FenceState = FenceState.FETCHING

    @property
    def lease_s(self) -> float:
        """For how long the server keeps it."""
        return DONE_S if self.state is FenceState.COMPLETE else LEASE_S

    @property
    def owner(self) -> bytes:
        """The beginning of its text, which says whose it is."""
        return f"{self.node} {self.number} ".encode()

    def encode(self) -> bytes:
        """As the server keeps it."""
        return self.owner + f"{self.available_bytes} {self.state.value}".encode()


def decode(value: bytes) -> Fence | None:
    """What the server keeps. None: no agent wrote that."""
    try:
        node, number, available, state = value[: _NAME_MAX + 64].decode().split(" ")
        fence = Fence(
            node=NodeName(node),
            number=int(number),
            available_bytes=int(available),
            state=FenceState(state),
        )
    except ValueError:
        return None
    is_sound = node and len(node) <= _NAME_MAX and 0 < fence.number <= _BYTES_MAX
    return fence if is_sound and 0 <= fence.available_bytes <= _BYTES_MAX else None


class Next(Enum):
    """What to do about another node's fence."""

    FOLLOW = "follow"  # fetch from that node
    WAIT = "wait"  # look again in a moment
    TAKE_OVER = "take over"  # set a fence of one's own in its place
    IGNORE = "ignore"  # go to the registry without one


class FenceWatch:
    """What one question makes of other nodes' fences, from its first look to its last.

    ``beyond_bytes``: a source must have more. ``usable``: whether a node is a member that may be asked.
    ``start_s``: for how long who has a fence may make no progress.
    """

    def __init__(self, *, beyond_bytes: int, usable: Callable[[NodeName], bool], start_s: float) -> None:
        self._beyond_bytes = beyond_bytes
        self._usable = usable
        self._start_s = start_s
        self._seen: Fence | None = None
        self._moved_s = 0.0
        self._queue_ends_s = 0.0
        self._taken_over = 0

    def judge(self, fence: Fence, now_s: float) -> Next:
        """This fence is there now."""
        if not self._usable(fence.node):
            return self._take_over()
        if fence.state is FenceState.COMPLETE or fence.available_bytes > self._beyond_bytes:
            return Next.FOLLOW
        seen, self._seen = self._seen, fence
        if seen is None or (seen.node, seen.number) != (fence.node, fence.number):
            self._moved_s, self._queue_ends_s = now_s, now_s + _QUEUE_STARTS * self._start_s
        elif fence.available_bytes > seen.available_bytes or self._is_queued(fence, now_s):
            self._moved_s = now_s
        return Next.WAIT if now_s < self._moved_s + self._start_s else self._take_over()

    def _is_queued(self, fence: Fence, now_s: float) -> bool:
        return fence.state is FenceState.QUEUED and now_s < self._queue_ends_s

    def _take_over(self) -> Next:
        self._taken_over += 1
        return Next.TAKE_OVER if self._taken_over <= TAKEN_OVER_MAX else Next.IGNORE


class Say(Enum):
    """What there is to tell the server of a fence of this node."""

    NOTHING = "nothing"
    RENEW = "renew"
    DROP = "drop"  # it is not needed any more
    LAPSE = "lapse"  # drop it, and set it again once something comes


@dataclass(slots=True, kw_only=True)
class KeptFence:
    """A fence of this node. Decides what to tell the server of it.

    ``pulls``: those that were granted it, and have not ended. ``used_s``: since when containerd is on its way
    to the registry; None: it is not yet. ``grew_s``: when it grew last. ``told_s``: when the server was told
    last. ``missing_s``: since when containerd is not writing it. ``lapsed``: the server was told to drop it.
    """

    fence: Fence
    grew_s: float
    told_s: float
    pulls: int = 1
    used_s: float | None = None
    missing_s: float | None = None
    lapsed: bool = False

    def look(
        self, available_bytes: int | None, now_s: float, *, held: bool, queued: bool, start_s: float
    ) -> Say:
        """What to tell, which is then in ``fence``.

        ``available_bytes``: what containerd has written of it; None: it is not writing it. ``held``: the
        store has all of it. ``queued``: containerd is busy with other contents that this node is to fetch.
        """
        if held:
            self.fence = replace(self.fence, state=FenceState.COMPLETE)
            return Say.RENEW
        if self._is_over(available_bytes, now_s):
            return Say.DROP
        before, has = self.fence, max(self.fence.available_bytes, available_bytes or 0)
        state = FenceState.QUEUED if queued and not has else FenceState.FETCHING
        grew = has > before.available_bytes
        if grew or state is FenceState.QUEUED:
            self.grew_s = now_s
        self.fence = replace(before, available_bytes=has, state=state)
        if self._is_stalled(now_s, start_s):
            return Say.NOTHING if self.lapsed else self._lapse()
        begins = grew and not before.available_bytes
        if begins or self.lapsed or now_s >= self.told_s + RENEW_S:
            self.told_s, self.lapsed = now_s, False
            return Say.RENEW
        return Say.NOTHING

    def _is_over(self, available_bytes: int | None, now_s: float) -> bool:
        if self.used_s is None:
            return self.pulls <= 0
        if available_bytes is not None:
            self.missing_s = None
            return now_s >= max(self.used_s, self.grew_s) + _STALE_S
        self.missing_s = now_s if self.missing_s is None else self.missing_s
        return now_s >= self.missing_s + _GONE_S

    def _is_stalled(self, now_s: float, start_s: float) -> bool:
        """The arbiter gives the turn to another node then, and that one must not find this fence."""
        patience_s = start_s * (STALL_FACTOR if self.fence.available_bytes else 1.0)
        return now_s >= self.grew_s + patience_s

    def _lapse(self) -> Say:
        self.lapsed = True
        return Say.LAPSE
