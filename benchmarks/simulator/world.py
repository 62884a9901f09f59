"""All that is there in a simulation, and what happens to bodies on their way."""

from dataclasses import dataclass, field
from random import Random
from typing import Protocol, cast

import numpy as np

from benchmarks.simulator.agents import Agent, make_agent
from benchmarks.simulator.claiming import Claiming
from benchmarks.simulator.clock import VirtualLoop
from benchmarks.simulator.contents import Contents
from benchmarks.simulator.fencing import FenceServer
from benchmarks.simulator.index import Index
from benchmarks.simulator.network import REGISTRY, Flow, Network
from benchmarks.simulator.places import Places
from benchmarks.simulator.result import Origin, RegistryFetch
from benchmarks.simulator.scenario import Approach, Scenario
from benchmarks.simulator.telling import Telling
from topology.snapshot import Snapshot


class Receiver(Protocol):
    """Whoever a body flows to."""

    def whole(self, flow: Flow) -> None:
        """The receiver has all of the content."""
        ...

    def stalled(self, flow: Flow) -> None:
        """Nothing came for a while."""
        ...

    def look(self, flow: Flow) -> None:
        """The time that it asked for has come."""
        ...

    def source_gone(self, flow: Flow) -> None:
        """The source does not have the content any more."""
        ...


def receiver_of(flow: Flow) -> Receiver:
    """Who is told of what becomes of a body."""
    return cast(Receiver, flow.owner)


@dataclass(slots=True)
class Counts:
    """What is counted. See `Result`."""

    shared: int = 0
    starved: int = 0
    busy: int = 0
    broken: int = 0
    failed_pulls: int = 0
    fetches: list[RegistryFetch] = field(default_factory=list)


class World:
    """A simulation. ``cut``: the zones that are cut off."""

    def __init__(self, scenario: Scenario, approach: Approach) -> None:
        self.scenario, self.approach = scenario, approach
        self.loop = VirtualLoop()
        self.lot = Random(f"{scenario.seed}/all")
        self.places = Places(scenario)
        self.contents = Contents(scenario)
        zones = scenario.zones
        nics = np.array(
            [
                plan.nic_bytes_per_s or scenario.links.nic_bytes_per_s
                for plan in zones
                for _ in range(plan.nodes)
            ]
        )
        for number, rate in scenario.nics.items():
            nics[number] = rate
        self.network = Network(
            nics=nics,
            zones=self.places.zones,
            uplinks=np.array([plan.uplink_bytes_per_s or np.inf for plan in zones]),
            registry_bytes_per_s=scenario.links.registry_bytes_per_s,
            sizes=self.contents.sizes,
        )
        self.counts = Counts()
        self.cut: set[int] = set()
        self.registry_down = False
        self.claiming = Claiming(
            scenario,
            loop=self.loop,
            places=self.places,
            contents=self.contents,
            network=self.network,
            agent_of=self.agent,
            reaches=self.reaches,
            fences=self._make_fences(),
        )
        self.index = Index(
            scenario,
            loop=self.loop,
            places=self.places,
            contents=self.contents,
            network=self.network,
            telling=Telling(scenario, self.loop, self.contents, self.lot, self.cut),
            reaches=self.reaches,
            follows=approach.follows and scenario.cold_start.claims,
        )
        self.contents.changed = self._changed
        self.agents = [self._make(number) for number in range(scenario.nodes)]
        shape = (len(Origin), len(self.contents.all), scenario.nodes)
        self.received_bytes = np.zeros(shape, dtype=np.int64)
        self.crossed_bytes = np.zeros((len(zones), len(zones)), dtype=np.int64)
        self.registry_bytes = np.zeros(len(zones), dtype=np.int64)
        self.began_s = np.full(shape[1:], np.nan)
        self.finished_s = np.full(shape[1:], np.nan)

    @property
    def now_s(self) -> float:
        """The time."""
        return self.loop.now_s

    def agent(self, number: int) -> Agent:
        """The agent of this node."""
        return self.agents[number]

    def renew(self, number: int) -> Agent:
        """A new agent in the place of one that is gone."""
        old = self.agents[number]
        if old.desk is not None:
            old.desk.close()
        self.agents[number] = self._make(number)
        self.agents[number].dials, self.agents[number].dead_dials = old.dials, old.dead_dials
        return self.agents[number]

    def snapshot(self, agent: Agent) -> Snapshot:
        """The cluster as this node sees it."""
        places = self.places
        if agent.members != places.generation or agent.seen is None:
            agent.seen, agent.members = places.seen_by(agent.number), places.generation
            agent.regard.members_changed(places.members_now)
        return agent.seen

    def reaches(self, one: int, other: int) -> bool:
        """Whether both are there, and nothing is between them."""
        agents = self.agents
        if not (agents[one].alive and agents[other].alive):
            return False
        if not self.cut:
            return True
        zone, far = agents[one].zone, agents[other].zone
        return zone == far or not (zone in self.cut or far in self.cut)

    def lost(self, content: int, node: int) -> None:
        """A node has given up a content: whoever follows it is cut off."""
        self.contents.arriving[content, node] = False
        self.network.have[content, node] = 0
        for flow in self.network.flows_from(node, content):
            if flow.slot >= 0:
                receiver_of(flow).source_gone(flow)

    def ended(self, flow: Flow) -> int:
        """A body ended: count its bytes. Returns how many."""
        moved = self.network.close(flow)
        zone = self.places.zone_of[flow.node]
        if flow.source == REGISTRY:
            origin = Origin.REGISTRY
            self.registry_bytes[zone] += moved
        else:
            origin = self._origin(flow.source, flow.node)
            self.crossed_bytes[self.places.zone_of[flow.source], zone] += moved
        self.received_bytes[origin, flow.content, flow.node] += moved
        return moved

    def _origin(self, source: int, node: int) -> Origin:
        (zone, rack), (far, other) = self.places.racks[source], self.places.racks[node]
        if zone == far:
            return Origin.RACK if rack == other >= 0 else Origin.ZONE
        plans = self.scenario.zones
        return Origin.REGION if plans[zone].region == plans[far].region else Origin.REMOTE

    def _make_fences(self) -> FenceServer | None:
        plan = self.scenario.index
        if not plan.server:
            return None
        return FenceServer(
            clock=self.loop.time,
            latency_s=plan.latency_s,
            timeout_s=plan.timeout_s,
            is_there=lambda zone: self.index.telling.is_there(zone),
        )

    def _make(self, number: int) -> Agent:
        zone = self.places.zone_of[number]
        return make_agent(self.scenario, number, self.places.names[number], zone, self.lot.uniform)

    def _changed(self, content: int, node: int) -> None:
        agent = self.agents[node]
        if self.scenario.index.server:
            self.index.telling.has(agent, content)
        if agent.desk is not None and self.contents.complete[content, node]:
            agent.desk.store.committed(self.contents.all[content].digest)
