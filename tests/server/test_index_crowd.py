"""Many agents' indexes and one real server: what it says is what they have, whatever happens in between.

The agents are those of `benchmarks.index`: the product's own connection and index, without stores and peers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import valkey

from agent.holders.bitmap import bits_of
from agent.holders.valkey.layout import EPOCH_S, Layout
from benchmarks.index.agents import Agent, Fleet
from benchmarks.index.crew import Plan
from benchmarks.index.inventory import Inventory
from benchmarks.index.stage import running
from benchmarks.lab.valkey import ValkeyServer

AGENTS, BLOBS, CONTENTS = 60, 100, 400
_PATIENCE_S = 120.0


class Crowd:
    """Agents that announce, and what is true of them."""

    def __init__(self, server: ValkeyServer, agents: list[Agent], inventory: Inventory) -> None:
        self.server = server
        self.agents = agents
        self._inventory = inventory

    def numbers(self) -> list[int | None]:
        """The number of each agent."""
        return [agent.index.status().number for agent in self.agents]

    def is_true(self) -> bool:
        """Whether the server has the bits of all that each agent has, and no others."""
        numbers = self.numbers()
        expected = [0] * CONTENTS
        for node, number in enumerate(numbers):
            if number is None:
                return False
            for each in self._inventory.numbers(node):
                expected[each] |= 1 << number
        return expected == self._said()

    def _said(self) -> list[int]:
        layout = Layout("shorthaul")
        with valkey.Valkey(port=self.server.port) as client:
            seconds = client.time()[0]
            values = [
                client.mget(
                    [layout.bitmap(seconds // EPOCH_S - back, each) for each in self._inventory.digests]
                )
                for back in (0, 1)
            ]
        return [bits_of(now or b"") | bits_of(before or b"") for now, before in zip(*values, strict=True)]

    async def until(self, ready: Callable[[], bool]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(_PATIENCE_S):
            while not ready():  # noqa: ASYNC110 - what it waits for tells nobody
                await asyncio.sleep(0.1)


@asynccontextmanager
async def crowded(server: ValkeyServer) -> AsyncIterator[Crowd]:
    plan = Plan(
        url=server.url(), nodes=AGENTS, first=0, count=AGENTS, blobs=BLOBS, digests=CONTENTS, timeout_s=5.0
    )
    fleet, inventory = Fleet(plan), Inventory(digests=CONTENTS, blobs=BLOBS)
    agents = [fleet.agent(node) for node in range(AGENTS)]
    for node, agent in enumerate(agents):
        agent.index.announce(inventory.of(node))
        agent.start()
    try:
        yield Crowd(server, agents, inventory)
    finally:
        for agent in agents:
            await agent.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with running(ValkeyServer(tmp_path)) as made:
        yield made


async def test_server_that_restarts_while_all_announce_knows_in_the_end_what_each_has(
    server: ValkeyServer,
) -> None:
    async with crowded(server) as crowd:
        for _ in range(3):
            await crowd.until(lambda: any(agent.index.status().announced for agent in crowd.agents))
            await asyncio.to_thread(server.restart)
        await crowd.until(crowd.is_true)
        numbers = crowd.numbers()
        assert len({*numbers}) == AGENTS


async def test_cut_connections_are_made_again_and_nothing_is_said_twice(server: ValkeyServer) -> None:
    async with crowded(server) as crowd:
        await crowd.until(crowd.is_true)
        bits, numbers, greetings = _calls(server, "setbit"), crowd.numbers(), _calls(server, "hello")
        await asyncio.to_thread(server.cli, "client", "kill", "type", "normal")
        await crowd.until(lambda: _calls(server, "hello") >= greetings + AGENTS)
        await crowd.until(lambda: all(agent.server.healthy for agent in crowd.agents))
        assert crowd.is_true()
        assert (crowd.numbers(), _calls(server, "setbit")) == (numbers, bits)


def _calls(server: ValkeyServer, command: str) -> int:
    """How often the server was given a command."""
    return int(server.info()[f"cmdstat_{command}"].partition(",")[0].removeprefix("calls="))
