"""A report's figures as rows: what the tables on the terminal, in the page and in the docs all show. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.reporting.compare import of_repeats, ratios, same_rounds
from benchmarks.reporting.format import Better, Figure, Section, Series
from benchmarks.reporting.histogram import from_text, joined, quantile_s
from benchmarks.reporting.quantiles import in_unit, shown, spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table.

    ``median``: of the repeats. ``low``, ``high``: the quartiles of what was timed, or the smallest and the
    largest repeat. ``p95``, ``p99``: of what was timed within repeats. ``of``: how much was timed or counted.
    ``ratio``: the median of the rounds' ratios, each to the baseline's value of the same round. None also if
    one of both lacks a round that the other has: the medians beside it would be of other rounds.
    """

    what: str
    way: str
    unit: str
    median: float | None
    low: float | None = None
    high: float | None = None
    p95: float | None = None
    p99: float | None = None
    repeats: int = 0
    failed: int = 0
    of: int = 0
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""


def rows(section: Section) -> Iterator[Row]:
    """One row for each way of each figure."""
    for figure in section.figures:
        for series in figure.series:
            yield row(figure, series)


def row(figure: Figure, series: Series) -> Row:
    """The row of one way."""
    return _timed(figure, series) if series.histograms else _valued(figure, series)


def _timed(figure: Figure, series: Series) -> Row:
    whole = joined(from_text(each) for each in series.histograms)
    known = whole.get_total_count() > 0
    median, p95, p99 = (
        in_unit(quantile_s(whole, each), figure.unit) if known else None for each in (0.5, 0.95, 0.99)
    )
    repeats = of_repeats(series, 0.5, figure.unit)
    return Row(
        what=figure.what,
        way=series.way,
        unit=figure.unit,
        median=median,
        low=min(repeats, default=None),
        high=max(repeats, default=None),
        p95=p95,
        p99=p99,
        repeats=len(series.histograms),
        failed=len(series.histograms) - len(repeats),
        of=whole.get_total_count(),
        ratio=_ratio(figure, series),
        target=_target(figure),
        met=_met(figure, p95 if figure.bound else median),
        note=figure.note,
    )


def _valued(figure: Figure, series: Series) -> Row:
    measured, samples = series.measured, series.samples
    found = spread(measured)
    median = samples.median if samples else found and found[1]
    low, high = (
        (samples.lower, samples.upper)
        if samples
        else (min(measured, default=None), max(measured, default=None))
    )
    judged = samples.p95 if samples and figure.bound else median
    return Row(
        what=figure.what,
        way=series.way,
        unit=figure.unit,
        median=median,
        low=low if len(measured) > 1 else None,
        high=high if len(measured) > 1 else None,
        p95=samples.p95 if samples else None,
        repeats=1 if samples else len(series.values),
        failed=len(series.values) - len(measured),
        of=samples.count if samples else figure.of,
        ratio=_ratio(figure, series),
        target=_target(figure),
        met=_met(figure, judged),
        note=figure.note,
    )


def _ratio(figure: Figure, series: Series) -> float | None:
    if not figure.baseline or series.way == figure.baseline or not same_rounds(figure, series.way):
        return None
    found = spread(ratios(figure, series.way))
    return found and found[1]


def _met(figure: Figure, value: float | None) -> bool | None:
    if figure.target is None or value is None:
        return None
    return value >= figure.target if figure.better == Better.HIGHER else value <= figure.target


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    sign = "≥" if figure.better == Better.HIGHER else "≤"
    return f"{sign} {shown(figure.target)}{' p95' if figure.bound else ''}"
