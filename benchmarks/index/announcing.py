"""Everybody announces everything at once: all agents start, and the server loses what it was told.

The bound is the product's own: see `agent.holders.valkey.announcements`.
"""

from collections.abc import Callable

from agent.holders.valkey.announcements import BITS_PER_S
from benchmarks.index.stage import Stage
from benchmarks.index.usage import Sample, Usage
from benchmarks.reporting.recorder import Recorder

_AT_MOST_S = 900.0
_SPREAD_S = 30.0
_MIB = 2**20


def report_start(report: Recorder, stage: Stage) -> None:
    """All agents start within half a minute, as in a rollout that nothing holds up."""
    report.begin(
        f"{stage.size.nodes} agents with {stage.size.blobs} contents each start within {_SPREAD_S:g} s"
    )
    _report(report, stage, lambda: stage.crew.do("start", spread_s=_SPREAD_S))


def report_restart(report: Recorder, stage: Stage) -> None:
    """The server is killed, and starts again at once, empty."""
    report.begin("the server is killed and starts again, empty")
    _report(report, stage, stage.server.restart)


def report_emptied(report: Recorder, stage: Stage) -> None:
    """The server forgets everything, and stays."""
    report.begin("the server is emptied (FLUSHALL)")
    _report(report, stage, lambda: stage.server.cli("flushall"))


def _report(report: Recorder, stage: Stage, happen: Callable[[], object]) -> None:
    with stage.gauge() as gauge:
        happen()
        report.single("until 99 % is announced", "s", stage.wait_until_known(at_most_s=_AT_MOST_S))
    report_usage(report, gauge.usage, bits_per_s=BITS_PER_S)


def report_usage(report: Recorder, usage: Usage, *, bits_per_s: float | None = None) -> None:
    """What the server did meanwhile. ``bits_per_s``: the most that it should have been told, on average."""
    for what, counter in (("requests", _requests), ("bits set or unset", _changes)):
        report.single(f"{what}, peak of a second", "1/s", usage.peak_per_s(counter))
        target = bits_per_s if counter is _changes else None
        report.single(f"{what}, on average", "1/s", usage.total(counter) / usage.seconds, target)
    report.single(
        "the server's processor time, peak of a second", "% of a core", 100 * usage.peak_per_s(_cpu_s)
    )
    report.single("the server's processor time, on average", "% of a core", usage.cpu_percent)
    report.single("the server's memory, peak", "MiB", usage.most(lambda sample: sample.memory_bytes) / _MIB)
    report.single("connections, most", "", usage.most(lambda sample: sample.clients))


def _requests(sample: Sample) -> float:
    return sample.requests


def _changes(sample: Sample) -> float:
    return sample.changes


def _cpu_s(sample: Sample) -> float:
    return sample.cpu_s
