"""Asks by each way in turn, and tells the report what it costs and what the probe says of it."""

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram

from agent.flows.verdicts import Verdict
from benchmarks.lab.conntrack import Translation
from benchmarks.lab.process import LabError
from benchmarks.path.client import Told
from benchmarks.path.stage import Stage, find_tools
from benchmarks.path.ways import BASE, CELLS, Cell, Path, Rules, order
from benchmarks.reporting.format import Better, Figure
from benchmarks.reporting.histogram import from_text, new_histogram
from benchmarks.reporting.losses import losses
from benchmarks.reporting.quantiles import shown
from benchmarks.reporting.recorder import Recorder

SECTION = "path"
_CONNECT = "connect()"
_FRESH = "64 KiB, new connection"
_KEPT = "64 KiB, open connection"
_CPU = "CPU for 1,000 connections"
_LATE = "the client itself began late"
_PROVED = "the verdict is the true one"
_LATE_MOST = 5.0


@dataclass(slots=True)
class Judged:
    """What is known of the connections of one way. ``said``: by the probe. ``truth``: one, by conntrack."""

    connections: int = 0
    said: Counter[Verdict] = field(default_factory=Counter)
    truth: Translation | None = None


class Measurement:
    """All rounds. ``with_probe``: whether a probe runs, and so whether there are verdicts."""

    def __init__(
        self, report: Recorder, stage: Stage, *, with_probe: bool, rate: float, seconds: float
    ) -> None:
        self._report = report
        self._stage = stage
        self._with_probe = with_probe
        self._rate = rate
        self._seconds = seconds
        self._judged: dict[Cell, Judged] = defaultdict(Judged)

    def run(self, rounds: int) -> None:
        """Measure each cell that this machine can have, in so many rounds."""
        cells = self._possible()
        for number in range(rounds):
            for cell in order(cells, number):
                self._report.step(f"round {number + 1} of {rounds}: {cell.name}")
                try:
                    with self._stage.standing(cell):
                        self._take(cell)
                except (LabError, OSError) as error:
                    self._report.problem(f"{cell.name}, round {number + 1}: {error}")
                    self._failed(cell)
                self._mend(cell)
        self._judge()

    def _possible(self) -> tuple[Cell, ...]:
        tools = find_tools()
        lacking = {cell: why for cell in CELLS if (why := tools.lacking(cell))}
        for cell, why in lacking.items():
            self._report.problem(f"{cell.name}: left out, because {why}")
        return tuple(cell for cell in CELLS if cell not in lacking)

    def _take(self, cell: Cell) -> None:
        before = self._stage.verdicts(cell) if self._with_probe else Counter[Verdict]()
        spent_s = self._stage.spent_s()
        fresh = self._stage.offer(cell, rate=self._rate, seconds=self._seconds, fresh=True)
        spent_s = self._stage.spent_s() - spent_s
        if self._with_probe:
            judged = self._judged[cell]
            judged.connections += fresh.connections
            judged.said += self._stage.verdicts_since(before, cell, fresh.connections)
            judged.truth = self._stage.translated(cell)
        kept = self._stage.offer(cell, rate=self._rate, seconds=self._seconds / 2, fresh=False)
        self._latency(_CONNECT, cell, from_text(fresh.connecting))
        self._latency(_FRESH, cell, from_text(fresh.whole))
        self._latency(_KEPT, cell, from_text(kept.whole))
        self._value(_CPU, "CPU-s", cell, _per_thousand(spent_s, fresh.connections))
        self._late(cell, 100 * fresh.late / max(1, fresh.answered))
        for words in failures(cell, fresh, kept):
            self._report.problem(words)

    def _failed(self, cell: Cell) -> None:
        """Rounds are compared by their number, so one that failed has its place."""
        for what in (_CONNECT, _FRESH, _KEPT):
            self._latency(what, cell, new_histogram())
        self._value(_CPU, "CPU-s", cell, None)
        self._late(cell, None)

    def _mend(self, cell: Cell) -> None:
        ended = self._stage.ended()
        if ended:
            self._report.problem(
                f"{cell.name}: the agent {' and '.join(ended)} ended meanwhile. It is started again"
            )
            self._stage.mend()

    def _latency(self, what: str, cell: Cell, histogram: HdrHistogram) -> None:
        self._report.latencies(what, [histogram], unit="µs", way=cell.name, baseline=BASE.name)

    def _late(self, cell: Cell, percent: float | None) -> None:
        """How busy the machine was: this is nothing that a way costs."""
        self._report.value(_LATE, "%", percent, way=cell.name, better=Better.NEITHER)

    def _value(self, what: str, unit: str, cell: Cell, value: float | None) -> None:
        self._report.value(what, unit, value, way=cell.name, baseline=BASE.name, better=Better.LOWER)

    def _judge(self) -> None:
        for cell, judged in self._judged.items():
            self._report.verdict(in_words(cell, judged))
            true = min(judged.said[cell.path.verdict], judged.connections)
            if judged.connections:
                self._report.value(
                    _PROVED, "%", 100 * true / judged.connections, way=cell.name, better=Better.HIGHER
                )
            if true < judged.connections:
                self._report.loss(
                    f"{cell.name}: {judged.connections - true} of {judged.connections} connections did not "
                    f"get the verdict {cell.path.verdict.value}"
                )
        section = next((each for each in self._report.sections if each.name == SECTION), None)
        if section is None:
            return
        if words := too_busy(section.figure(_LATE)):
            self._report.verdict(words)
        for rules in (Rules.IPTABLES, Rules.NFTABLES):
            ours = Cell(path=Path.DIRECT, rules=rules).name
            theirs = [cell.name for cell in CELLS if cell.rules is rules and cell.path is not Path.DIRECT]
            for words in losses(section, [ours], theirs):
                self._report.loss(words)
        for words in losses(section, [Cell(path=Path.DIRECT, rules=Rules.IPTABLES).name], [BASE.name]):
            self._report.loss(f"the rules of kube-proxy in iptables mode cost the HostPort too: {words}")


def _per_thousand(spent_s: float, connections: int) -> float | None:
    return 1000 * spent_s / connections if connections else None


def failures(cell: Cell, *told: Told) -> list[str]:
    """Which requests failed, in words."""
    failed = sum((Counter(each.failed) for each in told), Counter[str]())
    total = sum(each.answered for each in told) + failed.total()
    return [f"{cell.name}: {number} of {total} requests failed: {why}" for why, number in failed.items()]


def too_busy(late: Figure | None) -> str:
    """What to distrust, if the client itself often began late. Empty: nothing."""
    values = [value for each in late.series for value in each.measured] if late is not None else []
    percent = statistics.median(values) if values else 0.0
    if percent <= _LATE_MOST:
        return ""
    return (
        f"the machine was busy: the client itself began {shown(percent)} % of its requests late, so trust "
        "connect() and CPU, and not the latencies of 64 KiB"
    )


def in_words(cell: Cell, judged: Judged) -> str:
    """What the probe says of a way's connections, and conntrack of one of them."""
    said = ", ".join(f"{number} {verdict.value}" for verdict, number in judged.said.most_common())
    told = f"the probe says of {judged.connections} connections: {said or 'nothing'}"
    return f"{cell.name}: {told}; {_truth(judged.truth)}"


def _truth(truth: Translation | None) -> str:
    if truth is None:
        return "conntrack does not say"
    asked = f"{truth.original.dst}:{truth.original.dst_port}"
    went = f"{truth.wire[0]}:{truth.wire[1]}"
    return f"conntrack: {asked} was not translated" if asked == went else f"conntrack: {asked} became {went}"
