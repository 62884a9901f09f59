"""The index: who has what, as a look-up of one node is told after a round trip.

With a server, a look-up gives what was announced until then. Without one, or while it is gone, the nodes are
asked themselves: the nearest that have it answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np

from agent.holders.index import Holders, InFlight
from benchmarks.simulator.agents import Agent
from benchmarks.simulator.clock import VirtualLoop
from benchmarks.simulator.contents import Contents
from benchmarks.simulator.network import Network
from benchmarks.simulator.places import Places
from benchmarks.simulator.scenario import Numbers, Scenario

AT_MOST = 64
FLYING_ASKED = 4
"""So many near nodes that are still fetching a content are asked how far they are: `ValkeyIndex`."""


@dataclass(slots=True)
class Index:
    """``lost``: the server is gone. ``reaches``: whether a message from one node arrives at another."""

    scenario: Scenario
    loop: VirtualLoop
    places: Places
    contents: Contents
    network: Network
    reaches: Callable[[int, int], bool]
    lot: Random
    follows: bool
    announced: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]"
    lost: bool = False
    lookups: int = 0

    def changed(self, content: int, node: int) -> None:
        """A node has a content now, or has lost it. The others learn of it within a while."""
        if self.scenario.index.server:
            wait_s = self.lot.uniform(0.0, self.scenario.index.announce_s)
            self.loop.after(wait_s, self._announce, content, node, self.places.names[node])

    def _announce(self, content: int, node: int, name: str) -> None:
        if not self.lost and self.places.names[node] == name:
            self.announced[content, node] = self.contents.complete[content, node]

    def look_up(self, agent: Agent, content: int, tell: Callable[[Holders], None]) -> None:
        """Ask who has it. ``tell`` is called with the answer."""
        self.lookups += 1
        if self.scenario.index.server and not self.lost:
            self.loop.after(self.scenario.index.latency_s, self._answer, agent, content, tell)
        else:
            self._ask_nodes(agent, content, tell)

    def _answer(self, agent: Agent, content: int, tell: Callable[[Holders], None]) -> None:
        if self.lost:  # no answer comes
            self.loop.after(self.scenario.index.timeout_s, self._ask_nodes, agent, content, tell)
            return
        holders = self._holders(agent, self.announced[content], content)
        if not self._near(agent, self.announced[content]).any() and self._arriving(agent, content):
            wait_s = self.scenario.links.zone_rtt_s + self.scenario.links.served_s
            self.loop.after(wait_s, self._answer_flying, agent, content, holders, tell)
        else:
            tell(holders)

    def _answer_flying(
        self, agent: Agent, content: int, holders: Holders, tell: Callable[[Holders], None]
    ) -> None:
        """Nobody of the own zone has all of it, and some are still fetching it: a few of them were asked."""
        arriving = self._arriving(agent, content)
        start = self._lot_of(agent, content) % max(1, len(arriving))
        asked = (*arriving[start:], *arriving[:start])[:FLYING_ASKED]
        tell(Holders(nodes=holders.nodes, exhaustive=holders.exhaustive and not asked, in_flight=asked))

    def _ask_nodes(self, agent: Agent, content: int, tell: Callable[[Holders], None]) -> None:
        """The nodes of the own zone are asked in steps, then as many others."""
        near = self._tiers(agent, self.contents.complete[content])
        arriving = self._arriving(agent, content)
        steps = 1 + (self.scenario.zones[agent.zone].nodes - 1) // self.scenario.lookup.at_once
        found_near = bool(len(near[0])) or bool(arriving)
        wait_s = self.scenario.links.zone_rtt_s * (1 if found_near else steps)
        if not found_near and len(self.scenario.zones) > 1:
            wait_s += self.scenario.links.region_rtt_s
        self.loop.after(wait_s, self._answer_nodes, agent, content, tell)

    def _answer_nodes(self, agent: Agent, content: int, tell: Callable[[Holders], None]) -> None:
        holders = self._holders(agent, self.contents.complete[content], content)
        arriving = self._arriving(agent, content)
        exhaustive = holders.exhaustive and not arriving
        tell(Holders(nodes=holders.nodes, exhaustive=exhaustive, in_flight=arriving))

    def _arriving(self, agent: Agent, content: int) -> tuple[InFlight, ...]:
        """Who of the own zone is fetching it, and can be followed."""
        if not self.follows:
            return ()
        zone = self.scenario.zone_nodes(agent.zone)
        numbers = np.flatnonzero(self.contents.arriving[content, zone.start : zone.stop]) + zone.start
        names, size = self.places.names, self.contents.all[content].size_bytes
        return tuple(
            InFlight(node=names[each], available_bytes=int(self.network.have[content, each]), size_bytes=size)
            for each in numbers[:AT_MOST].tolist()
            if each != agent.number and self.reaches(agent.number, each)
        )

    def _holders(
        self, agent: Agent, having: "np.ndarray[tuple[int], np.dtype[np.bool_]]", content: int
    ) -> Holders:
        """The nearest of those that have it, at most `AT_MOST`: a random choice of a tier that has more."""
        for numbers in self._tiers(agent, having):
            if len(numbers):
                chosen = numbers if len(numbers) <= AT_MOST else self._choice(agent, content, numbers)
                names = self.places.names
                return Holders(nodes=tuple(names[each] for each in chosen.tolist()), exhaustive=False)
        return Holders(nodes=(), exhaustive=True)

    def _choice(self, agent: Agent, content: int, numbers: Numbers) -> Numbers:
        near = self.places.zones[numbers[0]] == agent.zone
        lot = self._lot_of(agent, content) if near else (agent.zone + 1) * 15485863 + content * 104729
        return np.roll(numbers, -(lot % len(numbers)))[:AT_MOST]  # the nodes of a zone take the same far ones

    def _lot_of(self, agent: Agent, content: int) -> int:
        return agent.number * 7919 + content * 104729

    def _near(
        self, agent: Agent, having: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    ) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        zone = self.scenario.zone_nodes(agent.zone)
        return having[zone.start : zone.stop]

    def _tiers(
        self, agent: Agent, having: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    ) -> tuple[Numbers, Numbers]:
        """Those of the own zone, and all others, that are members."""
        zone = self.scenario.zone_nodes(agent.zone)
        near = np.flatnonzero(having[zone.start : zone.stop]) + zone.start
        near = near[near != agent.number]
        if len(near):
            return near, near[:0]
        return near, np.flatnonzero(having)
