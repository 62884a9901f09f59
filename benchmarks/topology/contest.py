"""Compares the zone matrix with Vivaldi coordinates, on the same samples of a simulated cluster."""

import itertools
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from benchmarks.reporting.recorder import Recorder
from benchmarks.topology.cloud import EQUAL_RATIO, SEED, jitter_us, node_name
from benchmarks.topology.measuring import DEFAULTS, measured_peers
from benchmarks.topology.vivaldi import VivaldiNode
from benchmarks.topology.world import World, zone_tier
from topology.cluster import ClusterTopology
from topology.placement import Tier, ZoneKey

_TIERS = {Tier.ZONE: "same zone", Tier.REGION: "other zone", Tier.REMOTE: "other region"}
_NEIGHBOURS = 7  # nearest neighbours, whose majority gives a node's zone
_CHOICES = 20  # per node
_HOLDERS_MAX = 10

Predict = Callable[[int, int], float]


class Contest:
    """All nodes of a world measure like agents. Topologies and coordinates get the same samples.

    There are two sets of coordinates. One gets each sample unchanged, as in the paper. The other gets, for
    each sample, the filtered estimate of that pair.
    """

    def __init__(self, world: World, dice: random.Random) -> None:
        self._world = world
        self._dice = dice
        count = len(world.zones)
        self._numbers = {node_name(number): number for number in range(count)}
        labels = {name: world.label(number) for name, number in self._numbers.items()}
        self.topologies = [ClusterTopology(own=name, placement=labels[name]) for name in labels]
        for topology in self.topologies:
            peers = {name: label for name, label in labels.items() if name != topology.snapshot.own}
            topology.update(peers, 0.0)
        self.raw = [VivaldiNode(dice) for _ in range(count)]
        self.filtered = [VivaldiNode(dice) for _ in range(count)]
        self.measured: set[tuple[int, int]] = set()

    def turn(self, number: int) -> None:
        """Simulate the time between two rotations: measure every interval, report, refresh."""
        started_s = number * DEFAULTS.rotate_s
        ways = [
            (measurer, self._numbers[name])
            for measurer, topology in enumerate(self.topologies)
            for name in measured_peers(topology.snapshot, number)
        ]
        for round_number in range(int(DEFAULTS.rotate_s / DEFAULTS.interval_s)):
            self._dice.shuffle(ways)
            now_s = started_s + round_number * DEFAULTS.interval_s
            for measurer, measured in ways:
                self._sample(measurer, measured, now_s)
        self.measured.update(ways)
        self.measured.update((measured, measurer) for measurer, measured in ways)
        self._tell(ways, started_s + DEFAULTS.rotate_s)

    def _sample(self, measurer: int, measured: int, now_s: float) -> None:
        sample_us = self._world.rtt_us[measurer][measured] + jitter_us(self._dice)
        topology, name = self.topologies[measurer], node_name(measured)
        topology.sample(name, sample_us, now_s)
        self.raw[measurer].observe(self.raw[measured], sample_us)
        estimate = topology.estimate(name, now_s)
        assert estimate is not None
        self.filtered[measurer].observe(self.filtered[measured], estimate.low_us)

    def _tell(self, ways: Iterable[tuple[int, int]], now_s: float) -> None:
        reports = [topology.report(now_s) for topology in self.topologies]
        for measurer, measured in ways:
            self.topologies[measured].add_report(node_name(measurer), reports[measurer], now_s)
        for topology in self.topologies:
            topology.refresh(now_s)

    def predictors(self) -> dict[str, Predict]:
        """The contestants. Each predicts a round trip from one node's point of view."""
        usual_us = self._usual_us()
        zones = self._world.zones

        def of_matrix(one: int, other: int) -> float:
            return self.topologies[one].snapshot.standings[node_name(other)].cost_us

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
        """The labelled nodes that this node never measured and that never measured it."""
        return [
            other
            for other in range(len(self._world.zones))
            if other != one and other not in self._world.unlabelled and (one, other) not in self.measured
        ]

    def inferred(self) -> Counter[str]:
        """How other nodes place the nodes without a label, and how these place themselves."""
        found: Counter[str] = Counter()
        for observer, topology in enumerate(self.topologies):
            for number in self._world.unlabelled:
                zone = topology.snapshot.zone_of(node_name(number))
                verdict = "none" if zone is None else _verdict(zone == self._world.zones[number])
                found[f"{'itself' if observer == number else 'others'} {verdict}"] += 1
        return found

    def nearest_zones(self, nodes: Sequence[VivaldiNode]) -> int:
        """How many nodes without a label have coordinates near those of their own zone."""
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


