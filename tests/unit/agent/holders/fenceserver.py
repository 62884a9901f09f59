"""A server of fences in memory, for many nodes, on virtual time: well, down, slow, emptied, or lying."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.holders.claims import ClaimKey
from agent.holders.fences import Fence
from tests.unit.twins import loop_clock
from topology.placement import NodeName

_DEADLINE_S = 0.15

Scoped = tuple[str, ClaimKey]


@dataclass
class FenceServer:
    """``state``: "well", "down" (fails at once), "slow" (fails after the deadline) or "lies".

    ``lie``: what it says then. ``calls``: how many there were, that failed or not.
    """

    state: str = "well"
    lie: Callable[[ClaimKey], Fence | None] = lambda _: None
    calls: int = 0
    takes: int = 0
    round_trip_s: float = 0.0005
    kept: dict[Scoped, tuple[Fence, float]] = field(default_factory=dict)
    numbers: int = 0

    def of(self, scope: Callable[[ClaimKey], str]) -> "MemoryFences":
        """One node's way to it. ``scope``: whose claim a key is about there."""
        return MemoryFences(self, scope)

    def empty(self) -> None:
        """It restarts, or everything is evicted."""
        self.kept.clear()

    def forget(self, key: Scoped) -> None:
        """This one is evicted, or its time is over."""
        del self.kept[key]

    def look(self, key: Scoped) -> Fence | None:
        """What it keeps now."""
        fence, until_s = self.kept.get(key, (None, 0.0))
        return fence if loop_clock() < until_s else None

    def set(self, key: Scoped, fence: Fence) -> None:
        """Keep this."""
        self.kept[key] = fence, loop_clock() + fence.lease_s

    async def answers(self) -> bool:
        """Whether it answers a call in time."""
        self.calls += 1
        await asyncio.sleep(_DEADLINE_S if self.state == "slow" else self.round_trip_s)
        return self.state not in ("down", "slow")


@dataclass
class MemoryFences:
    """See `Fences`."""

    server: FenceServer
    scope: Callable[[ClaimKey], str]

    async def take(self, key: ClaimKey, own: NodeName, *, over: Fence | None) -> Fence | None:
        server, scoped = self.server, (self.scope(key), key)
        server.takes += 1
        if not await server.answers():
            return None
        if server.state == "lies":
            return server.lie(key)
        fence = server.look(scoped)
        if fence is None or (over is not None and fence.owner == over.owner):
            server.numbers += 1
            fence = Fence(node=own, number=server.numbers)
            server.set(scoped, fence)
        return fence

    async def renew(self, fences: Mapping[ClaimKey, Fence]) -> Mapping[ClaimKey, bool]:
        if not await self.server.answers():
            return {}
        if self.server.state == "lies":
            return dict.fromkeys(fences, False)
        return {key: self._renew((self.scope(key), key), fence) for key, fence in fences.items()}

    def _renew(self, key: Scoped, fence: Fence) -> bool:
        there = self.server.look(key)
        if there is not None and there.owner != fence.owner:
            return False
        self.server.set(key, fence)
        return True

    async def drop(self, fences: Mapping[ClaimKey, Fence]) -> None:
        if not await self.server.answers():
            return
        for key, fence in fences.items():
            there = self.server.look((self.scope(key), key))
            if there is not None and there.owner == fence.owner:
                del self.server.kept[self.scope(key), key]


def always(fence: Fence) -> Callable[[ClaimKey], Fence]:
    """A lie that is always the same."""
    return lambda _: fence


def in_turn(nodes: Iterable[NodeName], available_bytes: int) -> Callable[[ClaimKey], Fence]:
    """A lie that names another node each time."""
    names, told = [*nodes], [0]

    def lie(_: ClaimKey) -> Fence:
        told[0] += 1
        fence = Fence(node=names[told[0] % len(names)], number=told[0])
        return replace(fence, available_bytes=available_bytes)

    return lie
