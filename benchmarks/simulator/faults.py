"""What goes wrong in a scenario, and how the others learn of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.simulator.scenario import Fault, FaultKind
from topology.placement import NodeName

if TYPE_CHECKING:
    from benchmarks.simulator.run import Simulation


class Faults:
    """The faults of a simulation. `prepare` puts them into its agenda."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._scenario = simulation.scenario

    def prepare(self) -> None:
        """Each happens at its time."""
        world = self._world
        if self._scenario.absent:
            for node in self._scenario.absent:
                world.agents[node].alive = False
            world.places.change(gone=[world.places.names[node] for node in self._scenario.absent])
        for fault in self._scenario.faults:
            world.loop.at(fault.at_s, self._begin, fault)

    def _begin(self, fault: Fault) -> None:
        world, network = self._world, self._world.network
        match fault.kind:
            case FaultKind.DIE:
                self._die(fault.nodes, self._scenario.departures.died_s)
            case FaultKind.REPLACE:
                self._die(fault.nodes, self._scenario.departures.drained_s)
                self._join(fault.nodes)
            case FaultKind.JOIN:
                self._join(fault.nodes)
            case FaultKind.FREEZE:
                for node in fault.nodes:
                    world.agents[node].frozen = True
                    network.set_rate(node, 0.0)
            case FaultKind.SLOW:
                for node in fault.nodes:
                    network.set_rate(node, fault.factor)
            case FaultKind.CUT_OFF:
                world.cut.add(fault.zone)
                network.set_uplink(fault.zone, 0.0)
            case FaultKind.INDEX_LOST:
                world.index.telling.lose()
                world.claiming.forget_fences()
            case FaultKind.REGISTRY_DOWN:
                world.registry_down = True
        if fault.for_s is not None:
            world.loop.after(fault.for_s, self._end, fault)

    def _end(self, fault: Fault) -> None:
        world, network = self._world, self._world.network
        match fault.kind:
            case FaultKind.DIE:
                self._join(fault.nodes)
            case FaultKind.FREEZE | FaultKind.SLOW:
                for node in fault.nodes:
                    world.agents[node].frozen = False
                    network.set_rate(node, 1.0)
            case FaultKind.CUT_OFF:
                world.cut.discard(fault.zone)
                network.set_uplink(fault.zone, self._scenario.zones[fault.zone].uplink_bytes_per_s or np.inf)
            case FaultKind.INDEX_LOST:
                world.index.telling.come_back(world.agents)
            case FaultKind.REGISTRY_DOWN:
                world.registry_down = False
            case FaultKind.REPLACE | FaultKind.JOIN:
                pass

    def _die(self, nodes: Sequence[int], known_s: float) -> None:
        """The nodes are gone. What they had is lost; the members are told later."""
        world = self._world
        names = []
        for node in nodes:
            agent = world.agents[node]
            if not agent.alive:
                continue
            names.append(agent.name)
            self._simulation.stop_pulls(node)
            agent.alive = False
            if agent.desk is not None:
                agent.desk.close()
            world.network.set_rate(node, 0.0)
            world.contents.complete[:, node] = False
            world.contents.arriving[:, node] = False
            world.network.have[:, node] = 0
        world.loop.after(known_s, self._known_gone, tuple(names))

    def _known_gone(self, names: tuple[NodeName, ...]) -> None:
        places = self._world.places
        gone = [name for name in names if name in places.members]
        places.change(gone=gone)

    def _join(self, nodes: Sequence[int]) -> None:
        """New nodes are in these places. They have nothing."""
        world = self._world
        names = []
        for node in nodes:
            if world.agents[node].alive:
                continue
            names.append(world.places.rename(node))
            world.renew(node)
            world.network.set_rate(node, 1.0)
        world.loop.after(self._scenario.departures.joined_s, self._known_here, tuple(names))

    def _known_here(self, names: tuple[NodeName, ...]) -> None:
        places = self._world.places
        places.change(come=[name for name in names if places.names[places.number_of[name]] == name])
