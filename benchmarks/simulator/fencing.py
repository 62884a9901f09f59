"""The index's server as it keeps the fences of claims: see `agent.holders.fencedclaims.Fences`."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.holders.claims import ClaimKey
from agent.holders.fences import Fence
from topology.placement import NodeName


@dataclass(slots=True)
class FenceServer:
    """All fences, with their ends. ``is_there``: whether the server answers the nodes of a zone."""

    latency_s: float
    timeout_s: float
    is_there: Callable[[int], bool]
    clock: Callable[[], float]
    kept: dict[tuple[int, ClaimKey], tuple[Fence, float]] = field(default_factory=dict)
    numbers: int = 0
    calls: int = 0

    def look(self, key: tuple[int, ClaimKey]) -> Fence | None:
        """What it keeps now."""
        fence, until_s = self.kept.get(key, (None, 0.0))
        return fence if self.clock() < until_s else None

    def set(self, key: tuple[int, ClaimKey], fence: Fence) -> None:
        """Keep this."""
        self.kept[key] = fence, self.clock() + fence.lease_s

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

    def _of(self, key: ClaimKey) -> tuple[int, ClaimKey]:
        return (-1 if key.cluster else self.zone), key

    async def take(self, key: ClaimKey, own: NodeName, *, over: Fence | None) -> Fence | None:
        """See `Fences.take`."""
        server, scoped = self.server, self._of(key)
        if not await server.answers(self.zone):
            return None
        fence = server.look(scoped)
        if fence is None or (over is not None and fence.owner == over.owner):
            server.numbers += 1
            fence = Fence(node=own, number=server.numbers)
            server.set(scoped, fence)
        return fence

    async def renew(self, fences: Mapping[ClaimKey, Fence]) -> Mapping[ClaimKey, bool]:
        """See `Fences.renew`."""
        if not await self.server.answers(self.zone):
            return {}
        return {key: self._renew(self._of(key), fence) for key, fence in fences.items()}

    def _renew(self, key: tuple[int, ClaimKey], fence: Fence) -> bool:
        there = self.server.look(key)
        if there is not None and there.owner != fence.owner:
            return False
        self.server.set(key, fence)
        return True

    async def drop(self, fences: Mapping[ClaimKey, Fence]) -> None:
        """See `Fences.drop`."""
        if not await self.server.answers(self.zone):
            return
        for key, fence in fences.items():
            there = self.server.look(self._of(key))
            if there is not None and there.owner == fence.owner:
                del self.server.kept[self._of(key)]
