"""What the nodes tell the server of the index, and what it knows: who has what, and who fetches it.

When a node tells what is decided by the product (`agent.holders.valkey.announcements`). A node's number is
never used again in a simulation.
"""

from collections.abc import Iterable, Set
from itertools import count
from random import Random

from agent.holders.valkey.announcements import Announcements, Batch
from benchmarks.simulator.agents import Agent
from benchmarks.simulator.clock import VirtualLoop
from benchmarks.simulator.contents import Contents
from benchmarks.simulator.scenario import Scenario
from topology.placement import NodeName

_GATHER_S = 0.02  # see `agent.holders.valkey.telling`, as for all that follows
_AWAY_S = (0.5, 1.0)
_STARTS_PER_S = 1000.0


class Telling:
    """The server's bitmaps: ``complete[content]``, ``flying[content]``. ``numbers``: those of the nodes.

    ``lost``: the server is gone. ``back_s``: since when it is there again. ``cut``: the zones that are cut
    off: they can't reach it.
    """

    def __init__(
        self, scenario: Scenario, loop: VirtualLoop, contents: Contents, lot: Random, cut: Set[int]
    ) -> None:
        self._loop, self._contents, self._lot, self._cut = loop, contents, lot, cut
        self._latency_s = scenario.index.latency_s
        self._nodes = scenario.nodes
        self._fresh = count()
        self.numbers: dict[NodeName, int] = {}
        self.complete = [0] * len(contents.all)
        self.flying = [0] * len(contents.all)
        self.lost = False
        self.back_s = float("-inf")

    def is_there(self, zone: int) -> bool:
        """Whether the nodes of a zone reach the server."""
        return not self.lost and zone not in self._cut

    def number_of(self, name: NodeName) -> int:
        """The node's number."""
        known = self.numbers.get(name)
        if known is None:
            known = self.numbers[name] = next(self._fresh)
        return known

    def held(self, agent: Agent, contents: Iterable[int]) -> None:
        """The node had these long before."""
        announcements = agent.announcements = self._announcements(-10.0)
        announcements.have([self._contents.all[each].digest for each in contents], -10.0)
        if (batch := announcements.take(0.0)) is not None:
            self._told(agent, batch, agent.name)

    def has(self, agent: Agent, content: int) -> None:
        """The node has a content now."""
        announcements = agent.announcements
        if announcements is None:
            announcements = agent.announcements = self._announcements(self._loop.now_s)
        announcements.have((self._contents.all[content].digest,), self._loop.now_s)
        self._schedule(agent)

    def fetches(self, agent: Agent, content: int) -> None:
        """The node begins to fetch a content."""
        self._loop.after(2 * _GATHER_S, self._flies, agent, content, agent.name)

    def lose(self) -> None:
        """The server is gone, with all that it knew."""
        self.lost = True
        self.complete = [0] * len(self.complete)
        self.flying = [0] * len(self.flying)

    def come_back(self, agents: Iterable[Agent]) -> None:
        """It is there again, and empty. The nodes notice one after the other."""
        self.lost, self.back_s = False, self._loop.now_s
        for agent in agents:
            if agent.announcements is not None:
                self._loop.after(self._lot.uniform(0.0, self._nodes / _STARTS_PER_S), self._reset, agent)

    def is_warm(self, agent: Agent) -> bool:
        """Whether a node believes that the server was told everything."""
        announcements = agent.announcements or self._announcements(self._loop.now_s)
        return self._loop.now_s - self.back_s >= announcements.warm_s

    def _announcements(self, now_s: float) -> Announcements:
        announcements = Announcements(chance=self._lot.uniform, now_s=now_s)
        announcements.members(self._nodes)
        announcements.enter(0, now_s)
        return announcements

    def _reset(self, agent: Agent) -> None:
        if agent.announcements is not None:
            agent.announcements.reset(self._loop.now_s)
            self._schedule(agent)

    def _schedule(self, agent: Agent) -> None:
        """Tell what there is to tell when it is due. A turn that comes too soon finds nothing."""
        assert agent.announcements is not None, "it has something to tell"
        due_s = agent.announcements.due_s(self._loop.now_s)
        if due_s is not None and not agent.tells:
            agent.tells = True
            self._loop.at(max(due_s, self._loop.now_s + _GATHER_S), self._turn, agent, agent.name)

    def _turn(self, agent: Agent, name: NodeName) -> None:
        agent.tells = False
        announcements = agent.announcements
        if agent.name != name or not agent.alive or announcements is None:
            return
        if agent.frozen or not self.is_there(agent.zone):
            agent.tells = True
            self._loop.after(self._lot.uniform(*_AWAY_S), self._turn, agent, name)
            return
        batch = announcements.take(self._loop.now_s)
        if batch is not None:
            self._loop.after(self._latency_s, self._told, agent, batch, name)
        else:
            self._schedule(agent)

    def _told(self, agent: Agent, batch: Batch, name: NodeName) -> None:
        announcements = agent.announcements
        if agent.name != name or announcements is None:
            return
        if not self.is_there(agent.zone):
            announcements.failed(batch, self._loop.now_s)
        else:
            bit = 1 << self.number_of(name)
            for digest in batch.added:
                content = self._contents.number_of[digest]
                self.complete[content] |= bit
                self.flying[content] &= ~bit
            announcements.told(batch)
        self._schedule(agent)

    def _flies(self, agent: Agent, content: int, name: NodeName) -> None:
        if (
            self.is_there(agent.zone)
            and agent.name == name
            and self._contents.arriving[content, agent.number]
        ):
            self.flying[content] |= 1 << self.number_of(name)
