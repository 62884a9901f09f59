"""Real agents with known delays: measuring traffic, errors of the estimates, and reaction to changes."""

import random
import time
from collections.abc import Mapping

from benchmarks.lab.cluster import Cluster, places
from benchmarks.reporting.recorder import Recorder
from benchmarks.topology.cloud import SEED
from benchmarks.topology.measuring import DEFAULTS
from benchmarks.topology.stated import stated_bytes_per_s
from benchmarks.topology.swaps import report_swaps
from benchmarks.topology.testbed import PER_ZONE, ZONES, Pair, Testbed
from benchmarks.topology.vivaldi import VivaldiNode

_READINGS = 3
_BYTES_S = 30.0  # time for two reports per connection
_VIVALDI_ROUNDS = 100
_KINDS = {
    "low_us": "low percentile (the estimate)",
    "min_us": "minimum",
    "smoothed": "kernel's smoothed",
}

Readings = dict[str, list[tuple[Pair, float]]]


def report_lab(report: Recorder) -> None:
    """Measure and report this section."""
    with Cluster(places(ZONES, PER_ZONE), delays=True, containerd=False) as cluster:
        dice = random.Random(SEED)
        testbed = Testbed(report, cluster, dice)
        report.begin("lab: 12 agents, 3 zones, 2 regions; jitter 50 µs a direction, 1 % spikes to 12 ms")
        testbed.set_all(jitter=False)
        testbed.start_agents()
        truth_us = testbed.actual_us()
        calm_us = testbed.estimates_us("low_us")
        testbed.set_all(jitter=True)
        _report_bytes(report, testbed)
        _report_errors(report, _readings(testbed), truth_us, calm_us)
        _report_predictions(report, testbed, calm_us, dice)
        report_swaps(report, testbed)


def _report_bytes(report: Recorder, testbed: Testbed) -> None:
    """Report the traffic while the windows fill, when there are only measurements."""
    before = testbed.wire_bytes()
    started_s = time.monotonic()
    testbed.wait(_BYTES_S)
    passed_s = time.monotonic() - started_s
    rates = [(count - before[name]) / passed_s for name, count in testbed.wire_bytes().items()]
    connections = PER_ZONE - 1 + 2 * min(PER_ZONE, DEFAULTS.other_zones)
    # Each node measures so many peers, and on average as many peers measure it.
    stated = 2 * stated_bytes_per_s(connections, zones=3)
    what = f"bytes on a node's interface: {connections} measured, measured by as many"
    report.spread(what, "B/s", rates, stated, bound=True)


def _readings(testbed: Testbed) -> Readings:
    """Several readings of the agents' and the kernels' values."""
    readings: Readings = {kind: [] for kind in _KINDS}
    for number in range(_READINGS):
        if number:
            testbed.wait(DEFAULTS.window_s / 2)
        readings["low_us"].extend(testbed.estimates_us("low_us").items())
        readings["min_us"].extend(testbed.estimates_us("min_us").items())
        readings["smoothed"].extend(testbed.smoothed_us().items())
    return readings


def _report_errors(
    report: Recorder, readings: Readings, truth_us: Mapping[Pair, float], calm_us: Mapping[Pair, float]
) -> None:
    """Report the errors of each kind of reading, for pairs with an estimate."""
    full = {pair for pair, _ in readings["low_us"]}
    for reference, expected_us in (("switch's delay", truth_us), ("value without jitter", calm_us)):
        for kind, values in readings.items():
            known = [(pair, us) for pair, us in values if pair in expected_us and pair in full]
            off_us = [abs(us - expected_us[pair]) for pair, us in known]
            report.spread(f"{_KINDS[kind]}, off the {reference}", "µs", off_us)
            relative = [off / expected_us[pair] for off, (pair, _) in zip(off_us, known, strict=True)]
            report.spread("  the same, relative", "%", relative, None, 100)


def _report_predictions(
    report: Recorder, testbed: Testbed, calm_us: Mapping[Pair, float], dice: random.Random
) -> None:
    """Report the zone matrix and coordinates on the agents' estimates. All pairs of this small lab are
    measured.
    """
    low_us = testbed.estimates_us("low_us")
    matrix_us = _matrix_us(testbed, calm_us)
    nodes = _coordinates(testbed, low_us, dice)
    vivaldi_us = {
        (one, other): nodes[one].coordinate.rtt_us(nodes[other].coordinate) for one, other in calm_us
    }
    for name, predicted_us in (("a1's zone matrix", matrix_us), ("Vivaldi", vivaldi_us)):
        off = [abs(predicted_us[pair] - us) / us for pair, us in calm_us.items()]
        report.spread(f"prediction by {name}, off the value without jitter", "%", off, None, 100)


def _matrix_us(testbed: Testbed, pairs: Mapping[Pair, float]) -> dict[Pair, float]:
    """The first node's zone matrix for these pairs."""
    matrix = testbed.asked("a1", "/api/topology")
    numbers = {(zone["region"], zone["zone"]): number for number, zone in enumerate(matrix["zones"])}
    found_us = {}
    for pair in pairs:
        one, other = (
            numbers[place.region, place.zone] for place in (testbed.nodes[end].place for end in pair)
        )
        found_us[pair] = matrix["matrix_us"][one][other]
    return found_us


def _coordinates(
    testbed: Testbed, low_us: Mapping[Pair, float], dice: random.Random
) -> dict[str, VivaldiNode]:
    """The coordinates after each node got each of its own estimates many times."""
    nodes = {name: VivaldiNode(dice) for name in testbed.nodes}
    for _ in range(_VIVALDI_ROUNDS):
        for one, other in dice.sample(sorted(low_us), len(low_us)):
            nodes[one].observe(nodes[other], low_us[one, other])
    return nodes
