"""Where one way is behind the others, in words. Pure."""

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.reporting.format import Better, Figure, Section, Series
from benchmarks.reporting.histogram import from_text, joined, quantile_s
from benchmarks.reporting.quantiles import in_unit, shown

WORTH_SAYING = 0.05
"""Smaller differences are no loss: two runs of the same thing differ as much."""


def losses(section: Section, ours: Sequence[str], theirs: Sequence[str]) -> Iterator[str]:
    """What the best of our ways is worse at than the best of the others, figure by figure."""
    for figure in section.figures:
        words = loss(figure, ours, theirs)
        if words:
            yield words


def middle(figure: Figure, way: str) -> float | None:
    """The median of a way's repeats, or of all that its histograms hold. None: it has none."""
    series = figure.way(way)
    if series is None:
        return None
    if series.histograms:
        return _middle_of_histograms(series, figure.unit)
    return statistics.median(series.measured) if series.measured else None


def _middle_of_histograms(series: Series, unit: str) -> float | None:
    whole = joined(from_text(each) for each in series.histograms)
    return in_unit(quantile_s(whole, 0.5), unit) if whole.get_total_count() else None


def loss(figure: Figure, ours: Sequence[str], theirs: Sequence[str]) -> str:
    """What the best of our ways is worse at than the best of the others. Empty: nothing worth saying."""
    if figure.better == Better.NEITHER:
        return ""
    best = min if figure.better == Better.LOWER else max
    mine, others = _known(figure, ours), _known(figure, theirs)
    if not mine or not others:
        return ""
    my_value, my_way = best(mine)
    their_value, their_way = best(others)
    is_worse = my_value > their_value if figure.better == Better.LOWER else my_value < their_value
    if not is_worse or abs(my_value - their_value) <= WORTH_SAYING * max(abs(my_value), abs(their_value)):
        return ""
    unit = f" {figure.unit}" if figure.unit else ""
    return f"{figure.what}: {my_way} {shown(my_value)}{unit}, {their_way} {shown(their_value)}{unit}"


def _known(figure: Figure, ways: Sequence[str]) -> list[tuple[float, str]]:
    return [(value, way) for way in ways if (value := middle(figure, way)) is not None]
