"""A process with a part of the simulated agents: it does what the lines of its standard input say.

Each line is a JSON object with ``do``, and is answered by one line. See `benchmarks.index.crew`.
"""

import asyncio
import gc
import json
import logging
import os
import random
import resource
import sys
from collections import Counter
from typing import Any

import psutil
import uvloop

from agent.holders.index import Holders
from benchmarks.index.agents import Agent, Fleet
from benchmarks.index.crew import Plan
from benchmarks.index.inventory import Inventory
from benchmarks.index.offering import offer

_SOURCES = ("fallback", "server", "cache")  # a pull that needs several is counted by the first of these


class Foreman:
    """Does what the lines say, with the agents of one process."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._inventory = Inventory(digests=plan.digests, blobs=plan.blobs, seed=plan.seed)
        self._fleet = Fleet(plan)
        self._agents: dict[int, Agent] = {}
        self._extra: dict[int, list[int]] = {}

    async def start(self, spread_s: float) -> dict[str, Any]:
        """Start the agents at random moments of this time. They announce what they have."""
        plan = self._plan
        for node in range(plan.first, plan.first + plan.count):
            self._agents[node] = self._fleet.agent(node)
            self._agents[node].index.announce(self._inventory.of(node))
            await asyncio.sleep(0)
        loop, dice = asyncio.get_running_loop(), random.Random(plan.first)
        for agent in self._agents.values():
            loop.call_later(dice.uniform(0, spread_s), agent.start)
        return {}

    async def state(self) -> dict[str, Any]:
        """What the agents say of themselves, and what this process has used."""
        status = [agent.index.status() for agent in self._agents.values()]
        process = psutil.Process()
        return {
            "announced": sum(each.announced for each in status),
            "pending": sum(each.pending for each in status),
            "states": Counter(each.state.value for each in status),
            "problems": Counter(each.problem for each in status if each.problem),
            "resets": sum(each.resets for each in status),
            "numbers": sum(each.number is not None for each in status),
            "fallback": sum(agent.peers.asked for agent in self._agents.values()),
            "cpu_s": sum(process.cpu_times()[:2]),
            "rss_bytes": process.memory_info().rss,
        }

    async def numbers(self, nodes: list[int]) -> dict[str, Any]:
        """The numbers of some nodes. None: it has none now."""
        return {str(node): self._agents[node].index.status().number for node in nodes if node in self._agents}

    async def ask(self, rate_per_s: float, seconds: float, digests: int, seed: int) -> dict[str, Any]:
        """Look up, so many times a second in all, ``digests`` together as a pull of an image does."""
        dice, asked = random.Random(seed), self._inventory.asked(seed)
        agents, said = list(self._agents.values()), Counter[str]()

        async def look_up(agent: Agent) -> str:
            wanted = [self._inventory.digests[next(asked)] for _ in range(digests)]
            agent.index.prefetch(wanted[1:])
            sources = Counter(map(_source, [await agent.index.lookup(digest) for digest in wanted]))
            said.update(sources)
            return min(sources, key=_SOURCES.index)

        for agent in agents:  # each learns the numbers, and makes its masks
            await look_up(agent)
        said.clear()
        took_s = await offer(
            lambda: look_up(dice.choice(agents)), rate_per_s=rate_per_s, seconds=seconds, seed=seed
        )
        by_source: dict[str, list[float]] = {}
        for source, seconds_each in took_s:
            by_source.setdefault(source, []).append(seconds_each)
        return {"took_s": by_source, "said": said}

    async def change(self, rate_per_s: float, seconds: float, seed: int) -> dict[str, Any]:
        """New and removed contents, so many a second in all."""
        dice = random.Random(seed)
        agents = list(self._agents.items())
        gone: dict[int, list[int]] = {}

        async def call() -> None:
            node, agent = dice.choice(agents)
            removed = gone.setdefault(node, [])
            if removed and dice.random() < 0.5:
                agent.index.announce([self._inventory.digests[removed.pop()]])
            else:
                number = int(dice.choice(self._inventory.numbers(node)))
                removed.append(number)
                agent.index.withdraw([self._inventory.digests[number]])

        done = await offer(call, rate_per_s=rate_per_s, seconds=seconds, seed=seed)
        return {"changes": len(done)}


def _source(holders: Holders) -> str:
    return "fallback" if holders.source is None else holders.source.value


async def _work(plan: Plan) -> None:
    foreman = Foreman(plan)
    while line := await asyncio.to_thread(sys.stdin.readline):
        task = json.loads(line)
        answer = await getattr(foreman, task.pop("do"))(**task)
        print(json.dumps(answer), flush=True)


def main() -> None:
    """Obey until the input ends."""
    logging.disable(logging.WARNING)  # thousands of agents say the same
    gc.disable()  # it looks through what thousands of agents have for seconds, where one takes milliseconds
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    plan = Plan(**json.loads(sys.argv[1]))
    if plan.first:  # in a cluster no other agent takes the processor of those that look up, or of the server
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    uvloop.run(_work(plan))


if __name__ == "__main__":
    main()
