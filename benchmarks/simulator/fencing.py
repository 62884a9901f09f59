"""The index's server as it keeps the fences of claims: see `agent.holders.fencedclaims.Fences`."""

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from agent.holders.claims import ClaimKey
from agent.holders.fences import Fence
from topology.placement import NodeName

Scoped = tuple[Hashable, ClaimKey]
"""Whose claim it is, of those who ask the server, and what it is about."""


@dataclass(kw_only=True)
class KeptFences:
    """All fences with their ends, and what the scripts on a real server decide about them."""

    clock: Callable[[], float]
    kept: dict[Scoped, tuple[Fence, float]] = field(default_factory=dict)
    numbers: int = 0

    def look(self, key: Scoped) -> Fence | None:
        """What it keeps now."""
        fence, until_s = self.kept.get(key, (None, 0.0))
        return fence if self.clock() < until_s else None

    def set(self, key: Scoped, fence: Fence) -> None:
        """Keep this."""
        self.kept[key] = fence, self.clock() + fence.lease_s

    def take(self, key: Scoped, own: NodeName, *, over: Fence | None) -> Fence:
        """See `Fences.take`."""
        fence = self.look(key)
        if fence is None or (over is not None and fence.owner == over.owner):
            self.numbers += 1
            fence = Fence(node=own, number=self.numbers)
            self.set(key, fence)
        return fence

    def renew(self, key: Scoped, fence: Fence) -> bool:
        """See `Fences.renew`."""
        there = self.look(key)
        if there is not None and there.owner != fence.owner:
            return False
        self.set(key, fence)
        return True

    def drop(self, key: Scoped, fence: Fence) -> None:
        """See `Fences.drop`."""
        there = self.look(key)
        if there is not None and there.owner == fence.owner:
            del self.kept[key]


@dataclass(kw_only=True)
class FenceServer(KeptFences):
    """``is_there``: whether the server answers the nodes of a zone."""

    latency_s: float
    timeout_s: float
    is_there: Callable[[int], bool]
    calls: int = 0

    async def answers(self, zone: int) -> bool:
        """Whether it answers a call of a node of this zone."""
        self.calls += 1
        if not self.is_there(zone):
            return False  # nobody asks it then
        await asyncio.sleep(self.latency_s)
        if not self.is_there(zone):
            await asyncio.sleep(self.timeout_s)
        return self.is_there(zone)


@dataclass(slots=True)
class ZoneFences:
    """The way of a node of this zone to the server. See `Fences`."""

    server: FenceServer
    zone: int

    def _of(self, key: ClaimKey) -> Scoped:
        return (-1 if key.cluster else self.zone), key

    async def take(self, key: ClaimKey, own: NodeName, *, over: Fence | None) -> Fence | None:
        """See `Fences.take`."""
        if not await self.server.answers(self.zone):
            return None
        return self.server.take(self._of(key), own, over=over)

    async def renew(self, fences: Mapping[ClaimKey, Fence]) -> Mapping[ClaimKey, bool]:
        """See `Fences.renew`."""
        if not await self.server.answers(self.zone):
            return {}
        return {key: self.server.renew(self._of(key), fence) for key, fence in fences.items()}

    async def drop(self, fences: Mapping[ClaimKey, Fence]) -> None:
        """See `Fences.drop`."""
        if not await self.server.answers(self.zone):
            return
        for key, fence in fences.items():
            self.server.drop(self._of(key), fence)
