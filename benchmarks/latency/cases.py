"""Rounds of cases: each round has every case once, so that what happens to the machine happens to all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.latency.openloop import Ask, Limits, Outcome, Server, run_open_loop
from benchmarks.latency.schedule import starts
from benchmarks.reporting.histogram import new_histogram
from benchmarks.reporting.quantiles import shown
from benchmarks.reporting.recorder import Recorder

_LATE_SHARE = 0.01
"""If more starts than this are late, the client is what is measured, and the report says so."""

_FAILED_SHARE = 0.01
"""If more requests than this fail, the run has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is asked of whom. ``name``: the way in the report. ``asks``: taken in turn, round and round."""

    name: str
    server: Server
    asks: Sequence[Ask]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is asked. ``rate_per_s``: requests a second; ``seconds``: of one repeat."""

    rate_per_s: float
    seconds: float
    repeats: int
    limits: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class Tally:
    """What the client itself did in all runs, and what went wrong, by case."""

    begun: int = 0
    late: int = 0
    latest_s: float = 0.0
    bytes: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def add(self, case: str, outcome: Outcome) -> None:
        """Count a run."""
        self.begun += outcome.due - outcome.skipped
        self.late += outcome.late
        self.latest_s = max(self.latest_s, outcome.latest_s)
        self.bytes += outcome.bytes
        for problem, number in outcome.failed.items():
            words = f"{case}: {problem}"
            self.failed[words] = self.failed.get(words, 0) + number
        if outcome.gone:
            self.gone.add(case)


def measure_rounds(
    recorder: Recorder,
    cases: Sequence[Case],
    load: Load,
    tally: Tally,
    *,
    warm: bool,
    whole: bool,
    baseline: str = "",
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Ask all cases in rounds, and record a histogram of each repeat.

    A repeat without any answer has an empty one: repeats are compared by their number, so each has its place.
    ``whole``: until the last byte, not the first. ``go_on``: asked before each repeat; False ends it.
    """
    kind = "open" if warm else "new"
    what = "whole blob" if whole else "first byte"
    rate = shown(load.rate_per_s)
    title = f"{what}, {kind} connection, {rate}/s"
    taken = dict.fromkeys((case.name for case in cases), 0)
    for number in range(load.repeats):
        for case in cases:
            if not go_on():
                return
            if case.name in tally.gone:
                recorder.latencies(title, [new_histogram()], way=case.name, baseline=baseline)
                continue
            recorder.step(f"{title}: {case.name}, {number + 1} of {load.repeats}")
            times = starts(load.rate_per_s, load.seconds, seed=number)
            first = taken[case.name]
            taken[case.name] += len(times)
            asks = [case.asks[(first + each) % len(case.asks)] for each in range(len(times))]
            outcome = run_open_loop(case.server, asks, times, warm=warm, limits=load.limits)
            tally.add(case.name, outcome)
            histogram = outcome.whole if whole else outcome.first
            recorder.latencies(title, [histogram], way=case.name, baseline=baseline)


def tell(recorder: Recorder, tally: Tally) -> None:
    """Say what the client itself did, and what failed."""
    in_time = tally.begun - tally.late
    recorder.share("requests that the client began within 1 ms of their time", in_time, tally.begun)
    if tally.begun and tally.late / tally.begun > _LATE_SHARE:
        recorder.verdict(
            f"The client itself was the bottleneck: {tally.late / tally.begun:.1%} of its requests began "
            f"more than 1 ms late, the latest by {tally.latest_s * 1000:.0f} ms. That is part of the figures."
        )
    few = sum(tally.failed.values()) <= _FAILED_SHARE * tally.begun
    for problem, number in tally.failed.items():
        words = f"{number} of {tally.begun:,} requests failed, {problem}"
        if few:
            recorder.verdict(words)
        else:
            recorder.problem(words)
    for case in sorted(tally.gone):
        recorder.problem(f"{case}: nothing answered 20 times in a row, so the rest of it was left out")
