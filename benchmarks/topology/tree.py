"""What it costs to decide from which zone to which a blob travels, and what networkx takes for the same."""

import random
import time
from collections.abc import Callable

import networkx as nx

from benchmarks.reporting.recorder import Recorder
from benchmarks.topology.cloud import SEED
from topology.placement import Region, Zone, ZoneKey
from topology.spread import AnyZone, Way, spread

_REGIONS = 4
_TARGET_MS = 50.0  # once for each blob of a rollout, on the loop that serves the pulls


def report_tree(report: Recorder, *, zones: int, repetitions: int) -> None:
    """Time both on the same zones of several regions, with a round trip of its own for each pair."""
    report.begin(f"the tree over {zones} zones of {_REGIONS} regions, one process, no lab")
    dice = random.Random(SEED)
    places: list[AnyZone] = [
        ZoneKey(region=Region(f"r{number % _REGIONS}"), zone=Zone(f"z{number}")) for number in range(zones)
    ]
    ways = {frozenset((one, other)): _way(one, other, dice) for one in places for other in places}

    def way(one: AnyZone, other: AnyZone) -> Way:
        return ways[frozenset((one, other))]

    ours = _times_s(lambda root: spread(root, places, way, children_max=3), places, repetitions)
    theirs = _times_s(lambda root: _by_networkx(root, places, way), places, 2)  # seconds each
    report.spread("topology.spread", "ms", ours, _TARGET_MS, 1e3)
    report.spread("networkx.minimum_spanning_arborescence", "ms", theirs, None, 1e3)


def _way(one: AnyZone, other: AnyZone, dice: random.Random) -> Way:
    assert one is not None, "each has a zone"
    assert other is not None, "each has a zone"
    if one.region == other.region:
        return Way(usd_per_gb=0.02, rtt_us=dice.uniform(600, 2500))
    return Way(usd_per_gb=0.05, rtt_us=dice.uniform(20_000, 90_000))


def _by_networkx(root: AnyZone, places: list[AnyZone], way: Callable[[AnyZone, AnyZone], Way]) -> object:
    graph: nx.DiGraph[AnyZone] = nx.DiGraph()
    for one in places:
        for other in places:
            if other not in (one, root):
                cost = way(one, other)
                weight = round(cost.usd_per_gb * 1e6) * 10**9 + round(cost.rtt_us / 500)
                graph.add_edge(one, other, weight=weight)
    return nx.minimum_spanning_arborescence(graph)


def _times_s(work: Callable[[AnyZone], object], places: list[AnyZone], repetitions: int) -> list[float]:
    taken_s = []
    for number in range(repetitions):
        began_s = time.perf_counter()
        work(places[number % len(places)])
        taken_s.append(time.perf_counter() - began_s)
    return taken_s
