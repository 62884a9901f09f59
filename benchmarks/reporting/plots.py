"""Pictures of a report's sections: as SVG that takes its colours from the page, and as PNG. Needs matplotlib.

Only `page` imports this, and does without it where matplotlib is not installed. A way has its colour, its
marker and its line in all pictures of a section, so that nobody needs the colours to tell them apart.
"""

import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from hdrh.histogram import HdrHistogram
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter
from PIL import Image

from benchmarks.reporting.format import Figure, Report, Section, Series
from benchmarks.reporting.histogram import from_text, joined, quantile_s
from benchmarks.reporting.quantiles import in_unit, shown
from benchmarks.reporting.rows import row

COLOURS = ("#0b6e4f", "#b4432b", "#3a6ea5", "#8a5a00", "#7d4fa8", "#56606b")
"""Of ways, on white. The page has its own for a dark background, in the same order."""

_INK, _GRID = "#22282f", "#d5dae0"
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES: Any = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
_WIDTH_IN, _DPI = 8.6, 110
_SHARES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
_POINT_LEAST = 3  # values that a point of a curve stands for
_PALETTE = 64
_LEGEND_LETTERS = 116  # so many fit into the width, with the marks
_LOG_FROM = 12.0  # values that are further apart get a logarithmic axis
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "shorthaul",
    "text.parse_math": False,  # names of images and ways are text, whatever is in them
    "font.size": 9,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A picture. ``name``: of its file. ``words``: what it shows, in words. ``svg``: an element."""

    name: str
    title: str
    words: str
    svg: str
    png: bytes


def plots(report: Report) -> dict[str, list[Plot]]:
    """The pictures of each section, by its name. Sections without ways have none."""
    with mpl.rc_context(_STYLE):
        return {section.name: [*_section_plots(section, _ways(section))] for section in report.sections}


def _ways(section: Section) -> dict[str, int]:
    """A number for each way: this project's first, then the others as they come."""
    names = dict.fromkeys(series.way for figure in section.figures for series in figure.series if series.way)
    ordered = sorted(names, key=lambda name: not name.startswith("shorthaul"))
    return {name: number for number, name in enumerate(ordered)}


def _section_plots(section: Section, ways: Mapping[str, int]) -> Iterator[Plot]:
    timed = [figure for figure in section.figures if any(series.histograms for series in figure.series)]
    for unit, figures in _by_unit([figure for figure in timed if _has_curve(figure)]):
        yield _picture(section, f"percentiles {unit}", f"percentiles, {unit}", _draw_latencies, figures, ways)
    valued = [each for each in section.figures if len(each.series) > 1 and each not in timed]
    for unit, figures in _by_unit(valued):
        yield _picture(section, unit or "counts", unit or "counts", _draw_values, figures, ways)


def _has_curve(figure: Figure) -> bool:
    """Whether there are values enough for a point: not if the agent died, or the time was over."""
    return any(_count(series) >= _POINT_LEAST for series in figure.series)


def _count(series: Series) -> int:
    return sum(from_text(each).get_total_count() for each in series.histograms)


def _by_unit(figures: Sequence[Figure]) -> Iterator[tuple[str, list[Figure]]]:
    for unit, group in itertools.groupby(sorted(figures, key=lambda each: each.unit), lambda each: each.unit):
        yield unit, [*group]


def _picture(
    section: Section, name: str, title: str, draw: Any, figures: Sequence[Figure], ways: Mapping[str, int]
) -> Plot:
    canvas = Canvas(layout="constrained")
    draw(canvas, figures, ways)
    png = io.BytesIO()
    FigureCanvasAgg(canvas)
    canvas.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
    words = _words(section, figures)
    slug = re.sub(r"[^a-z0-9]+", "-", _spelt(f"{section.name} {name}".lower())).strip("-")
    return Plot(name=slug, title=title, words=words, svg=_svg(canvas, slug, words), png=_small(png))


def _spelt(text: str) -> str:
    """The text with letters for signs that would vanish from a file's name."""
    for sign, letters in {"%": "percent", "×": "times", "µs": "us", "/": " per "}.items():
        text = text.replace(sign, letters)
    return text


