"""A holder index in a real server, and members that announce what they have there."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from agent.config import LookupSettings
from agent.holders.bitmap import value_of
from agent.holders.index import Holders, IndexStatus
from agent.holders.valkey.asked import Command
from agent.holders.valkey.index import ValkeyIndex
from agent.holders.valkey.layout import ALIVE_S, ALIVE_TTL_S, BITMAP_TTL_S, EPOCH_S, Layout
from agent.holders.valkey.leasing import Lease
from agent.holders.valkey.numbers import Numbers
from agent.holders.valkey.server import Server
from agent.holders.valkey.serverclock import ServerClock
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from benchmarks.lab.valkey import ValkeyServer
from tests.conformance.members import Cluster, Implementations, Member, known_roster
from tests.unit.agent.holders.valkey.rig import opened, until
from topology.placement import NodeName

OWN = NodeName("own")
_prefixes = count(1)


def new_prefix() -> str:
    """A prefix that no other test has on the server."""
    return f"test{next(_prefixes)}"


class Settled:
    """A server that was not emptied a moment ago, nor away. Everything else is the real one's."""

    young_s: float | None = None
    caught_up = True

    def __init__(self, server: Server) -> None:
        self.server = server

    def __getattr__(self, name: str) -> Any:
        """See `Server`."""
        return getattr(self.server, name)

    async def call(
        self, *commands: Command, tracked: bool = False, timeout_s: float | None = None
    ) -> Sequence[Any]:
        """See `Server`."""
        return await self.server.call(*commands, tracked=tracked, timeout_s=timeout_s)

    async def run(self) -> None:
        """See `Server`."""

    def on_reset(self, callback: Callable[[], None]) -> None:
        """See `Server`."""
        self.server.on_reset(callback)

    def on_invalid(self, callback: Callable[[Sequence[bytes] | None], None]) -> None:
        """See `Server`."""
        self.server.on_invalid(callback)


@dataclass(slots=True)
class KnowsNothing:
    """A fallback that finds nobody, and counts how often it was asked."""

    asked: list[Digest] = field(default_factory=list)

    def announce(self, digests: Iterable[Digest]) -> None:
        """See `HolderIndex`."""

    def withdraw(self, digests: Iterable[Digest]) -> None:
        """See `HolderIndex`."""

    def remembered(self, digest: Digest) -> Holders | None:
        """See `HolderIndex`."""
        return None

    async def lookup(self, digest: Digest) -> Holders:
        """See `HolderIndex`."""
        self.asked.append(digest)
        return Holders(nodes=(), exhaustive=False)

    async def lookup_everyone(self, digest: Digest) -> Holders:
        """See `HolderIndex`."""
        return await self.lookup(digest)

    def prefetch(self, digests: Sequence[Digest]) -> None:
        """See `HolderIndex`."""

    def forget(self, digest: Digest, node: NodeName) -> None:
        """See `HolderIndex`."""

    def status(self) -> IndexStatus:
        """See `HolderIndex`."""
        return IndexStatus()

    async def run(self) -> None:
        """See `HolderIndex`."""

    async def close(self) -> None:
        """See `HolderIndex`."""


class Announcers:
    """The members, which say on the server what they have whenever somebody is about to ask."""

    def __init__(self, server: Settled, layout: Layout, members: dict[str, Member]) -> None:
        self._server = server
        self._layout = layout
        self._members = members
        self._numbers: dict[str, int] = {}
        self._told: set[Digest] = set()

    async def announce(self) -> None:
        """Say what each member has that answers."""
        for name in self._members.keys() - self._numbers.keys():
            self._numbers[name] = await self._take(name)
        holders: dict[Digest, list[int]] = {}
        for name, member in self._members.items():
            if not (member.silent or member.refuses):
                for digest in member.held:
                    holders.setdefault(digest, []).append(self._numbers[name])
        ((seconds, _),) = await self._server.call(("TIME",))
        epoch, alive = int(seconds) // EPOCH_S, value_of(self._numbers.values())
        await self._server.call(
            *(
                ("SET", self._layout.alive(int(seconds) // ALIVE_S + later), alive, "EX", ALIVE_TTL_S)
                for later in range(8)
            )
        )
        digests = {digest for member in self._members.values() for digest in member.held} | self._told
        self._told = digests
        await self._server.call(
            *(
                ("SET", self._layout.bitmap(epoch, d), value_of(holders.get(d, ())), "EX", BITMAP_TTL_S)
                for d in digests
            )
        )

    async def _take(self, name: str) -> int:
        lease = Lease(
            self._server,
            self._layout,
            own=NodeName(name),
            agent="test",
            numbers=Numbers(),
            server_clock=ServerClock(),
            members=lambda: len(self._members),
        )
        await lease.take()
        assert lease.number is not None
        return lease.number


class Told:
    """The index under test. Before each question the members have announced what they have."""

    def __init__(self, index: ValkeyIndex, announcers: Announcers) -> None:
        self.index = index
        self._announcers = announcers
        self.announce, self.withdraw = index.announce, index.withdraw
        self.remembered, self.prefetch = index.remembered, index.prefetch
        self.forget, self.status = index.forget, index.status
        self.run, self.close = index.run, index.close

    async def lookup(self, digest: Digest) -> Holders:
        """See `HolderIndex`."""
        if self.index.remembered(digest) is None:
            await self._announcers.announce()
        return await self.index.lookup(digest)

    async def lookup_everyone(self, digest: Digest) -> Holders:
        """See `HolderIndex`."""
        await self._announcers.announce()
        return await self.index.lookup_everyone(digest)


class InServer:
    """Makes such indexes, and closes them. ``beside``: makes what else a cluster has."""

    def __init__(self, valkey: ValkeyServer, beside: Implementations) -> None:
        self._valkey = valkey
        self._beside = beside
        self._stack = AsyncExitStack()

    async def make(self, members: dict[str, Member]) -> Cluster:
        """An index over these members."""
        prefix = new_prefix()
        door = await self._stack.enter_async_context(opened(self._valkey.url(), prefix=prefix))
        await until(lambda: door.server.healthy)
        server, skipped = Settled(door.server), [0.0]
        announcers = Announcers(server, Layout(prefix), members)
        await announcers.announce()
        index = ValkeyIndex(
            server,
            url=self._valkey.url(),
            prefix=prefix,
            agent="test",
            roster=known_roster(members),
            settings=LookupSettings(),
            metrics=Metrics(),
            fallback=KnowsNothing(),
            clock=lambda: asyncio.get_running_loop().time() + skipped[0],
        )
        self._stack.push_async_callback(index.close)
        beside = await self._beside.scatter(members)
        return replace(beside, index=Told(index, announcers), now=skipped)

    async def close(self) -> None:
        """Close all of them."""
        await self._stack.aclose()
