"""How long connect() takes with and without the programs, in alternation."""

from benchmarks.probe.programs import EMPTY, Programs
from benchmarks.probe.testbed import OTHER, PORTS, WATCHED, Load, Testbed
from benchmarks.reporting.quantiles import at
from benchmarks.reporting.recorder import Recorder

_TARGET_NS = 3000
_BURST = 300
_KINDS = {"watched": (WATCHED, None), "not watched": (OTHER, None), "empty programs": (WATCHED, EMPTY)}


def report_latency(report: Recorder, testbed: Testbed, *, alternations: int) -> None:
    """Report the difference within each pair of bursts, so that noise affects both."""
    report.begin("connect() on loopback: the whole handshake, both ends")
    added_ns: dict[str, list[float]] = {what: [] for what in _KINDS}
    tail_ns: dict[str, list[float]] = {what: [] for what in _KINDS}
    without_ns: list[float] = []
    with (
        testbed.load("connects", WATCHED, OTHER) as load,
        Programs(testbed.cgroup, PORTS) as ours,
        Programs(testbed.cgroup, PORTS, EMPTY) as empty,
    ):
        for number in range(alternations):
            for what, (port, source) in _KINDS.items():
                programs = ours if source is None else empty
                if number % 2:
                    attached, detached = _attached(programs, load, port), _burst(load, port)
                else:
                    detached, attached = _burst(load, port), _attached(programs, load, port)
                added_ns[what].append(at(attached, 0.5) - at(detached, 0.5))
                tail_ns[what].append(at(attached, 0.95) - at(detached, 0.95))
                without_ns.append(at(detached, 0.5))
        lost = ours.lost()
    report.spread("without programs: a burst's median", "µs", without_ns, None, 1e-3)
    for what, values in added_ns.items():
        target = _TARGET_NS if what == "watched" else None
        report.spread(f"added to the median, {what}", "ns", values, target)
        report.spread(f"added to the 95th percentile, {what}", "ns", tail_ns[what], target)
    report.single("events that found the ring buffer full", "", lost)


def _attached(programs: Programs, load: Load, port: int) -> list[int]:
    with programs.attached():
        return _burst(load, port)


def _burst(load: Load, port: int) -> list[int]:
    return sorted(map(int, load.ask(f"burst {port} {_BURST}").split()))