def _small(png: io.BytesIO) -> bytes:
    """The picture with a palette: a third of the bytes, and nothing to be seen of it."""
    small = io.BytesIO()
    Image.open(png).convert("RGB").quantize(_PALETTE).save(small, format="png", optimize=True)
    return small.getvalue()


def _svg(canvas: Canvas, slug: str, words: str) -> str:
    text = io.StringIO()
    FigureCanvasSVG(canvas)
    with mpl.rc_context({"svg.hashsalt": slug}):
        canvas.savefig(
            text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    found = text.getvalue()
    found = re.sub(r"<metadata>.*?</metadata>", "", found[found.index("<svg") :], flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        found = found.replace(colour, f"var({variable})")
    found = found.replace("#ffffff", "none").replace("'DejaVu Sans'", "inherit")
    found = re.sub(r">\s+<", "><", found)
    found = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), found)  # and no text
    found = re.sub(r"<!--.*?-->", "", found, flags=re.DOTALL)
    ids = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{slug}-", found)  # several pictures are on one page
    return ids.replace("<svg ", f'<svg role="img" aria-label="{_quoted(words)}" ', 1)


_VARIABLES = {_INK: "--ink", _GRID: "--line"} | {
    colour: f"--way-{number}" for number, colour in enumerate(COLOURS)
}


def _quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def _words(section: Section, figures: Sequence[Figure]) -> str:
    """The medians, as a sentence."""
    found = []
    for figure in figures:
        rows = [row(figure, series) for series in figure.series]
        each = ", ".join(
            f"{one.way or 'median'} {shown(one.median)}" for one in rows if one.median is not None
        )
        found.append(f"{figure.what} ({figure.unit or 'count'}): {each}")
    return f"{section.name}. Medians: {'; '.join(found)}. All numbers are in the table below."


# Latencies by percentile


