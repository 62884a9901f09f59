"""A server of fences in memory, for many nodes, on virtual time: well, down, slow, emptied, or lying."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from agent.holders.claims import ClaimKey
from agent.holders.fences import Fence
from benchmarks.simulator.fencing import KeptFences, Scoped
from tests.unit.twins import loop_clock
from topology.placement import NodeName

_DEADLINE_S = 0.15


@dataclass(kw_only=True)
class FenceServer(KeptFences):
    """``state``: "well", "down" (fails at once), "slow" (fails after the deadline) or "lies".

    ``lie``: what it says then. ``calls``: how many there were, that failed or not.
    """

    state: str = "well"
    lie: Callable[[ClaimKey], Fence | None] = lambda _: None
    calls: int = 0
    takes: int = 0
    round_trip_s: float = 0.0005
    clock: Callable[[], float] = loop_clock

    def of(self, scope: Callable[[ClaimKey], str]) -> "MemoryFences":
        """One node's way to it. ``scope``: whose claim a key is about there."""
        return MemoryFences(self, scope)

    def empty(self) -> None:
        """It restarts, or everything is evicted."""
        self.kept.clear()

    def forget(self, key: Scoped) -> None:
        """This one is evicted, or its time is over."""
        del self.kept[key]

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
        return server.take(scoped, own, over=over)

    async def renew(self, fences: Mapping[ClaimKey, Fence]) -> Mapping[ClaimKey, bool]:
        if not await self.server.answers():
            return {}
        if self.server.state == "lies":
            return dict.fromkeys(fences, False)
        return {key: self.server.renew((self.scope(key), key), fence) for key, fence in fences.items()}

    async def drop(self, fences: Mapping[ClaimKey, Fence]) -> None:
        if not await self.server.answers():
            return
        for key, fence in fences.items():
            self.server.drop((self.scope(key), key), fence)


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
