"""What the topology's operations cost at scale, in one process and without the lab."""

import gc
import itertools
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.reporting.recorder import Recorder
from benchmarks.topology.cloud import SEED, jitter_us, node_name
from benchmarks.topology.measuring import DEFAULTS
from benchmarks.topology.memory import report_memory
from benchmarks.topology.scene import LAYERED, PLAIN, SHAPES, Scene, Shape, without_own
from topology.placement import NodeName
from topology.ranking import Condition, rank
from topology.snapshot import Snapshot

_LIMIT = 24
_BLOCK = 10  # rankings in a row
_CONVINCING = 5  # samples per peer; fewer could all be late
_FEW, _FEW_US, _ALL_US = 64, 50.0, 1000.0  # holders, and the targets for ranking so few or all


def _times_s(work: Callable[[int], object], repetitions: int) -> list[float]:
    """The time of each call, in seconds. The argument of a call is the number of the repetition."""
    for number in range(min(3, repetitions)):
        work(number)
    taken_s = []
    for number in range(repetitions):
        started_s = time.perf_counter()
        work(number)
        taken_s.append(time.perf_counter() - started_s)
    return taken_s


def _time_s(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


@dataclass(slots=True)
class RankingCase:
    """Holders to rank, and how long each ranking took."""

    name: str
    snapshot: Snapshot
    holders: Sequence[NodeName]
    conditions: Mapping[NodeName, Condition]
    target_us: float
    cold_s: list[float] = field(default_factory=list)
    warm_s: list[float] = field(default_factory=list)

    def measure(self, digests: Sequence[str]) -> None:
        """Rank once per digest, without a pause. Only the first ranking has cold caches."""
        taken_s = []
        for digest in digests:
            started_s = time.perf_counter()
            rank(self.holders, self.snapshot, digest=digest, conditions=self.conditions, limit=_LIMIT)
            taken_s.append(time.perf_counter() - started_s)
        self.cold_s.append(taken_s[0])
        self.warm_s.extend(taken_s[1:])


class Costs:
    """How long the topology's operations take at scale, and how much memory it takes."""

    def __init__(self, report: Recorder, *, nodes: int, repetitions: int) -> None:
        self._report = report
        self._nodes = nodes
        self._repetitions = repetitions
        self._seldom = max(8, repetitions // 10)  # repetitions of slow operations
        self._dice = random.Random(SEED)

    def run(self) -> None:
        """Run all measurements."""
        self._ranking()
        self._report.begin("other costs: one process, no lab")
        scene = Scene.of(PLAIN, self._nodes, self._dice)
        self._samples(scene)
        self._refreshes(scene)
        self._rebuilds(scene)
        self._matrix(scene)
        for shape in (PLAIN, LAYERED):
            self._updates(shape)
        for shape in (PLAIN, LAYERED):
            report_memory(self._report, shape, self._nodes)

    def _ranking(self) -> None:
        """Measure all shapes in alternation, so that noise affects all of them."""
        self._report.begin("ranking, caches warm: right after another ranking of the same holders")
        cases = [case for shape in SHAPES for case in self._cases(shape)]
        gc.collect()
        for _ in range(self._repetitions // _BLOCK):
            for case in cases:
                case.measure([f"sha256:{self._dice.getrandbits(256):064x}" for _ in range(_BLOCK)])
        for case in cases:
            self._report.spread(_rank_row(case), "µs", case.warm_s, case.target_us, 1e6)
        self._report.begin("ranking, caches cold: the first after other work")
        for case in cases:
            self._report.spread(_rank_row(case), "µs", case.cold_s, None, 1e6)

    def _cases(self, shape: Shape) -> Iterable[RankingCase]:
        snapshot = Scene.of(shape, self._nodes, self._dice).topology.snapshot
        everyone = [name for name in snapshot.standings if name != snapshot.own]
        for count, target_us in ((len(everyone), _ALL_US), (_FEW, _FEW_US)):
            holders = self._dice.sample(everyone, count)
            loads = {
                name: Condition(load=1 + place % 5) for place, name in enumerate(holders[: shape.loaded])
            }
            yield RankingCase(shape.name, snapshot, holders, loads, target_us)

    def _samples(self, scene: Scene) -> None:
        measured = scene.measured

        def sample(number: int) -> None:
            name = measured[number % len(measured)]
            scene.topology.sample(name, 300.0 + number % 100, scene.now_s)

        taken_s = _times_s(sample, self._repetitions * 10)
        self._report.spread("apply one RTT sample", "µs", taken_s, 100.0, 1e6)

    def _refreshes(self, scene: Scene) -> None:
        """Measure one second's samples and a refresh, for many seconds."""
        turns = itertools.cycle(scene.measured)
        taken_s = []
        for _ in range(self._repetitions):
            scene.now_s += 1.0
            for name in itertools.islice(turns, 30):
                sample_us = scene.true_us(name) + jitter_us(self._dice)
                scene.topology.sample(name, sample_us, scene.now_s)
            taken_s.append(_time_s(lambda: scene.topology.refresh(scene.now_s)))
        self._report.spread("refresh after 30 samples", "ms", taken_s, None, 1e3)

    def _rebuilds(self, scene: Scene) -> None:
        """Measure refreshes after the cost of all zones changed, which recompute every standing."""
        topology = scene.topology
        standings = topology.snapshot.standings
        measured = [name for name, standing in standings.items() if standing.estimate is not None]
        taken_s = []
        for number in range(self._seldom):
            scene.now_s += DEFAULTS.window_s + 1
            for name in measured * _CONVINCING:
                topology.sample(name, scene.true_us(name) * (2.0 - number % 2), scene.now_s)
            before = topology.snapshot.standings
            taken_s.append(_time_s(lambda: topology.refresh(scene.now_s)))
            kept = sum(new is before[name] for name, new in topology.snapshot.standings.items())
            assert not kept, f"{kept} standings were not made anew"
        what = f"refresh that makes all {self._nodes} standings anew"
        self._report.spread(what, "ms", taken_s, 50.0, 1e3)

    def _matrix(self, scene: Scene) -> None:
        """Measure the matrix row by row, like the admin port."""
        topology = scene.topology
        taken_s = _times_s(
            lambda _: [topology.matrix_row(zone) for zone in topology.snapshot.zones], self._seldom
        )
        self._report.spread("matrix between all zones, for people", "ms", taken_s, None, 1e3)

    def _updates(self, shape: Shape) -> None:
        """Measure the first membership, and one in which 1 % of the nodes are replaced."""
        scene = Scene.of(shape, self._nodes, self._dice)
        peers = without_own(scene.placements)
        leaving = self._dice.sample(sorted(peers), self._nodes // 100)
        joining = {node_name(self._nodes + number): peers[name] for number, name in enumerate(leaving)}
        changed = {**{name: peers[name] for name in peers if name not in leaving}, **joining}
        memberships = itertools.cycle((changed, peers))
        taken_s = _times_s(lambda _: scene.topology.update(next(memberships), scene.now_s), self._seldom)
        self._report.spread(f"update, 1 % of nodes replaced: {shape.name}", "ms", taken_s, 50.0, 1e3)
        taken_s = _times_s(lambda _: Scene.unmeasured(scene.placements, peers), max(4, self._seldom // 2))
        self._report.spread(f"first update of a new agent: {shape.name}", "ms", taken_s, None, 1e3)


def _rank_row(case: RankingCase) -> str:
    return f"rank {len(case.holders)} holders: {case.name}"
