"""The time and CPU of a transfer with and without the programs, in alternation."""

from typing import NamedTuple

from benchmarks.probe.programs import Programs
from benchmarks.probe.testbed import PORTS, WATCHED, Load, Testbed
from benchmarks.reporting.recorder import Recorder


class _Taken(NamedTuple):
    wall_ns: int
    cpu_ns: int


def report_throughput(report: Recorder, testbed: Testbed, *, alternations: int, mib: int) -> None:
    """Report the ratio within each pair of transfers, so that noise affects both."""
    report.begin(f"throughput on loopback, sendfile() and recv(), {mib} MiB at a time")
    without: list[_Taken] = []
    attached: list[_Taken] = []
    with testbed.load("transfers", WATCHED) as load, Programs(testbed.cgroup, PORTS) as programs:
        _transfer(load, mib)
        for number in range(alternations):
            if number % 2:
                attached.append(_attached(programs, load, mib))
            without.append(_transfer(load, mib))
            if not number % 2:
                attached.append(_attached(programs, load, mib))
    for what, taken in (("without the probe", without), ("with the probe", attached)):
        report.spread(what, "GiB/s", [mib / 1024 / (each.wall_ns / 1e9) for each in taken])
    pairs = list(zip(without, attached, strict=True))
    report.spread(
        "throughput with / without, pair by pair", "", [one.wall_ns / two.wall_ns for one, two in pairs]
    )
    report.spread("CPU with / without, pair by pair", "", [two.cpu_ns / one.cpu_ns for one, two in pairs])


def _attached(programs: Programs, load: Load, mib: int) -> _Taken:
    with programs.attached():
        return _transfer(load, mib)


def _transfer(load: Load, mib: int) -> _Taken:
    return _Taken(*map(int, load.ask(f"{WATCHED} {mib}").split()))
