"""The recorder: takes figures as they are measured, prints each at once, and keeps them for the report.

A run that is interrupted still has what it measured: nothing waits for the end.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hdrh.histogram import HdrHistogram
from rich.console import Console

from benchmarks.reporting.format import Better, Figure, Samples, Section, Series
from benchmarks.reporting.histogram import joined, quantile_s, to_text
from benchmarks.reporting.quantiles import HIGHER_UNITS, LOWER_UNITS, at, blocks, in_unit, shown, spread

_BLOCKS = 10


@dataclass(slots=True)
class _Draft:
    """A section that is being measured."""

    name: str
    question: str = ""
    method: str = ""
    figures: dict[str, Figure] = field(default_factory=dict)
    verdicts: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Recorder:
    """The figures so far.

    ``console``: where they are printed as they come. ``step``: told what begins, for a progress bar.
    """

    def __init__(
        self,
        console: Console,
        *,
        step: Callable[[str, float | None], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console
        self.problems: list[str] = []
        self._step = step
        self._clock = clock
        self._drafts: dict[str, _Draft] = {}
        self._draft = _Draft(name="")
        self._entered_s = clock()

    def begin(self, section: str, *, question: str = "", method: str = "") -> None:
        """Start a section, or go on with it. The figures that follow belong to it.

        ``question``: what it answers, for who does not know the code. ``method``: how, in two sentences.
        """
        self._leave()
        self._draft = self._drafts.setdefault(section, _Draft(name=section))
        self._draft.question = question or self._draft.question
        self._draft.method = method or self._draft.method
        self.console.print(f"{section} …", highlight=False, markup=False)
        self._step(section, None)

    def step(self, doing: str, share: float | None = None) -> None:
        """Say what is being measured now, where that takes long. ``share``: of all, 0 to 1."""
        self._step(doing, share)

    def spread(
        self,
        what: str,
        unit: str,
        values: Sequence[float],
        target: float | None = None,
        scale: float = 1.0,
        *,
        bound: bool = False,
        at_least: bool = False,
        better: Better | None = None,
    ) -> None:
        """Add what was timed many times in one go, in the order of time, multiplied by ``scale``.

        Neighbours in time are alike, so blocks of them are what is compared with another run.
        """
        if not values:
            return
        scaled = [value * scale for value in values]
        quartiles, ordered = spread(scaled), sorted(scaled)
        assert quartiles is not None
        lower, median, upper = quartiles
        samples = Samples(count=len(scaled), lower=lower, median=median, upper=upper, p95=at(ordered, 0.95))
        middles = tuple(_median(block) for block in blocks(scaled, _BLOCKS))
        self._put(
            Figure(
                what=self._unused(what),
                unit=unit,
                better=_better(better, unit, at_least, target),
                series=(Series(values=middles, samples=samples),),
                target=target,
                bound=bound,
            )
        )
        self._print(f"{what}: {shown(median)} / {shown(samples.p95)} {unit}")

    def single(
        self,
        what: str,
        unit: str,
        value: float,
        target: float | None = None,
        *,
        at_least: bool = False,
        better: Better | None = None,
        note: str = "",
    ) -> None:
        """Add one value, of which there are no repeats."""
        self._put(
            Figure(
                what=self._unused(what),
                unit=unit,
                better=_better(better, unit, at_least, target),
                series=(Series(values=(_finite(value),)),),
                target=target,
                note=note,
            )
        )
        self._print(f"{what}: {shown(value)} {unit}")

    def share(self, what: str, count: int, of: int, target: float | None = None) -> None:
        """Add ``count`` of ``of`` in per cent. A target is the smallest share that is good."""
        percent = 100 * count / of if of else math.nan
        series = (Series(values=(_finite(percent),)),)
        self._put(
            Figure(
                what=self._unused(what), unit="%", better=Better.HIGHER, series=series, target=target, of=of
            )
        )
        self._print(f"{what}: {shown(percent)} % of {of}")

    def value(
        self,
        what: str,
        unit: str,
        value: float | None,
        *,
        way: str = "",
        baseline: str = "",
        better: Better | None = None,
        target: float | None = None,
        note: str = "",
    ) -> None:
        """Add one repeat of a figure. None: the repeat failed.

        Ways that are measured in turn are compared round by round, so give each round's values in order, also
        those that failed. ``baseline``: the way that the others are divided by.
        """
        before = self._draft.figures.get(what)
        figure = before or Figure(
            what=what,
            unit=unit,
            better=_better(better, unit, False, target),
            series=(),
            target=target,
            baseline=baseline,
            note=note,
        )
        series = figure.way(way) or Series(way=way)
        self._put(_with(figure, replace(series, values=(*series.values, _finite(value)))))
        name = f"{what}, {way}" if way else what
        self._print(f"{name}: {'failed' if value is None else f'{shown(value)} {unit}'}")

    def ways(
        self,
        what: str,
        unit: str,
        values: Mapping[str, Sequence[float | None]],
        *,
        baseline: str = "",
        better: Better | None = None,
        note: str = "",
    ) -> None:
        """Add all repeats of several ways, each in the order of the rounds. See `value`."""
        for way, repeats in values.items():
            for each in repeats:
                self.value(what, unit, each, way=way, baseline=baseline, better=better, note=note)

    def latencies(
        self,
        what: str,
        histograms: Iterable[HdrHistogram],
        *,
        unit: str = "ms",
        way: str = "",
        baseline: str = "",
        target: float | None = None,
        bound: bool = False,
        note: str = "",
    ) -> None:
        """Add latencies: one histogram for each repeat. ``target``, ``bound``: as in `Figure`."""
        repeats = [*histograms]
        before = self._draft.figures.get(what)
        figure = before or Figure(
            what=what,
            unit=unit,
            better=Better.LOWER,
            series=(),
            target=target,
            bound=bound,
            baseline=baseline,
            note=note,
        )
        series = figure.way(way) or Series(way=way)
        texts = (*series.histograms, *(to_text(each) for each in repeats))
        self._put(_with(figure, replace(series, histograms=texts)))
        whole = joined(repeats)
        name = f"{what}, {way}" if way else what
        if not whole.get_total_count():
            self._print(f"{name}: failed")
            return
        told = " / ".join(shown(in_unit(quantile_s(whole, each), unit)) for each in (0.5, 0.99))
        self._print(f"{name}: p50 / p99 {told} {unit} of {whole.get_total_count():,}")

    def verdict(self, words: str) -> None:
        """Say what the section's figures mean."""
        self._draft.verdicts.append(words)
        self._print(words)

    def loss(self, words: str) -> None:
        """Say where this project is behind."""
        self._draft.losses.append(words)
        self._print(words)

    def problem(self, words: str) -> None:
        """Say what went wrong. The run ends with 1 then, and its report with what was measured."""
        self.problems.append(words)
        self._print(f"PROBLEM: {words}")

    def add(self, sections: Iterable[Section]) -> None:
        """Take whole sections over, as another run measured them."""
        for each in sections:
            self._drafts[each.name] = _Draft(
                name=each.name,
                question=each.question,
                method=each.method,
                figures={figure.what: figure for figure in each.figures},
                verdicts=[*each.verdicts],
                losses=[*each.losses],
                seconds=each.seconds,
            )

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections so far, in the order in which they began."""
        self._leave()
        return tuple(
            Section(
                name=draft.name,
                question=draft.question,
                method=draft.method,
                figures=tuple(draft.figures.values()),
                verdicts=tuple(draft.verdicts),
                losses=tuple(draft.losses),
                seconds=round(draft.seconds, 1),
            )
            for draft in self._drafts.values()
        )

    def _leave(self) -> None:
        now_s = self._clock()
        self._draft.seconds += now_s - self._entered_s
        self._entered_s = now_s

    def _put(self, figure: Figure) -> None:
        """Add a figure, or put it in the place of the one of its name."""
        self._drafts.setdefault(self._draft.name, self._draft)
        self._draft.figures[figure.what] = figure

    def _unused(self, what: str) -> str:
        """The name, or if the section has it already, the name with a number: nothing is overwritten."""
        names = itertools.chain((what,), (f"{what} ({number})" for number in itertools.count(2)))
        return next(name for name in names if name not in self._draft.figures)

    def _print(self, line: str) -> None:
        self.console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)


def _with(figure: Figure, series: Series) -> Figure:
    """The figure with this series in place of the one of that way, or behind the others."""
    others = [series if each.way == series.way else each for each in figure.series]
    return replace(figure, series=(*others, *(() if figure.way(series.way) else (series,))))


def _better(given: Better | None, unit: str, at_least: bool, target: float | None) -> Better:
    if given is not None:
        return given
    if at_least or unit in HIGHER_UNITS:
        return Better.HIGHER
    return Better.LOWER if target is not None or unit in LOWER_UNITS else Better.NEITHER


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _median(values: Sequence[float]) -> float:
    found = spread(values)
    assert found is not None
    return found[1]
