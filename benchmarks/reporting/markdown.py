"""The parts of README.md and docs/benchmarks.md that come from a report: tables, losses, the machine.

README's tables have ten rows in all; docs/benchmarks.md has every figure. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.reporting import rows
from benchmarks.reporting.compare import YARDSTICK
from benchmarks.reporting.format import Machine, Report, Section
from benchmarks.reporting.losses import loss
from benchmarks.reporting.quantiles import shown

KIND = "bench"
"""The word in the marks of the pages."""

NONE = "–"
"""In place of a figure that the report lacks."""

_HERE = frozenset({"latency", "pull", "path", "node"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One figure of one way. ``tail``: with the p99 of single requests. ``ratio``: and to the baseline."""

    section: str
    what: str
    way: str = ""
    tail: bool = False
    ratio: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of a short table."""

    words: str
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """A short table. ``heads``: of its columns; the first is the words'. ``{unit}``: of the column's figures,
    and in the first head of all figures.
    """

    heads: Sequence[str]
    lines: Sequence[Line] = field(default_factory=tuple)


_FIRST, _WHOLE = "latency: first byte", "latency: whole blob"
_PLACES = ("this node", "same zone", "other zone", "nobody has it: 404", "registry, direct")
_SIZES = ("10 MB in 1 layer", "10 MB in 4 layers", "100 MB in 4 layers")
_WAYS = ("registry", "nginx", "shorthaul", "shorthaul, cluster")
_PATHS = ("HostPort direct", "HostPort by port map", "NodePort", "remote NodePort")
_IDLE, _MOVING = "node: idle", "node: moving bytes"


def _first_byte(kind: str) -> Sequence[Cell]:
    what = f"first byte, {kind} connection, 100/s"
    return [Cell(section=_FIRST, what=what, way=place, tail=True) for place in _PLACES]


def _pull(size: str) -> Line:
    return Line(
        words=size, cells=[Cell(section=f"pull: {size}", what=_LAST, way=way, ratio=True) for way in _WAYS]
    )


def _path(path: str) -> Line:
    cells = [
        Cell(section="path", what=what, way=f"{path}, {rules}", tail=what == _NEW)
        for rules in ("iptables", "nftables")
        for what in (_NEW, _CPU)
    ]
    return Line(words=path, cells=cells)


_NEW = "64 KiB, new connection"
_CPU = "CPU for 1,000 connections"
_LAST = "all at once: until the last node has it"
_AGENTS_CPU = "all at once: CPU of all agents, or of nginx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What README.md's figures are judged by: our way beside the best of the others. Of pulls the way with
    ordinary settings: what another setting gains must not hide what they lose.
    """

    section: str
    what: str
    ours: Sequence[str]
    theirs: Sequence[str]


def _contests() -> Iterator[Contest]:
    for kind in ("open", "new"):
        what = f"first byte, {kind} connection, 100/s"
        for place in _PLACES[:3]:
            yield Contest(section=_FIRST, what=what, ours=[place], theirs=_PLACES[-1:])
    alone = "pull: one node alone, which is the first", "10 MB in 1 layer: the pull"
    sizes = ((f"pull: {size}", what) for size in _SIZES for what in (_LAST, _AGENTS_CPU))
    for section, what in (alone, *sizes):
        theirs = _WAYS[1:2] if what == _AGENTS_CPU else _WAYS[:2]
        yield Contest(section=section, what=what, ours=_WAYS[2:3], theirs=theirs)
    for rules in ("iptables", "nftables"):
        direct, *others = (f"{path}, {rules}" for path in _PATHS)
        for what in (_NEW, _CPU):
            yield Contest(section="path", what=what, ours=[direct], theirs=others)
    yield Contest(section=_MOVING, what="relay: CPU", ours=["splice"], theirs=["nginx, reverse proxy"])


CONTESTS: Sequence[Contest] = tuple(_contests())

SHORT: Mapping[str, Short] = {
    "latency": Short(
        heads=(
            "first byte of 64 KiB, p50 / p99, {unit}",
            "this node",
            "same zone",
            "other zone",
            "404",
            "registry",
        ),
        lines=[
            Line(words="on an open connection", cells=_first_byte("open")),
            Line(words="on a new connection", cells=_first_byte("new")),
        ],
    ),
    "pull": Short(
        heads=("until the last of 6 nodes has it, {unit}", *_WAYS[:3], "shorthaul, scope cluster"),
        lines=[_pull(size) for size in _SIZES],
    ),
    "path": Short(
        heads=(
            "way to an agent, with the rules of kube-proxy",
            "iptables: p50 / p99, {unit}",
            "1,000 connections, {unit}",
            "nftables: p50 / p99, {unit}",
            "1,000 connections, {unit}",
        ),
        lines=[_path(path) for path in _PATHS],
    ),
    "node": Short(
        heads=("an agent", "memory, {unit}", "idle, {unit}", "relay, {unit}", "nginx's relay, {unit}"),
        lines=[
            Line(
                words="of 1,000",
                cells=[
                    Cell(section=_IDLE, what="1,000 nodes: memory of an agent"),
                    Cell(section=_IDLE, what="1,000 nodes: processor", way="nobody asks"),
                    Cell(section=_MOVING, what="relay: CPU", way="splice"),
                    Cell(section=_MOVING, what="relay: CPU", way="nginx, reverse proxy"),
                ],
            )
        ],
    ),
}
"""README.md's tables: ten rows in all."""


