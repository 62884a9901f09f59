"""The report: prints figures as they are measured, then a table of all figures, or JSON."""

import itertools
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the report.

    ``target``: the largest value that the median should have, or the smallest with ``at_least``. ``bound``:
    the target is for nearly all values, so the 95th percentile must meet it.
    """

    section: str
    what: str
    unit: str
    median: float
    lower: float | None = None  # quartiles
    upper: float | None = None
    p95: float | None = None
    target: float | None = None
    at_least: bool = False
    bound: bool = False
    count: int = 1

    @property
    def met(self) -> bool | None:
        """Whether the value meets the target. None without a target."""
        if self.target is None:
            return None
        value = self.p95 if self.bound and self.p95 is not None else self.median
        return value >= self.target if self.at_least else value <= self.target


@dataclass(slots=True)
class Report:
    """The figures so far. Each is printed at once, because a full run takes minutes."""

    console: Console
    figures: list[Figure] = field(default_factory=list)
    section: str = ""

    def begin(self, section: str) -> None:
        """Start a section. The figures that follow belong to it."""
        self.section = section
        self.console.print(f"{section} …", highlight=False)

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
    ) -> None:
        """Add the median, quartiles and 95th percentile of values, multiplied by ``scale``."""
        if not values:
            return
        ordered = sorted(value * scale for value in values)
        self._add(
            Figure(
                section=self.section,
                what=what,
                unit=unit,
                median=statistics.median(ordered),
                lower=at(ordered, 0.25),
                upper=at(ordered, 0.75),
                p95=at(ordered, 0.95),
                target=target,
                at_least=at_least,
                bound=bound,
                count=len(ordered),
            )
        )

    def single(self, what: str, unit: str, value: float, target: float | None = None) -> None:
        """Add one value."""
        self._add(Figure(section=self.section, what=what, unit=unit, median=value, target=target))

    def share(self, what: str, count: int, of: int, target: float | None = None) -> None:
        """Add ``count`` of ``of`` in per cent. A target is the smallest share that is good."""
        percent = 100 * count / of if of else math.nan
        self._add(
            Figure(
                section=self.section,
                what=what,
                unit="%",
                median=percent,
                target=target,
                at_least=True,
                count=of,
            )
        )

    def _add(self, figure: Figure) -> None:
        self.figures.append(figure)
        p95 = "" if figure.p95 is None else f" / {_shown(figure.p95)}"
        self.console.print(
            f"  {figure.what}: {_shown(figure.median)}{p95} {figure.unit}", highlight=False, soft_wrap=True
        )

    def table(self) -> Table:
        """All figures, section by section."""
        table = Table(title="measured on this machine just now")
        table.add_column("what")
        for name in ("median", "quartiles", "p95", "unit", "of", "target", ""):
            table.add_column(name, justify="right")
        for section, figures in itertools.groupby(self.figures, key=lambda figure: figure.section):
            table.add_section()
            table.add_row(f"[bold]{section}[/bold]")
            for figure in figures:
                table.add_row(*_row(figure))
        return table

    def as_json(self) -> str:
        """All figures as JSON."""
        return json.dumps([{**asdict(figure), "met": figure.met} for figure in self.figures], indent=1)


def at(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of the sorted values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else math.nan


def _row(figure: Figure) -> Iterable[str]:
    yield figure.what
    yield _shown(figure.median)
    yield "" if figure.lower is None else f"{_shown(figure.lower)} … {_shown(figure.upper)}"
    yield _shown(figure.p95)
    yield figure.unit
    yield str(figure.count) if figure.count > 1 else ""
    yield _target(figure)
    yield {None: "", True: "[green]met[/green]", False: "[red]missed[/red]"}[figure.met]


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    sign, which = "≥" if figure.at_least else "≤", " p95" if figure.bound else ""
    return f"{sign} {_shown(figure.target)}{which}"


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
