"""Figures of the topology: what it costs, how well it measures, how well it predicts and chooses.

``python -m benchmarks.topology`` measures in four sections: pure costs at 5,000 nodes; real agents in
namespaces between which frames take time (needs root); the zone matrix against Vivaldi coordinates on
the same simulated samples; agreement with an oracle that knows every true delay. ``--quick`` leaves the
lab out and takes everything small. Round trips, jitter and spikes are those measured in clouds: same
zone 0.26 to 0.41 ms, other zone 0.8 to 1.1 ms, some frames late by up to 12 ms.
"""

import argparse
import gc
import itertools
import json
import math
import multiprocessing
import os
import random
import socket
import statistics
import sys
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from agent.config import LatencySettings
from benchmarks.lab.cluster import ADMIN_PORT, LOCAL_PORT, Cluster, Node, places
from benchmarks.lab.network import inside
from benchmarks.lab.process import run
from benchmarks.vivaldi import VivaldiNode
from topology.cluster import ClusterTopology
from topology.placement import Locality, NodeName, Placement, Region, Zone, ZoneKey, meeting
from topology.probing import ProbeLimits, choose_probed, probe_bytes_per_s
from topology.ranking import Condition, rank
from topology.snapshot import Snapshot

_MIB = 1 << 20
_DEFAULTS = LatencySettings()
_EQUAL_RATIO = 1.6  # up to so many times the least round trip counts as nearest
_SAME_ZONE_US = (260.0, 410.0)
_OTHER_ZONE_US = (800.0, 1100.0)
_OTHER_REGION_US = (8_000.0, 12_000.0)
_SEED = 2004


# Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the report. ``target``: what the median should be at most, or at least.

    ``bound``: the target is stated for nearly all, so that the 95th percentile has to meet it.
    """

    section: str
    what: str
    unit: str
    median: float
    p95: float | None = None
    target: float | None = None
    at_least: bool = False
    bound: bool = False
    count: int = 1

    @property
    def met(self) -> bool | None:
        """Whether the value is on the right side of the target; None without one."""
        if self.target is None:
            return None
        value = self.p95 if self.bound and self.p95 is not None else self.median
        return value >= self.target if self.at_least else value <= self.target


@dataclass(slots=True)
class Report:
    """The figures so far; each is shown at once, as a full run takes minutes."""

    console: Console
    figures: list[Figure] = field(default_factory=list)
    section: str = ""

    def begin(self, section: str) -> None:
        """What is added from now on belongs to this section."""
        self.section = section
        self.console.print(f"{section} …", highlight=False)

    def spread(
        self,
        what: str,
        unit: str,
        values: Sequence[float],
        target: float | None = None,
        scale: float = 1.0,
        *,
        bound: bool = False,
    ) -> None:
        """Median and 95th percentile of values, multiplied by ``scale``."""
        if not values:
            return
        ordered = sorted(value * scale for value in values)
        self._add(
            Figure(
                section=self.section,
                what=what,
                unit=unit,
                median=statistics.median(ordered),
                p95=ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
                target=target,
                bound=bound,
                count=len(ordered),
            )
        )

    def single(self, what: str, unit: str, value: float, target: float | None = None) -> None:
        """One value."""
        self._add(Figure(section=self.section, what=what, unit=unit, median=value, target=target))

    def share(self, what: str, count: int, of: int, target: float | None = None) -> None:
        """So many of so many, in per cent; a target is the least."""
        percent = 100 * count / of if of else math.nan
        self._add(
            Figure(
                section=self.section,
                what=what,
                unit="%",
                median=percent,
                target=target,
                at_least=True,
                count=of,
            )
        )

    def _add(self, figure: Figure) -> None:
        self.figures.append(figure)
        p95 = "" if figure.p95 is None else f" / {_shown(figure.p95)}"
        self.console.print(f"  {figure.what}: {_shown(figure.median)}{p95} {figure.unit}", highlight=False)

    def table(self) -> Table:
        """All figures, section by section."""
        table = Table(title="measured on this machine just now")
        table.add_column("what")
        for name in ("median", "p95", "unit", "of", "target", ""):
            table.add_column(name, justify="right")
        for section, figures in itertools.groupby(self.figures, key=lambda figure: figure.section):
            table.add_section()
            table.add_row(f"[bold]{section}[/bold]")
            for figure in figures:
                table.add_row(*_row(figure))
        return table

    def as_json(self) -> str:
        """Every figure."""
        return json.dumps([{**asdict(figure), "met": figure.met} for figure in self.figures], indent=1)


def _row(figure: Figure) -> Iterable[str]:
    yield figure.what
    yield _shown(figure.median)
    yield "" if figure.p95 is None else _shown(figure.p95)
    yield figure.unit
    yield str(figure.count) if figure.count > 1 else ""
    yield _target(figure)
    yield {None: "", True: "[green]met[/green]", False: "[red]missed[/red]"}[figure.met]


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    sign, which = "≥" if figure.at_least else "≤", " p95" if figure.bound else ""
    return f"{sign} {_shown(figure.target)}{which}"


def _shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _times_s(work: Callable[[int], object], repetitions: int) -> list[float]:
    """How long each call took; the number of the repetition is its argument."""
    for number in range(min(3, repetitions)):
        work(number)
    times_s = []
    for number in range(repetitions):
        started_s = time.perf_counter()
        work(number)
        times_s.append(time.perf_counter() - started_s)
    return times_s


def _zone(region: int, zone: int) -> ZoneKey:
    return ZoneKey(region=Region(f"r{region}"), zone=Zone(f"z{zone}"))


def _in_zone(zone: ZoneKey, *finer: tuple[str, str]) -> Placement:
    return Placement(region=zone.region, zone=zone.zone, finer=finer)


def _node(number: int) -> NodeName:
    return NodeName(f"ip-10-0-{number // 256}-{number % 256}.ec2.internal")


# 1. Costs

_AWS_LAYER = "topology.k8s.aws/network-node-layer-"
_LIMIT = 24
_BLOCK = 10  # rankings in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A cluster by its labels; of ``loaded`` holders the load is known."""

    name: str
    zones: int = 10
    layers: bool = False
    measured: bool = True
    loaded: int = 0

    def placements(self, nodes: int) -> dict[NodeName, Placement]:
        """All nodes, the first of which is the own one."""
        return {_node(number): self._placement(number) for number in range(nodes)}

    def _placement(self, number: int) -> Placement:
        zone_number, place = number % self.zones, number // self.zones
        zone = _zone(zone_number * 2 // self.zones, zone_number)
        if not self.layers:
            return _in_zone(zone)
        widths = (128, 32, 8)  # nodes below one network node of each layer
        return _in_zone(
            zone,
            *(
                (f"{_AWS_LAYER}{layer}", f"nn-{zone_number}-{layer}-{place // width}")
                for layer, width in enumerate(widths, start=1)
            ),
        )


_SHAPES = (
    Shape(name="10 zones"),
    Shape(name="10 zones with AWS layers", layers=True),
    Shape(name="one zone, all equal", zones=1, measured=False),
    Shape(name="one zone, measured", zones=1),
    Shape(name="10 zones, 60 loaded", loaded=60),
)


@dataclass(slots=True)
class Scene:
    """A topology of which some turns of probing measured something, as an agent's would."""

    placements: dict[NodeName, Placement]
    topology: ClusterTopology
    probed: tuple[NodeName, ...] = ()
    now_s: float = 0.0

    @classmethod
    def of(cls, shape: Shape, nodes: int, dice: random.Random) -> "Scene":
        """The first node's; the probed peers have a full window of samples."""
        placements = shape.placements(nodes)
        own = _node(0)
        topology = ClusterTopology(own=own, placement=placements[own])
        scene = cls(placements=placements, topology=topology)
        topology.update(scene.peers(), scene.now_s)
        if shape.measured:
            for turn in range(4):
                scene.probed = _probed(topology.snapshot, turn)
                scene.measure(dice)
        return scene

    def peers(self) -> dict[NodeName, Placement]:
        """The placements without the own node's."""
        own = self.topology.snapshot.own
        return {name: placement for name, placement in self.placements.items() if name != own}

    def measure(self, dice: random.Random) -> None:
        """A full window of samples of each probed peer."""
        for _ in range(10):
            self.now_s += _DEFAULTS.interval_s
            for name in self.probed:
                self.topology.sample(name, self.true_us(name) + dice.expovariate(1 / 100), self.now_s)
        self.topology.refresh(self.now_s)

    def true_us(self, name: NodeName) -> float:
        """A round trip that fits the tier, the same for one node each time."""
        least_us, most_us = _range_us(self.topology.snapshot.locality(name))
        return random.Random(name).uniform(least_us, most_us)


def _range_us(locality: Locality) -> tuple[float, float]:
    if locality <= Locality.ZONE:
        return _SAME_ZONE_US
    return _OTHER_ZONE_US if locality is Locality.REGION else _OTHER_REGION_US


def _probed(snapshot: Snapshot, turn: int) -> tuple[NodeName, ...]:
    """The peers that the node of this snapshot probes in a turn, at the default settings."""
    zones: dict[ZoneKey | None, list[NodeName]] = {}
    for name in snapshot.standings:
        if name != snapshot.own:
            zones.setdefault(snapshot.zone_of(name), []).append(name)
    return choose_probed(
        zones,
        own=snapshot.own,
        own_zone=snapshot.zone_of(snapshot.own),
        limits=ProbeLimits(
            own_zone=_DEFAULTS.own_zone, other_zones=_DEFAULTS.other_zones, total=_DEFAULTS.connections_max
        ),
        turn=turn,
    )


@dataclass(slots=True)
class RankingCase:
    """Holders to rank, and how long that took each time."""

    name: str
    snapshot: Snapshot
    holders: Sequence[NodeName]
    conditions: Mapping[NodeName, Condition]
    target_us: float
    cold_s: list[float] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    def measure(self, digests: Sequence[str]) -> None:
        """Rank for each digest, one right after the other; the first is kept apart."""
        taken_s = []
        for digest in digests:
            started_s = time.perf_counter()
            rank(self.holders, self.snapshot, digest=digest, conditions=self.conditions, limit=_LIMIT)
            taken_s.append(time.perf_counter() - started_s)
        self.cold_s.append(taken_s[0])
        self.times_s.extend(taken_s[1:])


class Costs:
    """How long the topology's operations take at scale, and what it weighs."""

    def __init__(self, report: Report, *, nodes: int, repetitions: int) -> None:
        self._report = report
        self._nodes = nodes
        self._repetitions = repetitions
        self._dice = random.Random(_SEED)

    def run(self) -> None:
        """All of them."""
        self._report.begin("costs: one process, no lab")
        self._ranking()
        scene = Scene.of(_SHAPES[0], self._nodes, self._dice)
        self._samples(scene)
        self._refreshes(scene)
        self._rebuilds(scene)
        times_s = _times_s(lambda _: scene.topology.matrix(), max(8, self._repetitions // 10))
        self._report.spread("matrix between all zones, for people", "ms", times_s, None, 1e3)
        self._updates(_SHAPES[0])
        self._updates(_SHAPES[1])
        self._memory()

    def _ranking(self) -> None:
        """All shapes in alternation, so that a noisy machine is noisy for all of them."""
        cases = [case for shape in _SHAPES for case in self._cases(shape)]
        gc.collect()
        for _ in range(self._repetitions // _BLOCK):
            for case in cases:
                case.measure([f"sha256:{self._dice.getrandbits(256):064x}" for _ in range(_BLOCK)])
        for case in cases:
            what = f"rank {len(case.holders)} holders: {case.name}"
            self._report.spread(what, "µs", case.times_s, case.target_us, 1e6)
            self._report.spread("  the same after other work, caches cold", "µs", case.cold_s, None, 1e6)

    def _cases(self, shape: Shape) -> Iterable[RankingCase]:
        snapshot = Scene.of(shape, self._nodes, self._dice).topology.snapshot
        everyone = [name for name in snapshot.standings if name != snapshot.own]
        for count, target_us in ((len(everyone), 1000.0), (64, 50.0)):
            holders = self._dice.sample(everyone, count)
            loads = {
                name: Condition(load=1 + place % 5) for place, name in enumerate(holders[: shape.loaded])
            }
            yield RankingCase(shape.name, snapshot, holders, loads, target_us)

    def _samples(self, scene: Scene) -> None:
        probed = scene.probed

        def sample(number: int) -> None:
            name = probed[number % len(probed)]
            scene.topology.sample(name, 300.0 + number % 100, scene.now_s)

        times_s = _times_s(sample, self._repetitions * 10)
        self._report.spread("apply one RTT sample", "µs", times_s, 100.0, 1e6)

    def _refreshes(self, scene: Scene) -> None:
        """A second's worth of samples and a refresh, second after second."""
        turns = itertools.cycle(scene.probed)
        times_s = []
        for _ in range(self._repetitions):
            scene.now_s += 1.0
            for name in itertools.islice(turns, 30):
                sample_us = scene.true_us(name) + _jitter_us(self._dice)
                scene.topology.sample(name, sample_us, scene.now_s)
            started_s = time.perf_counter()
            scene.topology.refresh(scene.now_s)
            times_s.append(time.perf_counter() - started_s)
        self._report.spread("refresh after 30 samples", "ms", times_s, None, 1e3)

    def _rebuilds(self, scene: Scene) -> None:
        """Refreshes after a zone came nearer or went away: every standing is made anew."""
        own_zone = scene.topology.snapshot.zone_of(scene.topology.snapshot.own)
        moving = {name for name in scene.probed if scene.topology.snapshot.zone_of(name) != own_zone}
        untouched = next(name for name in scene.placements if name not in scene.probed)
        times_s = []
        for number in range(max(8, self._repetitions // 10)):
            scene.now_s += _DEFAULTS.window_s + 1
            for name in scene.probed:
                factor = 2.0 - number % 2 if name in moving else 1.0
                scene.topology.sample(name, scene.true_us(name) * factor, scene.now_s)
            before = scene.topology.snapshot.standings[untouched]
            started_s = time.perf_counter()
            scene.topology.refresh(scene.now_s)
            times_s.append(time.perf_counter() - started_s)
            assert scene.topology.snapshot.standings[untouched] is not before, "no standing was made anew"
        what = f"refresh that makes all {self._nodes} standings anew"
        self._report.spread(what, "ms", times_s, 50.0, 1e3)

    def _updates(self, shape: Shape) -> None:
        """A membership of which one node in a hundred is new and as many are gone."""
        scene = Scene.of(shape, self._nodes, self._dice)
        peers = scene.peers()
        share = self._nodes // 100
        leaving = self._dice.sample(sorted(peers), share)
        joining = {_node(self._nodes + number): peers[name] for number, name in enumerate(leaving)}
        changed = {**{name: peers[name] for name in peers if name not in leaving}, **joining}
        memberships = itertools.cycle((changed, peers))
        repetitions = max(8, self._repetitions // 10)
        times_s = _times_s(lambda _: scene.topology.update(next(memberships), scene.now_s), repetitions)
        self._report.spread(f"update, 1 % of nodes replaced: {shape.name}", "ms", times_s, 50.0, 1e3)

        def first(_: int) -> None:
            own = scene.topology.snapshot.own
            ClusterTopology(own=own, placement=scene.placements[own]).update(peers, 0.0)

        times_s = _times_s(first, max(4, repetitions // 2))
        self._report.spread(f"first update of a new agent: {shape.name}", "ms", times_s, None, 1e3)

    def _memory(self) -> None:
        context = multiprocessing.get_context("spawn")
        for shape in _SHAPES[:2]:
            with context.Pool(1) as pool:
                rss = pool.apply(_rss_bytes, (shape, self._nodes))
            with context.Pool(1) as pool:
                traced = pool.apply(_traced_bytes, (shape, self._nodes))
            self._report.single(f"RSS of the topology: {shape.name}", "MiB", rss / _MIB)
            self._report.single(f"the same by tracemalloc: {shape.name}", "MiB", traced / _MIB)


def _grown(shape: Shape, nodes: int, weigh: Callable[[], int]) -> int:
    """By how much building a topology grows what ``weigh`` tells; the placements are there before."""
    small = Scene.of(shape, 50, random.Random(_SEED))  # what is imported and cached on first use
    placements = shape.placements(nodes)
    own = _node(0)
    peers = {name: placement for name, placement in placements.items() if name != own}
    gc.collect()
    before = weigh()
    topology = ClusterTopology(own=own, placement=placements[own])
    topology.update(peers, 0.0)
    scene = Scene(placements=placements, topology=topology)
    dice = random.Random(_SEED)
    for turn in range(20):  # ten minutes: whoever was probed is remembered for about as long
        scene.probed = _probed(topology.snapshot, turn)
        scene.measure(dice)
    gc.collect()
    grown = weigh() - before
    del small
    return grown


def _rss_bytes(shape: Shape, nodes: int) -> int:
    process = psutil.Process()
    return _grown(shape, nodes, lambda: int(process.memory_info().rss))


def _traced_bytes(shape: Shape, nodes: int) -> int:
    tracemalloc.start()
    return _grown(shape, nodes, lambda: tracemalloc.get_traced_memory()[0])


# 2. The lab

_LAB_ZONES = {"r1": ["a", "b"], "r2": ["c"]}
_LAB_PER_ZONE = 4
_JITTER_US, _SPIKE_SHARE, _SPIKE_US = 50.0, 0.01, 12_000.0
_SETTLED_S = _DEFAULTS.window_s + _DEFAULTS.interval_s + 1.0
_FULL_SAMPLES = 8  # of the ten that a window has; a lost one or two make no difference
_READINGS = 3
_BYTES_S = 30.0  # two reports of each connection
_SWAP_ROUNDS = 2
_SWAP_US = (300.0, 1000.0)
_SWAP_PATIENCE_S = 60.0

Pair = tuple[str, str]


def _jitter_us(dice: random.Random) -> float:
    """What jitter adds to one round trip, as the lab's switch makes it: both directions."""
    extra_us = 0.0
    for _ in range(2):
        extra_us += dice.expovariate(1.0) * _JITTER_US
        if dice.random() < _SPIKE_SHARE:
            extra_us += dice.random() * _SPIKE_US
    return extra_us


@dataclass(frozen=True, slots=True)
class Swap:
    """An asker, and two peers of its zone; the first is the nearer one before the swap."""

    asker: str
    near: str
    far: str


class Lab:
    """Twelve real agents at their default settings."""

    def __init__(self, report: Report, cluster: Cluster) -> None:
        self._report = report
        self._cluster = cluster
        self._dice = random.Random(_SEED)
        self._set_us = {pair: self._draw_us(*pair) for pair in itertools.combinations(cluster.nodes, 2)}

    def run(self) -> None:
        """All measurements."""
        self._report.begin(
            "lab: 12 agents, 3 zones, 2 regions; jitter 50 µs a direction, 1 % spikes to 12 ms"
        )
        for pair in self._set_us:
            self._set(pair, jitter=False)
        self._cluster.start_agents()
        self._wait(_SETTLED_S)
        truth_us = {pair: self._actual_us(*pair) for pair in self._set_us}
        calm_us = self._estimates("low_us")
        for pair in self._set_us:
            self._set(pair, jitter=True)
        self._probe_bytes()
        self._errors(truth_us, calm_us)
        self._predictions(calm_us)
        self._swaps()

    def _draw_us(self, one: str, other: str) -> float:
        first, second = self._cluster.node(one).place, self._cluster.node(other).place
        if (first.region, first.zone) == (second.region, second.zone):
            return self._dice.uniform(*_SAME_ZONE_US)
        return self._dice.uniform(*(_OTHER_ZONE_US if first.region == second.region else _OTHER_REGION_US))

    def _set(self, pair: Pair, *, jitter: bool) -> None:
        one, other = pair
        self._cluster.delays.set_delay(
            one,
            other,
            self._set_us[pair],
            jitter_us=_JITTER_US if jitter else 0.0,
            spike_share=_SPIKE_SHARE if jitter else 0.0,
            spike_us=_SPIKE_US,
        )

    def _wait(self, seconds: float) -> None:
        self._report.console.print(f"  waiting {seconds:.0f} s …", highlight=False)
        time.sleep(seconds)

    def _actual_us(self, one: str, other: str) -> float:
        """What the switch does to the pair's frames; some are sent, as not every pair is probed."""
        asker, peer = self._cluster.node(one), self._cluster.node(other)
        for _ in range(3):
            inside(asker.netns, lambda: socket.create_connection((peer.address, peer.peer_port), 5).close())
        return self._cluster.delays.actual_rtt_us(one, other)

    def _estimates(self, what: str) -> dict[Pair, float]:
        """What each agent says of each peer of which it has a full window, by (asker, peer)."""
        return {
            (name, peer["node"]): peer[what]
            for name, node in self._cluster.nodes.items()
            for peer in _asked(node, "/api/latency")["peers"]
            if peer["probed"] and (peer["samples"] or 0) >= _FULL_SAMPLES
        }

    def _probe_bytes(self) -> None:
        """While the windows fill: nothing but probes is on the wires."""
        before = {name: _wire_bytes(node) for name, node in self._cluster.nodes.items()}
        started_s = time.monotonic()
        self._wait(_BYTES_S)
        passed_s = time.monotonic() - started_s
        rates = [(_wire_bytes(node) - before[name]) / passed_s for name, node in self._cluster.nodes.items()]
        connections = _LAB_PER_ZONE - 1 + 2 * min(_LAB_PER_ZONE, _DEFAULTS.other_zones)
        # Each node probes so many, and on average as many probe it.
        stated = 2 * _stated_bytes_per_s(connections, zones=3)
        what = f"bytes on a node's interface: {connections} probed, probed by as many"
        self._report.spread(what, "B/s", rates, stated, bound=True)

    def _errors(self, truth_us: Mapping[Pair, float], calm_us: Mapping[Pair, float]) -> None:
        readings: dict[str, list[tuple[Pair, float]]] = {"low_us": [], "min_us": [], "smoothed": []}
        for number in range(_READINGS):
            if number:
                self._wait(_DEFAULTS.window_s / 2)
            readings["low_us"].extend(self._estimates("low_us").items())
            readings["min_us"].extend(self._estimates("min_us").items())
            readings["smoothed"].extend(self._smoothed().items())
        full = {pair for pair, _ in readings["low_us"]}
        names = {
            "low_us": "low percentile (the estimate)",
            "min_us": "minimum",
            "smoothed": "kernel's smoothed",
        }
        truth = {(one, other): us for pair, us in truth_us.items() for one, other in (pair, pair[::-1])}
        references = {"from the switch's delay": truth, "from what was measured without jitter": calm_us}
        for reference, expected in references.items():
            for kind, values in readings.items():
                off = [
                    (abs(us - expected[pair]), expected[pair])
                    for pair, us in values
                    if pair in expected and pair in full
                ]
                self._report.spread(f"{names[kind]}, off {reference}", "µs", [error for error, _ in off])
                relative = [error / expected_us for error, expected_us in off]
                self._report.spread("  the same, relative", "%", relative, None, 100)

    def _smoothed(self) -> dict[Pair, float]:
        """The kernel's smoothed round trip of each probe connection."""
        names = {node.address: name for name, node in self._cluster.nodes.items()}
        smoothed: dict[Pair, float] = {}
        for name, node in self._cluster.nodes.items():
            for line in run(["ss", "-tinHO", "dport", "=", f":{LOCAL_PORT}"], netns=node.netns).splitlines():
                words = line.split()
                address = next((word for word in words[3:5] if word.endswith(f":{LOCAL_PORT}")), "")
                peer = names.get(address.rpartition(":")[0])
                rtt = next((word for word in words if word.startswith("rtt:")), None)
                if peer is not None and peer != name and rtt is not None:
                    smoothed[name, peer] = 1000 * float(rtt.removeprefix("rtt:").partition("/")[0])
        return smoothed

    def _predictions(self, calm_us: Mapping[Pair, float]) -> None:
        """Zone matrix and coordinates on the agents' estimates; in so small a lab of measured pairs."""
        low_us = self._estimates("low_us")
        matrix = _asked(self._cluster.node("a1"), "/api/topology")
        zones = {(zone["region"], zone["zone"]): place for place, zone in enumerate(matrix["zones"])}
        nodes = {name: VivaldiNode(self._dice) for name in self._cluster.nodes}
        for _ in range(100):
            for one, other in self._dice.sample(sorted(low_us), len(low_us)):
                nodes[one].observe(nodes[other], low_us[one, other])
        by_matrix, by_vivaldi = [], []
        for (one, other), expected_us in calm_us.items():
            first, second = (self._cluster.node(name).place for name in (one, other))
            ends = zones[first.region, first.zone], zones[second.region, second.zone]
            matrix_us = matrix["matrix_us"][ends[0]][ends[1]]
            vivaldi_us = nodes[one].coordinate.rtt_us(nodes[other].coordinate)
            by_matrix.append(abs(matrix_us - expected_us) / expected_us)
            by_vivaldi.append(abs(vivaldi_us - expected_us) / expected_us)
        what = "predicted, off what was measured without jitter: "
        self._report.spread(f"{what}a1's zone matrix", "%", by_matrix, None, 100)
        self._report.spread(f"{what}Vivaldi", "%", by_vivaldi, None, 100)

    def _swaps(self) -> None:
        """Swap the delays to two peers of the asker's zone, there and back, in all zones at once."""
        swaps = [
            Swap(f"{zone}{asker}", f"{zone}2", f"{zone}3")
            for zones in _LAB_ZONES.values()
            for zone in zones
            for asker in (1, 4)
        ]
        self._set_swaps(swaps)
        self._wait(_SETTLED_S)
        reordered_s: list[float] = []
        certain_s: list[float] = []
        for _ in range(_SWAP_ROUNDS):
            swaps = [Swap(swap.asker, swap.far, swap.near) for swap in swaps]
            self._set_swaps(swaps)
            for first_s, last_s in self._watch(swaps).values():
                reordered_s.append(first_s)
                certain_s.append(last_s)
        bound_s = _SETTLED_S
        self._report.spread(
            "delays swapped (0.3, 1 ms): order swapped", "s", reordered_s, bound_s, bound=True
        )
        self._report.spread(
            "  the same: new one alone is chosen (1.6 ×)", "s", certain_s, bound_s, bound=True
        )

    def _set_swaps(self, swaps: Sequence[Swap]) -> None:
        for swap in swaps:
            for peer, rtt_us in zip((swap.near, swap.far), _SWAP_US, strict=True):
                pair = (min(swap.asker, peer), max(swap.asker, peer))
                self._set_us[pair] = rtt_us
                self._set(pair, jitter=True)

    def _watch(self, swaps: Sequence[Swap]) -> dict[Swap, tuple[float, float]]:
        """Seconds until each asker's order swapped for good, and until the farther one is out of reach."""
        started_s = time.monotonic()
        reordered: dict[Swap, float] = {}
        certain: dict[Swap, float] = {}
        while len(certain) < len(swaps):
            passed_s = time.monotonic() - started_s
            if passed_s > _SWAP_PATIENCE_S:
                raise TimeoutError(f"no swap: {[swap for swap in swaps if swap not in certain]}")
            for swap in swaps:
                if swap in certain:
                    continue
                nodes = _asked(self._cluster.node(swap.asker), "/api/topology")["nodes"]
                costs_us = {entry["name"]: entry["cost_us"] for entry in nodes}
                ratio = costs_us[swap.far] / costs_us[swap.near]
                if ratio <= 1:
                    reordered.pop(swap, None)
                elif swap not in reordered:
                    reordered[swap] = passed_s
                if ratio > _EQUAL_RATIO:
                    certain[swap] = passed_s
            time.sleep(0.2)
        return {swap: (reordered[swap], certain[swap]) for swap in swaps}


def _asked(node: Node, path: str) -> Any:
    return node.get(path, port=ADMIN_PORT).json()


def _wire_bytes(node: Node) -> int:
    """Bytes received and sent by the node's interface since it was made."""
    for line in run(["cat", "/proc/net/dev"], netns=node.netns).splitlines():
        name, _, counters = line.strip().partition(":")
        if name == "eth0":
            fields = counters.split()
            return int(fields[0]) + int(fields[8])
    raise LookupError(f"{node.name} has no eth0")


def _stated_bytes_per_s(connections: int, *, zones: int) -> float:
    return probe_bytes_per_s(
        connections,
        interval_s=_DEFAULTS.interval_s,
        report_s=_DEFAULTS.report_s,
        rotate_s=_DEFAULTS.rotate_s,
        zones=zones,
    )


def _stated(report: Report) -> None:
    """What the product says of its probing in larger clusters."""
    report.begin("probing at the default settings, by the function that states it")
    for nodes, zones in ((100, 3), (5000, 10)):
        shape = Shape(name="", zones=zones)
        placements = shape.placements(nodes)
        own = _node(0)
        topology = ClusterTopology(own=own, placement=placements[own])
        topology.update({name: place for name, place in placements.items() if name != own}, 0.0)
        connections = len(_probed(topology.snapshot, 0))
        what = f"stated: {nodes} nodes in {zones} zones, {connections} connections"
        report.single(what, "B/s", _stated_bytes_per_s(connections, zones=zones))


# 3. Zone matrix against coordinates

_REGION_ZONES = ((0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5))
_ACCESS_US = 30.0
_UNLABELLED = 0.05
_TIERS = {Locality.ZONE: "same zone", Locality.REGION: "other zone", Locality.REMOTE: "other region"}
_NEIGHBOURS = 7  # of which the majority tells a node's zone
_CHOICES = 20  # of each node
_HOLDERS_MAX = 10


@dataclass(frozen=True, slots=True)
class World:
    """A cluster, true round trips by the numbers of two nodes, and the labels that the nodes have."""

    zones: Sequence[ZoneKey]
    rtt_us: Sequence[Sequence[float]]
    unlabelled: frozenset[int]

    @classmethod
    def drawn(cls, nodes: int, dice: random.Random, *, by_zones: bool) -> "World":
        """``by_zones``: each pair of zones has its delay and two nodes differ from it by up to 5 %;
        otherwise every pair of nodes has its own.
        """
        zones = [_zone(*_REGION_ZONES[number % len(_REGION_ZONES)]) for number in range(nodes)]
        access_us = [dice.expovariate(1 / _ACCESS_US) for _ in range(nodes)]
        usual_us = {
            frozenset(pair): dice.uniform(*_range_us(_locality(*pair)))
            for pair in itertools.combinations_with_replacement(sorted(set(zones), key=str), 2)
        }
        rtt_us = [[0.0] * nodes for _ in range(nodes)]
        for one, other in itertools.combinations(range(nodes), 2):
            if by_zones:
                way_us = usual_us[frozenset((zones[one], zones[other]))] * dice.uniform(0.95, 1.05)
            else:
                way_us = dice.uniform(*_range_us(_locality(zones[one], zones[other])))
            rtt_us[one][other] = rtt_us[other][one] = way_us + access_us[one] + access_us[other]
        unlabelled = frozenset(dice.sample(range(nodes), round(nodes * _UNLABELLED)))
        return cls(zones, rtt_us, unlabelled)

    def label(self, number: int) -> Placement:
        """What the node's labels say."""
        return Placement() if number in self.unlabelled else _in_zone(self.zones[number])


def _locality(one: ZoneKey, other: ZoneKey) -> Locality:
    return Locality.ZONE if one == other else meeting(_in_zone(one).path, _in_zone(other).path)[0]


class Contest:
    """All nodes of a world probe as agents do; topologies and coordinates get the same samples.

    Two sets of coordinates: one takes each sample as it is, as in the paper; one takes, sample by
    sample, the product's filtered value of that pair.
    """

    def __init__(self, world: World, dice: random.Random) -> None:
        self._world = world
        self._dice = dice
        count = len(world.zones)
        self._numbers = {_node(number): number for number in range(count)}
        labels = {name: world.label(number) for name, number in self._numbers.items()}
        self.topologies = [ClusterTopology(own=name, placement=labels[name]) for name in labels]
        for topology in self.topologies:
            peers = {name: label for name, label in labels.items() if name != topology.snapshot.own}
            topology.update(peers, 0.0)
        self.raw = [VivaldiNode(dice) for _ in range(count)]
        self.filtered = [VivaldiNode(dice) for _ in range(count)]
        self.measured: set[tuple[int, int]] = set()

    def turn(self, number: int) -> None:
        """The time between two rotations: probe every interval, tell what was measured, refresh."""
        started_s = number * _DEFAULTS.rotate_s
        ways = [
            (prober, self._numbers[name])
            for prober, topology in enumerate(self.topologies)
            for name in _probed(topology.snapshot, number)
        ]
        for round_number in range(int(_DEFAULTS.rotate_s / _DEFAULTS.interval_s)):
            self._dice.shuffle(ways)
            now_s = started_s + round_number * _DEFAULTS.interval_s
            for prober, probed in ways:
                self._sample(prober, probed, now_s)
        self.measured.update(ways)
        self.measured.update((probed, prober) for prober, probed in ways)
        self._tell(ways, started_s + _DEFAULTS.rotate_s)

    def _sample(self, prober: int, probed: int, now_s: float) -> None:
        sample_us = self._world.rtt_us[prober][probed] + _jitter_us(self._dice)
        topology, name = self.topologies[prober], _node(probed)
        topology.sample(name, sample_us, now_s)
        self.raw[prober].observe(self.raw[probed], sample_us)
        estimate = topology.estimate(name, now_s)
        assert estimate is not None
        self.filtered[prober].observe(self.filtered[probed], estimate.low_us)

    def _tell(self, ways: Iterable[tuple[int, int]], now_s: float) -> None:
        reports = [topology.report(now_s) for topology in self.topologies]
        for prober, probed in ways:
            self.topologies[probed].hear(_node(prober), reports[prober], now_s)
        for topology in self.topologies:
            topology.refresh(now_s)

    def predictors(self) -> dict[str, Callable[[int, int], float]]:
        """The contestants: each predicts a round trip from the one node's point of view."""
        usual_us = self._usual_us()
        zones = self._world.zones

        def of_matrix(one: int, other: int) -> float:
            return self.topologies[one].snapshot.standings[_node(other)].cost_us

        return {
            "zone matrix": of_matrix,
            "Vivaldi": lambda one, other: self.raw[one].coordinate.rtt_us(self.raw[other].coordinate),
            "Vivaldi, filtered": lambda one, other: self.filtered[one].coordinate.rtt_us(
                self.filtered[other].coordinate
            ),
            "true medians of zones": lambda one, other: usual_us[frozenset((zones[one], zones[other]))],
        }

    def _usual_us(self) -> dict[frozenset[ZoneKey], float]:
        found: dict[frozenset[ZoneKey], list[float]] = defaultdict(list)
        for one, other in itertools.combinations(range(len(self._world.zones)), 2):
            pair = frozenset((self._world.zones[one], self._world.zones[other]))
            found[pair].append(self._world.rtt_us[one][other])
        return {pair: statistics.median(values) for pair, values in found.items()}

    def strangers(self, one: int) -> list[int]:
        """The labelled nodes that were never measured from this one, nor this one from them."""
        return [
            other
            for other in range(len(self._world.zones))
            if other != one and other not in self._world.unlabelled and (one, other) not in self.measured
        ]

    def inferred(self) -> Counter[str]:
        """How all topologies together place the nodes without a label, and how they place themselves."""
        found: Counter[str] = Counter()
        for observer, topology in enumerate(self.topologies):
            for number in self._world.unlabelled:
                zone = topology.snapshot.zone_of(_node(number))
                verdict = "none" if zone is None else _verdict(zone == self._world.zones[number])
                found[f"{'itself' if observer == number else 'others'} {verdict}"] += 1
        return found

    def nearest_zones(self, nodes: Sequence[VivaldiNode]) -> int:
        """How many of the nodes without a label are among coordinates of their own zone."""
        world = self._world
        labelled = [number for number in range(len(nodes)) if number not in world.unlabelled]
        right = 0
        for number in world.unlabelled:
            here = nodes[number].coordinate
            nearest = sorted(labelled, key=lambda other: here.rtt_us(nodes[other].coordinate))
            votes = Counter(world.zones[other] for other in nearest[:_NEIGHBOURS])
            right += votes.most_common(1)[0][0] == world.zones[number]
        return right


def _verdict(right: bool) -> str:
    return "right" if right else "wrong"


def _contest(report: Report, *, nodes: int, turns: int, by_zones: bool) -> None:
    kind = "a delay for each two zones, ± 5 %" if by_zones else "a delay for each two nodes"
    minutes = turns * _DEFAULTS.rotate_s / 60
    report.begin(f"zone matrix and Vivaldi, same samples: {nodes} nodes, {minutes:.1f} min; {kind}")
    dice = random.Random(_SEED)
    world = World.drawn(nodes, dice, by_zones=by_zones)
    contest = Contest(world, dice)
    for turn in range(turns):
        contest.turn(turn)
    _report_errors(report, world, contest)
    _report_choices(report, world, contest, dice)
    _report_inferred(report, world, contest)


def _report_errors(report: Report, world: World, contest: Contest) -> None:
    """Of pairs that nobody measured. Labelled nodes only: where a node is, is another figure."""
    labelled = [number for number in range(len(world.zones)) if number not in world.unlabelled]
    pairs = [(one, other) for one in labelled for other in contest.strangers(one)]
    for name, predict in contest.predictors().items():
        errors: dict[Locality, list[float]] = {tier: [] for tier in _TIERS}
        for one, other in pairs:
            true_us = world.rtt_us[one][other]
            error = abs(predict(one, other) - true_us) / true_us
            errors[_locality(world.zones[one], world.zones[other])].append(error)
        everything = [error for values in errors.values() for error in values]
        report.spread(f"relative error of unmeasured pairs: {name}", "%", everything, None, 100)
        for tier, values in errors.items():
            report.spread(f"  {_TIERS[tier]}", "%", values, None, 100)


def _report_choices(report: Report, world: World, contest: Contest, dice: random.Random) -> None:
    """The least prediction among holders that the asker never measured; equals at random."""
    questions: list[tuple[int, list[int]]] = []
    for one in range(len(world.zones)):
        strangers = contest.strangers(one)
        if one not in world.unlabelled and len(strangers) > 1:
            counts = (dice.randint(2, min(_HOLDERS_MAX, len(strangers))) for _ in range(_CHOICES))
            questions.extend((one, dice.sample(strangers, count)) for count in counts)
    for name, predict in contest.predictors().items():
        near = exact = 0
        for one, holders in questions:
            predicted_us = {other: predict(one, other) for other in holders}
            least_us = min(predicted_us.values())
            chosen = dice.choice([other for other in holders if predicted_us[other] == least_us])
            best_us = min(world.rtt_us[one][other] for other in holders)
            near += world.rtt_us[one][chosen] <= _EQUAL_RATIO * best_us
            exact += world.rtt_us[one][chosen] == best_us
        report.share(f"chosen is nearest (1.6 ×) among unmeasured: {name}", near, len(questions))
        report.share(f"  nearest of all: {name}", exact, len(questions))


def _report_inferred(report: Report, world: World, contest: Contest) -> None:
    found = contest.inferred()
    for observer in ("others", "itself"):
        total = sum(count for verdict, count in found.items() if verdict.startswith(observer))
        for verdict in ("right", "wrong"):
            what = f"node without labels is placed {verdict}: shorthaul, by {observer}"
            report.share(what, found[f"{observer} {verdict}"], total)
    for name, nodes in (("Vivaldi", contest.raw), ("Vivaldi, filtered", contest.filtered)):
        right = contest.nearest_zones(nodes)
        report.share(f"node without labels is placed right: {name}", right, len(world.unlabelled))


# 4. The oracle

_ORACLE_JITTER_US, _ORACLE_SPIKE_SHARE = 100.0, 0.02
_ORACLE_CHOICES = 4
_OWN = NodeName("own")


@dataclass(frozen=True, slots=True)
class SmallWorld:
    """A random cluster of at most 40 nodes as one of them sees it."""

    placements: Mapping[NodeName, Placement]
    rtt_us: Mapping[NodeName, float]

    @classmethod
    def drawn(cls, dice: random.Random) -> "SmallWorld":
        """One to six zones in one to three regions; in a quarter of them some access links are slow."""
        zones = [_zone(dice.randint(1, 3), number) for number in range(dice.randint(1, 6))]
        names = [_OWN, *(_node(number) for number in range(dice.randint(2, 39)))]
        slow = 0.2 if dice.random() < 0.25 else 0.0
        placements = {name: _in_zone(dice.choice(zones)) for name in names}
        access_us = {name: dice.uniform(20, 200) if dice.random() < slow else 0.0 for name in names}
        far_us = {zone: dice.uniform(5_000, 80_000) for zone in zones}
        rtt_us = {}
        for name in names[1:]:
            locality, _ = meeting(placements[_OWN].path, placements[name].path)
            zone = placements[name].zone_key
            assert zone is not None
            if locality is Locality.REMOTE:
                way_us = far_us[zone] * dice.uniform(0.97, 1.03)
            else:
                way_us = dice.uniform(*_range_us(locality))
            rtt_us[name] = way_us + access_us[_OWN] + access_us[name]
        return cls(placements, rtt_us)

    def topology(self, dice: random.Random) -> ClusterTopology:
        """After 10 to 15 samples of each measured peer: one of every zone at least, and some others."""
        topology = ClusterTopology(own=_OWN, placement=self.placements[_OWN])
        topology.update({name: self.placements[name] for name in self.rtt_us}, 0.0)
        unmeasured, seen = dice.uniform(0.0, 0.6), set()
        for name, true_us in self.rtt_us.items():
            zone = self.placements[name].zone_key
            if zone in seen and dice.random() < unmeasured:
                continue
            seen.add(zone)
            for number in range(dice.randint(10, 15)):
                late_us = dice.expovariate(1 / _ORACLE_JITTER_US)
                if dice.random() < _ORACLE_SPIKE_SHARE:
                    late_us += dice.uniform(0, _SPIKE_US)
                topology.sample(name, true_us + late_us, 1.0 + number)
        topology.refresh(16.0)
        return topology

    def nearest_us(self, holders: Sequence[NodeName]) -> float:
        """The least true round trip in the nearest tier that has a holder."""
        own = self.placements[_OWN].path
        tiers = {name: meeting(own, self.placements[name].path)[0] for name in holders}
        nearest = min(tiers.values())
        return min(self.rtt_us[name] for name in holders if tiers[name] is nearest)


def _oracle(report: Report, clusters: int) -> None:
    report.begin(f"agreement with an oracle: {clusters} random clusters of 3 to 40 nodes")
    dice = random.Random(_SEED)
    choices = near = exact = 0
    excess: list[float] = []
    for number in range(clusters):
        world = SmallWorld.drawn(dice)
        snapshot = world.topology(dice).snapshot
        names = sorted(world.rtt_us)
        for choice in range(_ORACLE_CHOICES):
            holders = dice.sample(names, dice.randint(1, len(names)))
            chosen = rank(holders, snapshot, digest=f"sha256:{number}-{choice}", limit=1)[0].node
            ratio = world.rtt_us[chosen] / world.nearest_us(holders)
            choices += 1
            near += ratio <= _EQUAL_RATIO
            exact += ratio == 1.0
            excess.append(ratio)
    report.share("chosen is nearest in its tier (1.6 ×)", near, choices, 99.0)
    report.share("  the one nearest of all; equals share by hash on purpose", exact, choices)
    report.spread("  its round trip as a multiple of the nearest's", "×", excess)


def main() -> int:
    """Measure, print a table, and write all figures as JSON with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="everything small, without the lab")
    arguments = parser.parse_args()
    if not arguments.quick and os.geteuid() != 0:
        parser.error("the lab needs root, for network namespaces; --quick goes without")
    report = Report(Console(width=None if sys.stdout.isatty() else 150))
    if arguments.quick:
        _run_quick(report)
    else:
        _run_all(report)
    report.console.print(report.table())
    if arguments.json:
        arguments.json.write_text(report.as_json())
    return 0


def _run_quick(report: Report) -> None:
    Costs(report, nodes=1000, repetitions=50).run()
    _stated(report)
    _contest(report, nodes=90, turns=2, by_zones=False)
    _oracle(report, 100)


def _run_all(report: Report) -> None:
    Costs(report, nodes=5000, repetitions=300).run()
    with Cluster(places(_LAB_ZONES, _LAB_PER_ZONE), delays=True, containerd=False) as cluster:
        Lab(report, cluster).run()
    _stated(report)
    _contest(report, nodes=500, turns=4, by_zones=False)
    _contest(report, nodes=300, turns=4, by_zones=True)
    _oracle(report, 1000)


if __name__ == "__main__":
    sys.exit(main())