def report_contest(report: Recorder, *, nodes: int, turns: int, by_zones: bool) -> None:
    """Measure and report this section."""
    kind = "a delay for each two zones, ± 5 %" if by_zones else "a delay for each two nodes"
    minutes = turns * DEFAULTS.rotate_s / 60
    report.begin(f"zone matrix and Vivaldi, same samples: {nodes} nodes, {minutes:.1f} min; {kind}")
    dice = random.Random(SEED)
    world = World.drawn(nodes, dice, by_zones=by_zones)
    contest = Contest(world, dice)
    for turn in range(turns):
        contest.turn(turn)
    _report_errors(report, world, contest)
    _report_choices(report, world, contest, dice)
    _report_inferred(report, world, contest)


def _report_errors(report: Recorder, world: World, contest: Contest) -> None:
    """Report errors for unmeasured pairs. Labelled nodes only, because placement is another figure."""
    labelled = [number for number in range(len(world.zones)) if number not in world.unlabelled]
    pairs = [(one, other) for one in labelled for other in contest.strangers(one)]
    for name, predict in contest.predictors().items():
        errors: dict[Tier, list[float]] = {tier: [] for tier in _TIERS}
        for one, other in pairs:
            true_us = world.rtt_us[one][other]
            error = abs(predict(one, other) - true_us) / true_us
            errors[zone_tier(world.zones[one], world.zones[other])].append(error)
        everything = [error for values in errors.values() for error in values]
        report.spread(f"error, unmeasured pairs: {name}", "%", everything, None, 100)
        for tier, values in errors.items():
            report.spread(f"  {_TIERS[tier]}", "%", values, None, 100)


def _report_choices(report: Recorder, world: World, contest: Contest, dice: random.Random) -> None:
    """Report choices: the smallest prediction among unmeasured holders, at random among equals."""
    questions = list(_questions(world, contest, dice))
    for name, predict in contest.predictors().items():
        near = exact = 0
        for one, holders in questions:
            chosen_us = world.rtt_us[one][_chosen(one, holders, predict, dice)]
            best_us = min(world.rtt_us[one][other] for other in holders)
            near += chosen_us <= EQUAL_RATIO * best_us
            exact += chosen_us == best_us
        report.share(f"unmeasured holder chosen is near ({EQUAL_RATIO} ×): {name}", near, len(questions))
        report.share("  is the nearest of all", exact, len(questions))


def _questions(world: World, contest: Contest, dice: random.Random) -> Iterable[tuple[int, list[int]]]:
    """Asking nodes, each with holders to choose from."""
    for one in range(len(world.zones)):
        strangers = contest.strangers(one)
        if one not in world.unlabelled and len(strangers) > 1:
            for _ in range(_CHOICES):
                yield one, dice.sample(strangers, dice.randint(2, min(_HOLDERS_MAX, len(strangers))))


def _chosen(one: int, holders: Sequence[int], predict: Predict, dice: random.Random) -> int:
    predicted_us = {other: predict(one, other) for other in holders}
    least_us = min(predicted_us.values())
    return dice.choice([other for other in holders if predicted_us[other] == least_us])


def _report_inferred(report: Recorder, world: World, contest: Contest) -> None:
    """Report where the nodes without labels are placed."""
    found = contest.inferred()
    for observer in ("others", "itself"):
        total = sum(count for verdict, count in found.items() if verdict.startswith(observer))
        for verdict in ("right", "wrong"):
            what = f"unlabelled node is placed {verdict}: shorthaul, by {observer}"
            report.share(what, found[f"{observer} {verdict}"], total)
    for name, nodes in (("Vivaldi", contest.raw), ("Vivaldi, filtered", contest.filtered)):
        right = contest.nearest_zones(nodes)
        report.share(f"unlabelled node is placed right: {name}", right, len(world.unlabelled))
