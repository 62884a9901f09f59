"""Claims that a server guards as well, so that two arbiters do not send two nodes to the registry.

Whoever is granted a claim by its arbiter, or reaches none, sets a fence at the server before it goes to the
registry. If another node has one, that node is followed as soon as it has begun, and it is waited for as long
as for an arbiter's word. Only who would go to the registry looks at the server, and all others wait at their
arbiter as ever. Without the server everything is as without this module, after one deadline of it at most.
What is decided: `agent.holders.fences`.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from agent.content.store import ContentStore
from agent.holders.claimant import Answer, Outcome
from agent.holders.claims import ClaimKey, Held
from agent.holders.clusterclaims import Claims
from agent.holders.fences import TIPS_MAX, Fence, FenceState, FenceWatch, KeptFence, Next, Say
from agent.observe.index_metrics import FencedOutcome
from agent.oci.reference import Addressed
from topology.placement import NodeName

_LOOK_S = 0.25  # the others are told of containerd's first bytes so much later
_WAIT_S = 0.25  # between two looks at another node's fence; who looks is the only one of its arbiter's nodes
_TIPS_KEPT, _TIP_S = 1024, 60.0


class Fences(Protocol):
    """The server. Nothing here raises because of it."""

    async def take(self, key: ClaimKey, own: NodeName, *, over: Fence | None) -> Fence | None:
        """Set a fence for this node, if there is none, or if there is still this one of another node.

        Returns the fence that is there now; one of ``own`` that was there before stays. None: the server can
        not be asked, or says something that makes no sense.
        """
        ...

    async def renew(self, fences: Mapping[ClaimKey, Fence]) -> Mapping[ClaimKey, bool]:
        """Renew these. One that has gone is set again. Returns which are not another node's now.

        Those of which nobody knows are left out.
        """
        ...

    async def drop(self, fences: Mapping[ClaimKey, Fence]) -> None:
        """Take these away, as far as they are still there."""
        ...


class FencedClaims:
    """Claims with a fence each. `run` it. ``claims``: decides first.

    ``usable``: whether a node is a member that may be asked. ``count``: is told of each outcome.
    """

    def __init__(
        self,
        claims: Claims,
        fences: Fences,
        *,
        own: NodeName,
        store: ContentStore,
        usable: Callable[[NodeName], bool],
        count: Callable[[FencedOutcome], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self._fences = fences
        self._own = own
        self._store = store
        self._usable = usable
        self._count = count
        self._clock = clock
        self.settings = claims.settings
        self._kept: dict[ClaimKey, KeptFence] = {}
        self._following: set[ClaimKey] = set()
        self._tips: OrderedDict[tuple[ClaimKey, int, NodeName], tuple[int, float]] = OrderedDict()
        self._grew_s = float("-inf")  # when containerd got something last that this node has a fence for
        self._stirred = asyncio.Event()

    def key_of(self, target: Addressed) -> ClaimKey:
        """See `Claims`."""
        return self._claims.key_of(target)

    def has(self, key: ClaimKey) -> bool:
        """See `Claims`. Who follows another node is not on its way to the registry."""
        return self._claims.has(key) and key not in self._following

    @property
    def kept(self) -> Mapping[ClaimKey, Fence]:
        """The fences of this node."""
        return {key: kept.fence for key, kept in self._kept.items()}

    async def ask(
        self, key: ClaimKey, *, beyond_bytes: int, wait_s: float, despite: NodeName | None = None
    ) -> Answer:
        """See `Claims`. Both steps together take ``wait_s`` at most, and one deadline of the server."""
        until_s = self._clock() + wait_s
        self._following.discard(key)
        answer = await self._claims.ask(key, beyond_bytes=beyond_bytes, wait_s=wait_s, despite=despite)
        if answer.outcome not in (Outcome.GRANTED, Outcome.ALONE):
            return answer
        granted, asked = answer.outcome is Outcome.GRANTED, False
        try:
            other = await self._fence(key, beyond_bytes, until_s, despite, granted=granted)
            asked = True
        finally:
            if granted and not asked:  # the client left
                self._claims.give_back(key)
        if other is None:
            return answer
        if granted:
            self._claims.use(key)  # the zone is told of what containerd writes, wherever it comes from
            self._following = {*filter(self._claims.has, self._following), key}
        complete = other.state is FenceState.COMPLETE
        return Answer(
            outcome=Outcome.FOLLOWED, held=Held((other.node,), other.available_bytes, complete=complete)
        )

    def use(self, key: ClaimKey) -> None:
        """See `Claims`."""
        self._claims.use(key)
        kept = self._kept.get(key)
        if kept is not None:
            kept.pulls, kept.used_s = max(0, kept.pulls - 1), self._clock()
            self._stirred.set()

    def give_back(self, key: ClaimKey) -> None:
        """See `Claims`."""
        self._claims.give_back(key)
        kept = self._kept.get(key)
        if kept is not None:
            kept.pulls = max(0, kept.pulls - 1)
            self._stirred.set()

    async def run(self) -> None:
        """Keep the fences, until cancelled. Then they end by themselves."""
        while True:
            self._stirred.clear()
            if self._kept:
                await self._look()
                await asyncio.sleep(_LOOK_S)
            else:
                await self._stirred.wait()

    async def _fence(
        self, key: ClaimKey, beyond_bytes: int, until_s: float, despite: NodeName | None, *, granted: bool
    ) -> Fence | None:
        """The fence of the node to follow. None: go to the registry, with a fence if the server gives one."""
        watch = FenceWatch(
            beyond_bytes=beyond_bytes,
            usable=lambda node: node != despite and self._is_believed(key, beyond_bytes, node),
            start_s=self.settings.claim_start_s,
        )
        over: Fence | None = None
        while True:
            if (kept := self._kept.get(key)) is not None and not kept.lapsed:
                kept.pulls += granted
                return None
            fence = await self._fences.take(key, self._own, over=over)
            if fence is None:
                self._count(FencedOutcome.UNAVAILABLE)
                return None
            if fence.node == self._own:
                self._keep(key, fence, granted=granted)
                return None
            over = None
            match watch.judge(fence, now_s := self._clock()):
                case Next.FOLLOW:
                    self._count(FencedOutcome.HELD)
                    self._tipped(key, beyond_bytes, fence.node)
                    return fence
                case Next.TAKE_OVER:
                    over = fence
                case Next.WAIT if now_s < until_s:
                    await asyncio.sleep(min(_WAIT_S, until_s - now_s))
                case _:
                    return None

    def _is_believed(self, key: ClaimKey, beyond_bytes: int, node: NodeName) -> bool:
        return self._usable(node) and self._tips_of(key, beyond_bytes, node) < TIPS_MAX

    def _tips_of(self, *tip: *tuple[ClaimKey, int, NodeName]) -> int:
        """How often this node was led to that one for these very bytes, until a moment ago."""
        count, at_s = self._tips.get(tip, (0, 0.0))
        return count if self._clock() < at_s + _TIP_S else 0

    def _tipped(self, *tip: *tuple[ClaimKey, int, NodeName]) -> None:
        count = self._tips_of(*tip) + 1
        self._tips.pop(tip, None)
        self._tips[tip] = count, self._clock()
        if len(self._tips) > _TIPS_KEPT:
            self._tips.popitem(last=False)

    def _keep(self, key: ClaimKey, fence: Fence, *, granted: bool) -> None:
        """This node has the fence. Nobody says what becomes of a pull without a claim: it goes on."""
        now_s, kept = self._clock(), self._kept.get(key)
        if kept is not None and not kept.lapsed:  # another pull of this node was told so meanwhile
            kept.pulls += granted
            return
        self._count(FencedOutcome.GRANTED)
        pulls, used_s = int(granted), None if granted else now_s
        if kept is not None:  # the one that lapsed: its pulls go on
            pulls, used_s = pulls + kept.pulls, used_s if kept.used_s is None else kept.used_s
        self._kept[key] = KeptFence(fence=fence, grew_s=now_s, told_s=now_s, pulls=pulls, used_s=used_s)
        self._stirred.set()

    async def _look(self) -> None:
        """Look how far each content is, and tell the server what there is to tell."""
        renewed: dict[ClaimKey, Fence] = {}
        dropped: dict[ClaimKey, Fence] = {}
        for key, kept in [*self._kept.items()]:
            match self._say(key, kept):
                case Say.RENEW:
                    renewed[key] = kept.fence
                case Say.LAPSE:
                    dropped[key] = kept.fence
                case Say.DROP:
                    del self._kept[key]
                    dropped[key] = kept.fence
                case Say.NOTHING:
                    pass
            if kept.fence.state is FenceState.COMPLETE:
                del self._kept[key]
        if dropped:
            await self._fences.drop(dropped)
        if renewed:
            self._forget_lost(await self._fences.renew(renewed), renewed)

    def _say(self, key: ClaimKey, kept: KeptFence) -> Say:
        digest, now_s = key.digest, self._clock()
        growing = self._store.growing(digest)
        available_bytes = None if growing is None else growing.available_bytes
        if growing is None and self._store.receiving(digest):
            available_bytes = 0
        start_s, before = self.settings.claim_start_s, kept.fence.available_bytes
        say = kept.look(
            available_bytes,
            now_s,
            held=self._store.holds(digest),
            queued=now_s < self._grew_s + start_s,
            start_s=start_s,
        )
        if kept.fence.available_bytes > before or kept.fence.state is FenceState.COMPLETE:
            self._grew_s = now_s
        return say

    def _forget_lost(self, still: Mapping[ClaimKey, bool], renewed: Iterable[ClaimKey]) -> None:
        for key in renewed:
            if still.get(key, True) is False and self._kept.pop(key, None) is not None:
                self._count(FencedOutcome.LOST)
