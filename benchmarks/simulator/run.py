"""Runs a scenario: `run(scenario)`."""

import gc
import resource
import time
from collections.abc import Callable
from random import Random

import numpy as np

from benchmarks.simulator.containerd import ImagePull
from benchmarks.simulator.faults import Faults
from benchmarks.simulator.result import Result
from benchmarks.simulator.scenario import PRODUCT, Approach, Scenario
from benchmarks.simulator.serving import Serving
from benchmarks.simulator.world import World, receiver_of

Progress = Callable[[float, int, int], None]
"""Is told of the simulated time, how many pulls of an image have finished, and how many there are."""

_TOLD_EVERY = 50  # quanta
_GARBAGE_AFTER = 100_000  # objects


class Simulation:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, approach: Approach) -> None:
        self.scenario = scenario
        self.world = World(scenario, approach)
        self.serving = Serving(self.world)
        self.pulls: dict[int, list[ImagePull]] = {}
        self.began_s = [np.full(len(start.nodes), np.nan) for start in scenario.starts]
        self.finished_s = [np.full(len(start.nodes), np.nan) for start in scenario.starts]
        self.wanted = sum(len(start.nodes) for start in scenario.starts)
        self.finished = 0
        self._faults = Faults(self)

    def run(self, progress: Progress | None) -> None:
        """Until everybody has finished, or the time is over."""
        self._prepare()
        world, loop, network = self.world, self.world.loop, self.world.network
        quantum_s, quanta = self.scenario.quantum_s, 0
        while self.finished < self.wanted and loop.now_s < self.scenario.until_s:
            quanta += 1
            end_s = quanta * quantum_s
            if not network.flows and loop.next_s > end_s:
                if loop.next_s == float("inf"):
                    break
                quanta = max(quanta, int(loop.next_s / quantum_s))
                end_s = quanta * quantum_s
            loop.run_to(end_s)
            self._flow(end_s, quantum_s)
            if progress is not None and quanta % _TOLD_EVERY == 0:
                progress(end_s, self.finished, self.wanted)
        if progress is not None:
            progress(world.now_s, self.finished, self.wanted)

    def _flow(self, end_s: float, quantum_s: float) -> None:
        """What flowed in the quantum that ends now, and who is told of it."""
        whole, stalled, due = self.world.network.step(end_s - quantum_s, quantum_s)
        self.serving.wake()
        for flow in whole:
            if flow.slot >= 0:
                receiver_of(flow).whole(flow)
        for flow in stalled:
            if flow.slot >= 0:
                receiver_of(flow).stalled(flow)
        for flow in due:
            if flow.slot >= 0:
                receiver_of(flow).look(flow)

    def _prepare(self) -> None:
        world = self.world
        for held in self.scenario.held:
            for content in world.contents.of_image[held.image]:
                nodes = np.fromiter(held.nodes, dtype=np.int64)
                world.contents.complete[content, nodes] = True
                world.network.have[content, nodes] = world.contents.all[content].size_bytes
        for node in sorted({node for held in self.scenario.held for node in held.nodes}):
            world.index.telling.held(
                world.agents[node], np.flatnonzero(world.contents.complete[:, node]).tolist()
            )
        lot = Random(f"{self.scenario.seed}/starts")
        for number, start in enumerate(self.scenario.starts):
            for place, node in enumerate(start.nodes):
                at_s = start.at_s + lot.uniform(0.0, start.spread_s)
                world.loop.at(at_s, self._begin, number, place, node)
        self._faults.prepare()

    def _begin(self, start: int, place: int, node: int) -> None:
        agent = self.world.agents[node]
        if not agent.alive:
            self.wanted -= 1
            return
        self.began_s[start][place] = self.world.now_s

        def finished(pull: ImagePull) -> None:
            self.finished_s[start][place] = self.world.now_s
            self.finished += 1
            self.pulls[node].remove(pull)

        pull = ImagePull(self.world, self.serving, agent, self.scenario.starts[start].image, finished)
        self.pulls.setdefault(node, []).append(pull)
        pull.start()

    def stop_pulls(self, node: int) -> None:
        """The node is gone, with all that it was doing."""
        for pull in self.pulls.pop(node, []):
            if pull.alive:
                self.wanted -= 1
                pull.abort()


def run(scenario: Scenario, policy: Approach = PRODUCT, progress: Progress | None = None) -> Result:
    """Run a scenario. The same scenario and policy give the same result, but for the times that it took."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    simulation = Simulation(scenario, policy)
    thresholds = gc.get_threshold()
    gc.set_threshold(_GARBAGE_AFTER, 20, 50)  # millions of objects live for the whole run
    try:
        simulation.run(progress)
    finally:
        gc.set_threshold(*thresholds)
        simulation.world.loop.close()
    world, counts = simulation.world, simulation.world.counts
    for flow in [*world.network.flows]:
        world.ended(flow)
    return Result(
        scenario=scenario,
        policy=policy.name,
        began_s=world.began_s,
        finished_s=world.finished_s,
        image_began_s=tuple(simulation.began_s),
        image_finished_s=tuple(simulation.finished_s),
        received_bytes=world.received_bytes,
        crossed_bytes=world.crossed_bytes,
        registry_bytes=world.registry_bytes,
        fetches=tuple(counts.fetches),
        dials=np.array([agent.dials for agent in world.agents]),
        dead_dials=np.array([agent.dead_dials for agent in world.agents]),
        lookups=world.index.lookups,
        shared=counts.shared,
        starved=counts.starved,
        busy=counts.busy,
        broken=counts.broken,
        failed_pulls=counts.failed_pulls,
        ended_s=world.now_s,
        events=world.loop.events,
        steps=world.network.steps,
        cpu_s=time.process_time() - cpu_s,
        wall_s=time.perf_counter() - wall_s,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
