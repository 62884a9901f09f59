"""Reports and comparisons as tables for a terminal."""

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.reporting import rows as figures
from benchmarks.reporting.compare import Comparison, Row, Verdict
from benchmarks.reporting.format import Section
from benchmarks.reporting.noise import ENOUGH
from benchmarks.reporting.quantiles import shown

_MET = {None: "", True: "[green]met[/green]", False: "[red]missed[/red]"}
_COLOURS = {Verdict.BETTER: "green", Verdict.WORSE: "red", Verdict.CHANGED: "yellow"}


def figures_table(sections: Iterable[Section], title: str = "measured on this machine just now") -> Table:
    """All figures, section by section."""
    table = Table(title=title)
    table.add_column("what")
    for name in ("median", "from … to", "p95", "p99", "unit", "repeats", "of", "ratio", "target", ""):
        table.add_column(name, justify="right")
    for section in sections:
        table.add_section()
        table.add_row(f"[bold]{escape(section.name)}[/bold]")
        for row in figures.rows(section):
            table.add_row(*_cells(row))
    return table


def _cells(row: figures.Row) -> Iterator[str]:
    yield escape(f"{row.what}, {row.way}" if row.way else row.what)
    yield shown(row.median)
    yield "" if row.low is None or row.high is None else f"{shown(row.low)} … {shown(row.high)}"
    yield shown(row.p95)
    yield shown(row.p99)
    yield escape(row.unit)
    yield (
        f"{row.repeats}" + (f", {row.failed} failed" if row.failed else "")
        if row.repeats > 1 or row.failed
        else ""
    )
    yield f"{row.of:,}" if row.of > 1 else ""
    yield "" if row.ratio is None else f"{shown(row.ratio)} ×"
    yield row.target
    yield _MET[row.met]


def print_comparison(console: Console, found: Comparison, name: str) -> None:
    """Print what changed, with its spread, and how much is noise. ``name``: of the older report."""
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    console.print(_comparison_table(found, name))
    for line in summary(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def summary(found: Comparison) -> Iterator[str]:
    """The comparison in a few sentences."""
    large = found.only(Verdict.BETTER, Verdict.WORSE, Verdict.CHANGED)
    counts = [
        (len(found.only(each)), each.value) for each in (Verdict.BETTER, Verdict.WORSE, Verdict.CHANGED)
    ]
    said = ", ".join(f"{count} {word}" for count, word in counts if count)
    yield (
        f"{len(large)} of {len(found.rows)} figures changed by more than noise"
        + (f": {said}." if said else ".")
    )
    perhaps, few = len(found.only(Verdict.PERHAPS)), len(found.only(Verdict.UNKNOWN))
    if perhaps:
        yield f"{perhaps} look like a change (“perhaps”), which one of a hundred figures does by chance."
    if few:
        yield (
            f"Of {few} nothing can be told: there are fewer than {ENOUGH} repeats on one side, or many "
            "samples of one go, which don't show how much runs differ."
        )
    yield (
        f"A change counts if it exceeds {100 * found.floor:.0f} %, and if chance would bring it about "
        "so rarely that of twenty comparisons of a thing with itself one at most names a figure."
    )


def _comparison_table(found: Comparison, name: str) -> Table:
    table = Table(title=escape(f"changes since {name}"))
    table.add_column("what")
    for head in ("then", "now", "unit", "change", "between", "larger than noise"):
        table.add_column(head, justify="right")
    section = None
    for row in found.rows:
        if row.section != section:
            section = row.section
            table.add_section()
            table.add_row(f"[bold]{escape(section)}[/bold]")
        table.add_row(*_change_cells(row))
    return table


def _change_cells(row: Row) -> Iterator[str]:
    change = row.change
    yield escape(row.what)
    yield shown(change.old)
    yield shown(change.new)
    yield escape(row.unit)
    yield percent(change.ratio)
    yield between(row)
    colour = _COLOURS.get(row.verdict)
    words = {
        Verdict.NOISE: "no",
        Verdict.UNKNOWN: row.verdict.value,
        Verdict.PERHAPS: row.verdict.value,
    }.get(row.verdict, f"yes: {row.verdict.value}")
    yield f"[{colour}]{words}[/{colour}]" if colour else words


def between(row: Row) -> str:
    """The interval of a change in words."""
    if row.change.exact:
        return "counted"
    if row.change.low is None or row.change.high is None:
        return ""
    return f"{percent(row.change.low)} … {percent(row.change.high)}"


def percent(share: float) -> str:
    """A change in per cent, with its sign."""
    if share in (float("inf"), float("-inf")):
        return "from 0"
    return f"{100 * share:+.1f} %" if abs(share) < 1 else f"× {1 + share:.2f}"