def parts(report: Report) -> Mapping[str, str]:
    """All parts: README's short tables, the machine, and a table for each group of sections."""
    found = {name: _short(report, table) for name, table in SHORT.items()}
    found["machine"] = machine_words(report)
    for group in sorted(_HERE):
        sections = [each for each in report.sections if each.name.partition(":")[0] == group]
        found[f"all-{group}"] = "\n\n".join(_section(each) for each in sections) or "This report has none."
    found["behind"] = "\n".join(_behind(report)) or "- Nowhere in these figures."
    found["losses"] = "\n".join(f"- {words}" for words in _losses(report)) or "- None that the figures show."
    return found


def machine_words(report: Report) -> str:
    """What was measured, where and when, in one sentence."""
    machine, product = report.machine, report.product
    memory = f"{machine.memory_mib / 1024:.0f} GiB"
    commit = f" ({product.commit[:10]}{', with changes' if product.dirty else ''})" if product.commit else ""
    kind = f", a {machine.virtual}" if machine.virtual else ""
    words = (
        f"Measured on {report.began[:10]} with shorthaul {product.version}{commit}: {machine.processors} × "
        f"{machine.processor}, {memory}{kind}, Linux {machine.kernel}."
    )
    if busy := busy_words(machine):
        words += f" {busy}."
    return words if report.complete else f"{words} Not all was measured: {'; '.join(report.problems)}."


def busy_words(machine: Machine) -> str:
    """What to distrust, if others were at work when the run began. Empty: the machine was quiet."""
    load = machine.load_before
    if load is None or load <= machine.processors:
        return ""
    return f"The machine was busy when it began: a load of {shown(load)} on {machine.processors} processors"


def _behind(report: Report) -> Iterator[str]:
    """Where README.md's figures show this project behind, one line for each section: no prose can contradict
    the tables then, whatever the next run brings.
    """
    found: dict[str, list[str]] = {}
    for each in CONTESTS:
        section = report.section(each.section)
        figure = None if section is None else section.figure(each.what)
        if figure is not None and (words := loss(figure, each.ours, each.theirs)):
            found.setdefault(each.section, []).append(words)
    yield from (f"- {_escaped(name)}: {_escaped('; '.join(words))}" for name, words in found.items())


def _losses(report: Report) -> Iterator[str]:
    for section in report.sections:
        yield from (f"{section.name}: {words}" for words in section.losses)


def _short(report: Report, table: Short) -> str:
    lines = [[line.words, *(_cell(report, cell) for cell in line.cells)] for line in table.lines]
    columns = [*zip(*(line.cells for line in table.lines), strict=True)]
    units = [_unit(report, [cell for column in columns for cell in column])]
    units += [_unit(report, column) for column in columns]
    heads = [head.replace("{unit}", unit) for head, unit in zip(table.heads, units, strict=True)]
    return _table(heads, lines)


def _unit(report: Report, cells: Sequence[Cell]) -> str:
    """The unit of these figures: of the first that the report has."""
    for cell in cells:
        section = report.section(cell.section)
        figure = None if section is None else section.figure(cell.what)
        if figure is not None:
            return figure.unit
    return NONE


def _cell(report: Report, cell: Cell) -> str:
    section = report.section(cell.section)
    figure = None if section is None else section.figure(cell.what)
    series = None if figure is None else figure.way(cell.way)
    if figure is None or series is None:
        return NONE
    row = rows.row(figure, series)
    if row.median is None:
        return NONE
    if cell.tail and row.p99 is not None:
        return f"{shown(row.median)} / {shown(row.p99)}"
    ratio = f" ({shown(row.ratio)} ×)" if cell.ratio and row.ratio is not None else ""
    return f"{shown(row.median)}{ratio}"


def _section(section: Section) -> str:
    """Everything of a section."""
    if section.name == YARDSTICK:
        return ""
    head = f"### {_escaped(section.name)}"
    words = [head, f"{section.question} {section.method}".strip()]
    words.append("\n".join(f"- {_escaped(each)}" for each in section.verdicts))
    words.append(_table(_HEADS, [[*_full(row)] for row in rows.rows(section)]))
    return "\n\n".join(filter(None, words))


_HEADS = ("what", "way", "median", "from … to", "p95", "p99", "unit", "ratio", "repeats")


def _full(row: rows.Row) -> Iterator[str]:
    yield row.what
    yield row.way
    yield shown(row.median) or NONE
    yield "" if row.low is None or row.high is None else f"{shown(row.low)} … {shown(row.high)}"
    yield shown(row.p95)
    yield shown(row.p99)
    yield row.unit
    yield "" if row.ratio is None else f"{shown(row.ratio)} ×"
    failed = f", {row.failed} failed" if row.failed else ""
    yield f"{row.repeats or 1}{failed}"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table without the columns that are empty in all lines."""
    kept = [at for at, _ in enumerate(heads) if at == 0 or any(line[at] for line in lines)]
    cells = [heads, ["---"] + ["---"] * (len(heads) - 1), *lines]
    return "\n".join("| " + " | ".join(_escaped(row[at]) for at in kept) + " |" for row in cells)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