def _draw_latencies(canvas: Canvas, figures: Sequence[Figure], ways: Mapping[str, int]) -> None:
    columns = min(2, len(figures))
    lines = -(-len(figures) // columns)
    canvas.set_size_inches(_WIDTH_IN, 0.35 + 2.75 * lines)
    axes = canvas.subplots(lines, columns, squeeze=False, sharey=True)
    for axis, figure in itertools.zip_longest(axes.flat, figures):
        if figure is None:
            axis.set_axis_off()
            continue
        for series in figure.series:
            if series.histograms:
                _draw_curve(axis, figure, series, ways.get(series.way, 0))
        _dress_latencies(axis, figure)
    for axis in axes[:, 0]:
        axis.set_ylabel(f"latency, {figures[0].unit}")
    _legend(canvas, figures, ways)


def _draw_curve(axis: Axes, figure: Figure, series: Series, number: int) -> None:
    """How long the slowest share of all requests took at least: thick for all repeats, thin for each."""
    whole = [from_text(each) for each in series.histograms]
    colour = COLOURS[number % len(COLOURS)]
    for each in whole if len(whole) > 1 else ():
        axis.plot(*_curve(each, figure.unit), color=colour, alpha=0.22, linewidth=0.8)
    axis.plot(
        *_curve(joined(whole), figure.unit),
        color=colour,
        linewidth=1.9,
        linestyle=_line(number),
        marker=_MARKERS[number % len(_MARKERS)],
        markerfacecolor=_face(number),
        markersize=4,
    )


def _shares(series: Series) -> list[float]:
    """How far the line of all repeats goes: to the share of which there are at least three values."""
    return [1.0, *(each for each in _SHARES if each * _count(series) >= _POINT_LEAST)]


def _face(number: int) -> str:
    """A seventh way has the first one's colour and marker again, but hollow, and with another line."""
    return COLOURS[number % len(COLOURS)] if number // len(COLOURS) % 2 == 0 else "none"


def _line(number: int) -> Any:
    """See `_face`."""
    return _LINES[(number + number // len(COLOURS)) % len(_LINES)]


def _curve(histogram: HdrHistogram, unit: str) -> tuple[list[float], list[float]]:
    """Points for shares of which there are at least three values."""
    count = histogram.get_total_count()
    shares = [each for each in _SHARES if each * count >= _POINT_LEAST]
    return shares, [in_unit(quantile_s(histogram, 1 - each), unit) for each in shares]


def _dress_latencies(axis: Axes, figure: Figure) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    last = min(share for series in figure.series for share in _shares(series))
    axis.set_xlim(1.15, last * 0.85)
    ticks = {1.0: "0", 0.5: "50", 0.1: "90", 0.01: "99", 0.001: "99.9"}
    axis.set_xticks([each for each in ticks if each >= last], [ticks[each] for each in ticks if each >= last])
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
    axis.minorticks_off()
    axis.set_xlabel("percentile of requests")
    axis.set_title(figure.what, fontsize=9, loc="left")
    axis.grid(alpha=0.7)


# Values of ways


def _draw_values(canvas: Canvas, figures: Sequence[Figure], ways: Mapping[str, int]) -> None:
    lines = sum(len(figure.series) for figure in figures)
    canvas.set_size_inches(_WIDTH_IN, 0.75 + 0.24 * lines + 0.14 * len(figures))
    axis: Axes = canvas.subplots()
    place, labels = 0.0, []
    for figure in figures:
        top = place
        for series in figure.series:
            _draw_repeats(axis, series, place, ways.get(series.way, 0))
            place -= 1.0
        labels.append(((top + place + 1.0) / 2, figure.what))
        place -= 0.6
    _dress_values(axis, figures, labels)
    axis.set_ylim(place + 0.9, 0.7)
    _legend(canvas, figures, ways)


def _draw_repeats(axis: Axes, series: Series, place: float, number: int) -> None:
    """Each repeat as a faint dot, their median as a mark, and a line from the smallest to the largest."""
    values, colour = series.measured, COLOURS[number % len(COLOURS)]
    if not values:
        axis.annotate("failed", (0.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        return
    ordered = sorted(values)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    axis.hlines(place, ordered[0], ordered[-1], color=colour, linewidth=1.4)
    axis.plot(values, [place] * len(values), "|", color=colour, markersize=5)
    marker = _MARKERS[number % len(_MARKERS)]
    axis.plot([middle], [place], marker, color=colour, markerfacecolor=_face(number), markersize=6.5)
    axis.annotate(
        shown(middle),
        (ordered[-1], place),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )


def _dress_values(axis: Axes, figures: Sequence[Figure], labels: Sequence[tuple[float, str]]) -> None:
    values = [value for figure in figures for series in figure.series for value in series.measured]
    if values and min(values) > 0 and max(values) > _LOG_FROM * min(values):
        axis.set_xscale("log")
        axis.set_xlim(min(values) / 1.3, max(values) * 1.9)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
        axis.minorticks_off()
    elif values:
        axis.set_xlim(min(0.0, *values), max(*values, 0.0) * 1.14 or 1.0)
    axis.set_yticks([place for place, _ in labels], [_folded(words) for _, words in labels])
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel(figures[0].unit or "count")
    axis.grid(axis="x", alpha=0.7)


def _folded(words: str, width: int = 34) -> str:
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _legend(canvas: Canvas, figures: Sequence[Figure], ways: Mapping[str, int]) -> None:
    names = dict.fromkeys(series.way for figure in figures for series in figure.series if series.way)
    marks = [
        mpl.lines.Line2D(
            [],
            [],
            color=COLOURS[ways[name] % len(COLOURS)],
            marker=_MARKERS[ways[name] % len(_MARKERS)],
            markerfacecolor=_face(ways[name]),
            linestyle=_line(ways[name]),
            label=name,
        )
        for name in names
    ]
    if marks:
        columns = max(1, min(len(marks), _LEGEND_LETTERS // (7 + max(map(len, names)))))
        canvas.legend(handles=marks, loc="outside upper left", ncols=columns, fontsize=8.5)
