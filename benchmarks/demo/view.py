"""What the demo shows of its pulls: one row a node, in any width of terminal. Pure.

The columns with MB and seconds are always there. A narrow terminal gets short headings and colours instead
of words, and a very narrow one a summary instead of a column for each blob.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from agent.cli.formats import count

WIDE = 160
"""Columns of the full table, with words."""

_BOXED, _DENSE = 100, 78  # columns that the table with lines, and that without them, need
_COLOURS = {"registry": "red", "rack": "green", "zone": "green", "region": "yellow", "remote": "magenta"}
_SUMMARY = "from"
_SHORT = {"manifest": "mf", "config": "cf"}
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """Where a node got a blob from. ``tier``: "registry" for the registry."""

    name: str
    tier: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving:
    """A blob of which a node has a part, and from whom the rest comes. ``percent``: how much is there."""

    name: str
    tier: str
    percent: int


@dataclass(slots=True)
class Row:
    """What is known about one node's pull so far. ``sources``, ``arriving``: by digest."""

    node: str
    zone: str
    state: str = "waiting"
    seconds: float | None = None
    sources: dict[str, Source] = field(default_factory=dict)
    arriving: dict[str, Arriving] = field(default_factory=dict)


def pulls_view(note: str, rows: Sequence[Row], columns: Mapping[str, str], *, width: int) -> Group:
    """The table of all pulls. ``columns``: the heading of each digest. ``width``: of the terminal."""
    table = Table(
        title=note,
        title_justify="left",
        title_style="bold",
        expand=False,
        box=box.HEAVY_HEAD if width >= _BOXED else None,
        pad_edge=width >= _BOXED,
    )
    for heading in ("node", "zone", *_headings(columns, width)):
        table.add_column(heading, no_wrap=heading != _SUMMARY)
    table.add_column("MB", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    for row in rows:
        size_bytes = sum(source.size_bytes for source in row.sources.values())
        took = "" if row.seconds is None else f"{row.seconds:.2f}"
        table.add_row(row.node, row.zone, *_cells(row, columns, width), f"{size_bytes / _MB:.0f}", took)
    legend = Text("source:  ")
    for tier in ("registry", "zone", "region", "remote"):
        legend.append(f"{tier}  ", style=_COLOURS[tier])
    return Group(table, legend)


def bytes_line(what: str, size_bytes: int, bound_bytes: int, why: str, *, good: bool) -> Text:
    """A sum of bytes against its lower bound."""
    line = Text("✓" if good else "✗", style="green" if good else "red")
    told = f" {what:<17} {size_bytes / _MB:7.1f} MB, bound {bound_bytes / _MB:7.1f} MB ({why})"
    return Text.assemble(line, told)


def _headings(columns: Mapping[str, str], width: int) -> list[str]:
    if width >= WIDE:
        return [*columns.values()]
    if width < _DENSE:
        return [_SUMMARY]
    return [_SHORT.get(heading, heading.replace("layer ", "L")) for heading in columns.values()]


def _cells(row: Row, columns: Mapping[str, str], width: int) -> list[Text]:
    if width < _DENSE:
        return [_summary(row)]
    return [_cell(row.sources.get(digest), row.arriving.get(digest), row.state, width) for digest in columns]


def _cell(source: Source | None, arriving: Arriving | None, state: str, width: int) -> Text:
    if source is None and arriving is not None:
        name = f"{arriving.name[:3]} " if width >= WIDE else ""
        return Text(f"{name}{min(arriving.percent, 99)}%", style=_COLOURS.get(arriving.tier, ""))
    if source is None:
        return Text("…" if state == "pulling" else "")
    words = [source.name if width >= WIDE else source.name[:3]]
    if width >= WIDE and source.tier != "registry":
        words.append(source.tier)
    return Text(" ".join(words), style=_COLOURS.get(source.tier, ""))


def _summary(row: Row) -> Text:
    """How many blobs came from where, most first."""
    counted = Counter((source.name[:8], source.tier) for source in row.sources.values())
    parts = [
        Text(f"{count(number, 'blob')} {name}", style=_COLOURS.get(tier, ""))
        for (name, tier), number in counted.most_common(2)
    ]
    return Text(", ").join(parts) if parts else Text("…" if row.state == "pulling" else "")
