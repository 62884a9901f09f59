"""Simulated agents: the product's own index and connection, without stores, listeners and pulls.

What they share is what costs a single agent memory and nobody else anything: the list of members, which is
made once for each zone, and the metrics.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.config import Settings
from agent.config.load import make_settings
from agent.holders.index import Holders, IndexStatus
from agent.holders.valkey.factory import make_server
from agent.holders.valkey.index import ValkeyIndex
from agent.holders.valkey.server import Server
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.tasks import end_all
from benchmarks.index.crew import Plan
from benchmarks.index.members import Members
from topology.placement import NodeName


class Peerless:
    """Stands for the peers when the server can't be asked: counts the questions, and knows nobody."""

    def __init__(self) -> None:
        self.asked = 0

    def announce(self, digests: Iterable[Digest]) -> None:
        """Nothing to do."""

    def fetching(self, digest: Digest) -> None:
        """Nothing to do."""

    def withdraw(self, digests: Iterable[Digest]) -> None:
        """Nothing to do."""

    def remembered(self, digest: Digest) -> Holders | None:
        """Never anything."""
        return None

    async def lookup(self, digest: Digest) -> Holders:
        """Counted."""
        self.asked += 1
        return Holders(nodes=(), exhaustive=False)

    async def lookup_everyone(self, digest: Digest) -> Holders:
        """Counted."""
        return await self.lookup(digest)

    def prefetch(self, digests: Sequence[Digest]) -> None:
        """Nothing to do."""

    def forget(self, digest: Digest, node: NodeName) -> None:
        """Nothing to do."""

    def status(self) -> IndexStatus:
        """Never asked."""
        return IndexStatus()

    async def run(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


@dataclass(slots=True)
class Agent:
    """One simulated agent. ``tasks``: those that run now."""

    server: Server
    index: ValkeyIndex
    peers: Peerless
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Run it."""
        self.tasks = [asyncio.create_task(self.server.run()), asyncio.create_task(self.index.run())]

    async def stop(self) -> None:
        """End it."""
        await end_all(self.tasks)
        await self.index.close()


class Fleet:
    """Makes the agents of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._members = Members(plan.nodes, plan.zones)
        self._metrics = Metrics()
        self._settings = settings_of(plan)

    def agent(self, node: int) -> Agent:
        """The agent of this node. It does nothing yet."""
        roster, peers = self._members.roster(node), Peerless()
        server = make_server(
            self._settings,
            ids=lambda: (),
            members=lambda: len(roster) + 1,
            failed=self._metrics.index.failed,
        )
        index = ValkeyIndex(
            server,
            url=str(self._settings.index),
            prefix=self._settings.valkey.prefix,
            agent=f"{node:016x}",
            roster=roster,
            settings=self._settings.lookup,
            metrics=self._metrics,
            fallback=peers,
        )
        return Agent(server=server, index=index, peers=peers)


def settings_of(plan: Plan) -> Settings:
    """The settings of all simulated agents. They name no node, because nothing here asks them for it."""
    data = {
        "node": {"name": "simulated", "address": "10.255.0.1"},
        "index": plan.url,
        "valkey": {"prefix": plan.prefix, "cluster": "simulated", "timeout_s": plan.timeout_s},
    }
    return make_settings(data, [], base=Path())
