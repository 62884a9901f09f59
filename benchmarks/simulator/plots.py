"""Pictures of runs: small PNG files, and the words that say what is on them to who doesn't see them.

matplotlib draws without a display. One file for each workload: how many nodes have their image after which
time, and beside it what it cost.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.simulator.figures import Figures
from benchmarks.simulator.judging import PRODUCT
from benchmarks.simulator.table import copies, number

_OURS, _OTHERS = "#0b6e4f", "#9aa5b1"
_COLOURS = ("#c1543c", "#c98a1b", "#4a6fa5", "#7d5ba6", "#4d4d4d")
_DPI = 80
_SIZE = (12.5, 4.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A file, and its alternative text."""

    path: Path
    words: str


@dataclass(frozen=True, slots=True)
class _Bars:
    """A panel of bars. ``logarithmic``: values that are orders of magnitude apart."""

    title: str
    value: Callable[[Figures], float]
    logarithmic: bool = False


_PANELS = (
    _Bars("slowest 1 % / median", lambda run: run.p99_of_p50),
    _Bars("registry asked, per\nblob and scope", lambda run: run.fetches_per_scope, logarithmic=True),
    _Bars("bytes across zones,\n× the least", lambda run: run.crossed_copies, logarithmic=True),
    _Bars("USD", lambda run: run.usd, logarithmic=True),
)


def draw(runs: Sequence[Figures], folder: Path) -> Iterator[Picture]:
    """Draw one picture for each workload. Its file is named for the workload."""
    folder.mkdir(parents=True, exist_ok=True)
    for workload, group in itertools.groupby(runs, key=lambda run: run.workload):
        these = [*group]
        path = folder / f"simulator-{workload}.png"
        _draw(these, path)
        yield Picture(path=path, words=words(these))


def words(runs: Sequence[Figures]) -> str:
    """What the picture of one workload shows."""
    first = runs[0]
    each = "; ".join(
        f"{_name(run)}: median {number(run.p50_s)} s, 99th percentile {number(run.p99_s)} s, "
        f"{number(run.fetches_per_scope)} registry fetches per blob and scope, "
        f"{copies(run.crossed_copies)} times the least bytes across zones, {run.usd:,.2f} USD"
        for run in runs
    )
    return (
        f"Simulated, {first.workload}: {first.nodes:,} nodes in {first.zones} zones pull "
        f"{first.size_bytes / 1e6:,.0f} MB. {each}."
    )


def _draw(runs: Sequence[Figures], path: Path) -> None:
    colours = _colours(runs)
    figure, axes = pyplot.subplots(
        1, 1 + len(_PANELS), figsize=_SIZE, width_ratios=(2.6, *(1.0 for _ in _PANELS)), layout="constrained"
    )
    try:
        _draw_curves(axes[0], runs, colours)
        for panel, axis in zip(_PANELS, axes[1:], strict=True):
            _draw_bars(axis, panel, runs, colours)
        first = runs[0]
        figure.suptitle(
            f"{first.workload}: {first.nodes:,} nodes, {first.zones} zones, {first.size_bytes / 1e6:,.0f} MB "
            f"(simulated, seed {first.seed})",
            fontsize=11,
        )
        figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    finally:
        pyplot.close(figure)


def _draw_curves(axis: Axes, runs: Sequence[Figures], colours: Sequence[str]) -> None:
    for run, colour in zip(runs, colours, strict=True):
        shares = [100 * each / (len(run.curve_s) - 1) for each in range(len(run.curve_s))]
        axis.plot(run.curve_s, shares, color=colour, linewidth=2.4 if run.policy == PRODUCT else 1.4)
    axis.set_xscale("log")
    axis.set_xlabel("seconds")
    axis.set_ylabel("nodes that have the image, %")
    axis.grid(alpha=0.25)
    axis.set_ylim(0, 101)


def _draw_bars(axis: Axes, panel: _Bars, runs: Sequence[Figures], colours: Sequence[str]) -> None:
    values = [panel.value(run) for run in runs]
    shown = [value if math.isfinite(value) else 0.0 for value in values]
    places = range(len(runs), 0, -1)
    least = min((value for value in shown if value > 1e-3), default=1.0)
    if panel.logarithmic and max(shown) > 20 * least:
        axis.set_xscale("log")
        axis.set_xlim(left=least / 2)
        shown = [max(value, least / 2) for value in shown]
    axis.barh([*places], shown, color=[*colours])
    for place, value in zip(places, values, strict=True):
        axis.annotate(
            copies(value), (0.03, place), xycoords=("axes fraction", "data"), va="center", fontsize=8
        )
    axis.set_title(panel.title, fontsize=9)
    axis.set_yticks([*places], [_name(run) for run in runs] if panel is _PANELS[0] else [""] * len(runs))
    axis.tick_params(labelsize=8)


def _colours(runs: Sequence[Figures]) -> list[str]:
    others = itertools.cycle(_COLOURS)
    ours = itertools.cycle((_OURS, "#4fb286"))
    return [next(ours) if run.policy == PRODUCT else next(others) for run in runs]


def _name(run: Figures) -> str:
    return run.policy if run.scope == "none" else f"{run.policy}, {run.scope}"
