"""The computed limit of measuring traffic, for clusters larger than the lab's."""

from benchmarks.reporting.recorder import Recorder
from benchmarks.topology.measuring import DEFAULTS, measured_peers
from benchmarks.topology.scene import Scene, Shape
from topology.measuring import measuring_bytes_per_s

_CLUSTERS = ((100, 3), (5000, 10))  # nodes, zones


def report_stated(report: Recorder) -> None:
    """Report this section."""
    report.begin("measuring at the default settings, as the product states it")
    for nodes, zones in _CLUSTERS:
        scene = Scene.unmeasured(Shape(name="", zones=zones).placements(nodes))
        connections = len(measured_peers(scene.topology.snapshot, 0))
        what = f"{nodes} nodes in {zones} zones: {connections} connections"
        report.single(what, "B/s", stated_bytes_per_s(connections, zones=zones))


def stated_bytes_per_s(connections: int, *, zones: int) -> float:
    """The computed traffic of a node that measures so many peers, with default settings."""
    return measuring_bytes_per_s(
        connections,
        interval_s=DEFAULTS.interval_s,
        report_s=DEFAULTS.report_s,
        rotate_s=DEFAULTS.rotate_s,
        zones=zones,
    )
