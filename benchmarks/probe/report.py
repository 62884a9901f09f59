"""The report: figures as they are measured, a table of all of them, JSON."""

import itertools
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from math import nan

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the report: median, quartiles, 95th percentile. ``target``: what the median is at most."""

    section: str
    what: str
    unit: str
    median: float
    lower: float | None = None
    upper: float | None = None
    p95: float | None = None
    target: float | None = None
    count: int = 1

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.median <= self.target


@dataclass(slots=True)
class Report:
    """The figures so far; each is shown at once, as a full run takes minutes."""

    console: Console
    figures: list[Figure] = field(default_factory=list)
    section: str = ""

    def begin(self, section: str) -> None:
        """What is added from now on belongs to this section."""
        self.section = section
        self.console.print(f"{section} …", highlight=False)

    def spread(
        self, what: str, unit: str, values: Sequence[float], target: float | None = None, scale: float = 1.0
    ) -> None:
        """Median, quartiles and 95th percentile of values, multiplied by ``scale``."""
        ordered = sorted(value * scale for value in values)
        self._add(
            Figure(
                section=self.section,
                what=what,
                unit=unit,
                median=statistics.median(ordered) if ordered else nan,
                lower=at(ordered, 0.25),
                upper=at(ordered, 0.75),
                p95=at(ordered, 0.95),
                target=target,
                count=len(ordered),
            )
        )

    def single(self, what: str, unit: str, value: float, target: float | None = None) -> None:
        """One value."""
        self._add(Figure(section=self.section, what=what, unit=unit, median=value, target=target))

    def _add(self, figure: Figure) -> None:
        self.figures.append(figure)
        spread = "" if figure.lower is None else f" ({shown(figure.lower)} to {shown(figure.upper)})"
        self.console.print(
            f"  {figure.what}: {shown(figure.median)}{spread} {figure.unit}", highlight=False, soft_wrap=True
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
        """Every figure."""
        return json.dumps([{**asdict(figure), "met": figure.met} for figure in self.figures], indent=1)


def at(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of sorted values is."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else nan


def shown(value: float | None) -> str:
    """For people: three digits."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _row(figure: Figure) -> Iterable[str]:
    yield figure.what
    yield shown(figure.median)
    yield "" if figure.lower is None else f"{shown(figure.lower)} … {shown(figure.upper)}"
    yield shown(figure.p95)
    yield figure.unit
    yield str(figure.count) if figure.count > 1 else ""
    yield "" if figure.target is None else f"≤ {shown(figure.target)}"
    yield {None: "", True: "[green]met[/green]", False: "[red]missed[/red]"}[figure.met]
