"""Look-ups at a steady rate, while the other agents announce and change."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.index.announcing import report_usage
from benchmarks.index.stage import Stage
from benchmarks.reporting.quantiles import at
from benchmarks.reporting.recorder import Recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """So many look-ups a second in all, ``digests`` contents together, while the other agents change."""

    rate_per_s: float
    seconds: float
    digests: int
    changes_per_s: float
    seed: int


def report_lookups(report: Recorder, stage: Stage, asking: Asking) -> None:
    """How long look-ups take from when they were due, and what they cost the server."""
    report.begin(
        f"{asking.rate_per_s:.0f} look-ups a second, {asking.digests} contents together, "
        f"with {asking.changes_per_s:.0f} changes a second"
    )
    askers, others, _ = stage.crew.workers
    with stage.gauge() as gauge, ThreadPoolExecutor() as threads:
        before = askers.do("state")
        if asking.changes_per_s:
            threads.submit(
                others.do, "change", rate_per_s=asking.changes_per_s, seconds=asking.seconds, seed=2
            )
        answer = askers.do(
            "ask",
            rate_per_s=asking.rate_per_s / asking.digests,
            seconds=asking.seconds,
            digests=asking.digests,
            seed=asking.seed,
        )
        after = askers.do("state")
    looked_up = sum(answer["said"].values())
    report.single("look-ups made", "1/s", looked_up / asking.seconds)
    for source, count in sorted(answer["said"].items()):
        report.share(f"of them answered by the {source}", count, looked_up)
    everything = sorted(each for took_s in answer["took_s"].values() for each in took_s)
    _report_times(report, "all", everything, bounds_ms=(1.0, 5.0))
    for source, took_s in sorted(answer["took_s"].items()):
        _report_times(report, f"those that needed the {source}", sorted(took_s))
    cpu_s = after["cpu_s"] - before["cpu_s"]
    report.single("the askers' processor time", "µs each", cpu_s / looked_up * 1e6)
    report_usage(report, gauge.usage)


def _report_times(
    report: Recorder, what: str, ordered_s: Sequence[float], *, bounds_ms: tuple[float, float] | None = None
) -> None:
    p50_ms, p99_ms = bounds_ms or (None, None)
    report.single(f"from when it was due, {what}: p50", "ms", at(ordered_s, 0.5) * 1000, p50_ms)
    report.single(f"from when it was due, {what}: p99", "ms", at(ordered_s, 0.99) * 1000, p99_ms)
    report.single(f"from when it was due, {what}: p99.9", "ms", at(ordered_s, 0.999) * 1000)
