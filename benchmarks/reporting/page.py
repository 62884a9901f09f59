"""A report as one HTML page that needs no network and no script. Its pictures are PNG files beside it.

Names come from machines and users, so every text is escaped here.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.reporting import rows as figures
from benchmarks.reporting.compare import Comparison, Row, Verdict
from benchmarks.reporting.format import Fact, Report, Section
from benchmarks.reporting.quantiles import shown
from benchmarks.reporting.tables import between, percent, summary
from benchmarks.reporting.writing import write_whole

if TYPE_CHECKING:
    from benchmarks.reporting.plots import Plot

_STYLE = Path(__file__).with_name("page.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_NO_PLOTS = (
    "This page has no pictures, because matplotlib is not installed here: pip install 'shorthaul[bench]'."
)
_MARKS = {Verdict.BETTER: "good", Verdict.WORSE: "bad", Verdict.CHANGED: "warn", Verdict.PERHAPS: "warn"}


def write_page(report: Report, path: Path, found: Comparison | None = None) -> None:
    """Write the page and its pictures. ``found``: what changed. Raises `WriteFailed`."""
    pictures = _pictures(report)
    for each in (plot for plots in (pictures or {}).values() for plot in plots):
        write_whole(path.with_name(f"{path.stem}-{each.name}.png"), each.png)
    write_whole(path, page(report, found, pictures))


def _pictures(report: Report) -> "Mapping[str, Sequence[Plot]] | None":
    try:
        from benchmarks.reporting.plots import plots
    except ImportError:
        return None
    return plots(report)


def page(
    report: Report, found: Comparison | None = None, pictures: "Mapping[str, Sequence[Plot]] | None" = None
) -> str:
    """The text of the page. ``pictures``: by section; None: they could not be drawn."""
    title = f"shorthaul benchmark: {report.name}"
    body = "\n".join(_body(report, found, pictures, title))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE.read_text()}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _body(
    report: Report, found: Comparison | None, pictures: "Mapping[str, Sequence[Plot]] | None", title: str
) -> Iterator[str]:
    yield "<header>"
    yield f"<h1>{escape(title)}</h1>"
    yield f'<p class="soft">{escape(_subtitle(report))}</p>'
    yield from _problems(report)
    yield from _navigation(report, found)
    yield "</header>\n<main>"
    yield from _losses(report)
    if pictures is None:
        yield f'<p class="note">{escape(_NO_PLOTS)}</p>'
    if found is not None:
        yield from _changes(found)
    for number, section in enumerate(report.sections):
        yield from _section(section, number, (pictures or {}).get(section.name, ()))
    yield from _facts(report)
    yield from _reading()
    yield "</main>"


def _subtitle(report: Report) -> str:
    product = report.product
    commit = f", commit {product.commit[:12]}" if product.commit else ""
    dirty = " with uncommitted changes" if product.dirty else ""
    when = report.began.replace("T", " ").replace("Z", " UTC")
    return f"shorthaul {product.version}{commit}{dirty} · {when} · took {report.seconds / 60:.1f} minutes"


def _problems(report: Report) -> Iterator[str]:
    if report.complete and not report.problems:
        return
    yield '<div class="note bad" role="note"><h2>Not all of this was measured</h2><ul>'
    yield from (f"<li>{escape(each)}</li>" for each in report.problems or ("it does not say why",))
    yield "</ul></div>"


def _navigation(report: Report, found: Comparison | None) -> Iterator[str]:
    yield '<nav aria-label="Sections"><ul>'
    if found is not None:
        yield '<li><a href="#changes">changes</a></li>'
    for number, section in enumerate(report.sections):
        yield f'<li><a href="#s{number}">{escape(section.name)}</a></li>'
    yield '<li><a href="#machine">machine</a></li><li><a href="#reading">how to read it</a></li></ul></nav>'


def _losses(report: Report) -> Iterator[str]:
    losses = [(number, each) for number, section in enumerate(report.sections) for each in section.losses]
    if not losses:
        return
    yield '<div class="note loss" role="note"><h2>Where shorthaul is behind</h2><ul>'
    for number, words in losses:
        name = escape(report.sections[number].name)
        yield f'<li>{escape(words)} <span class="soft">(<a href="#s{number}">{name}</a>)</span></li>'
    yield "</ul></div>"


def _section(section: Section, number: int, plots: "Sequence[Plot]") -> Iterator[str]:
    yield f'<section id="s{number}" aria-labelledby="h{number}">'
    yield f'<h2 id="h{number}">{escape(section.name)}</h2>'
    if section.question:
        yield f'<p class="question">{escape(section.question)}</p>'
    if section.method:
        yield f'<p class="soft">{escape(section.method)}</p>'
    if section.verdicts:
        yield "<ul>" + "".join(f"<li>{escape(each)}</li>" for each in section.verdicts) + "</ul>"
    for plot in plots:
        label = escape(f"{section.name}: {plot.title}", quote=True)
        yield f'<figure tabindex="0" aria-label="{label}">{plot.svg}</figure>'
    yield from _table(section)
    if section.losses:
        yield '<div class="note loss" role="note"><h3>Behind</h3><ul>'
        yield from (f"<li>{escape(each)}</li>" for each in section.losses)
        yield "</ul></div>"
    yield "</section>"


def _table(section: Section) -> Iterator[str]:
    found = [*figures.rows(section)]
    if not found:
        yield '<p class="soft">Nothing was measured here.</p>'
        return
    columns = [column for column in _COLUMNS if column[0] in _ALWAYS or any(column[1](row) for row in found)]
    label = escape(f"figures of {section.name}", quote=True)
    yield f'<div class="table" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>'
    yield "".join(f"<th scope=col{_kind(name)}>{name}</th>" for name, _ in columns) + "</tr></thead><tbody>"
    for what, group in itertools.groupby(found, key=lambda row: row.what):
        these = [*group]
        head = f"<th scope=rowgroup rowspan={len(these)}>{escape(what)}</th>"
        for row in these:
            cells = "".join(f"<td{_kind(name)}>{value(row)}</td>" for name, value in columns[1:])
            yield f"<tr>{head}{cells}</tr>"
            head = ""
    yield "</tbody></table></div>"
    notes = dict.fromkeys(row.note for row in found if row.note)
    yield from (f'<p class="soft">{escape(each)}</p>' for each in notes)


def _kind(column: str) -> str:
    return " class=words" if column == "way" else ""


def _range(row: figures.Row) -> str:
    return "" if row.low is None or row.high is None else f"{shown(row.low)} … {shown(row.high)}"


def _repeats(row: figures.Row) -> str:
    failed = f' <span class="bad">{row.failed} failed</span>' if row.failed else ""
    return f"{row.repeats}{failed}" if row.repeats > 1 or failed else ""


def _target(row: figures.Row) -> str:
    words = {None: "", True: ' <span class="good">met</span>', False: ' <span class="bad">missed</span>'}
    return f"{escape(row.target)}{words[row.met]}"


_COLUMNS = (
    ("what", lambda row: escape(row.what)),
    ("way", lambda row: escape(row.way)),
    ("median", lambda row: shown(row.median)),
    ("unit", lambda row: escape(row.unit)),
    ("from … to", _range),
    ("p95", lambda row: shown(row.p95)),
    ("p99", lambda row: shown(row.p99)),
    ("ratio", lambda row: "" if row.ratio is None else f"{shown(row.ratio)} ×"),
    ("repeats", _repeats),
    ("of", lambda row: f"{row.of:,}" if row.of > 1 else ""),
    ("target", _target),
)
_ALWAYS = ("what", "median", "unit")


def _changes(found: Comparison) -> Iterator[str]:
    yield '<section id="changes" aria-labelledby="hc"><h2 id="hc">Changes</h2>'
    yield "".join(f"<p>{escape(each)}</p>" for each in summary(found))
    if found.notes:
        yield '<ul class="soft">' + "".join(f"<li>{escape(each)}</li>" for each in found.notes) + "</ul>"
    marked = [row for row in found.rows if row.verdict in _MARKS]
    others = [row for row in found.rows if row.verdict not in _MARKS]
    if marked:
        yield from _change_table(marked, "what changed")
    if others:
        yield f"<details><summary>{len(others)} figures that are not known to have changed</summary>"
        yield from _change_table(others, "what is not known to have changed")
        yield "</details>"
    yield "</section>"


def _change_table(changes: Iterable[Row], label: str) -> Iterator[str]:
    yield f'<div class="table" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>'
    heads = ("what", "section", "then", "now", "unit", "change", "between (95 %)", "larger than noise")
    yield "".join(f"<th scope=col>{each}</th>" for each in heads) + "</tr></thead><tbody>"
    yield from map(_change, changes)
    yield "</tbody></table></div>"


def _change(row: Row) -> str:
    mark, change = _MARKS.get(row.verdict), row.change
    verdict = {Verdict.NOISE: "no"}.get(row.verdict, row.verdict.value)
    verdict = f'<span class="{mark}">{verdict}</span>' if mark else verdict
    cells = (
        escape(row.section),
        shown(change.old),
        shown(change.new),
        escape(row.unit),
        percent(change.ratio),
        between(row),
        verdict,
    )
    return f"<tr><th scope=row>{escape(row.what)}</th>{''.join(f'<td>{each}</td>' for each in cells)}</tr>"


def _facts(report: Report) -> Iterator[str]:
    machine = report.machine
    facts = {
        "processor": f"{machine.processor}, {machine.processors} of them",
        "memory": f"{machine.memory_mib / 1024:.1f} GiB",
        "kernel": machine.kernel,
        "kind": machine.virtual or "not known to be virtual",
        "frequency governor": machine.governor or "not told by the kernel",
        "taken by others while nothing was measured": "not told"
        if machine.busy_percent is None
        else f"{machine.busy_percent:g} %",
        "load before, after": f"{_told(machine.load_before)}, {_told(machine.load_after)}",
        "taken by other guests": "not told"
        if machine.steal_percent is None
        else f"{machine.steal_percent:g} %",
        **_dictionary(report.product.versions),
        **_dictionary(report.arguments),
    }
    yield '<section id="machine" aria-labelledby="hm"><h2 id="hm">Machine and versions</h2><dl>'
    yield from (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    yield "</dl></section>"


def _told(load: float | None) -> str:
    return "not told" if load is None else f"{load:g}"


def _dictionary(facts: Iterable[Fact]) -> dict[str, str]:
    return {fact.name: fact.value for fact in facts}


def _reading() -> Iterator[str]:
    yield '<section id="reading" aria-labelledby="hr"><h2 id="hr">How to read it</h2><ul>'
    yield from (f"<li>{each}</li>" for each in _HOW)
    yield "</ul></section>"


_HOW = (
    "<b>median, from … to</b>: of the repeats, the smallest and the largest. Where one repeat gave many "
    "samples, the median and the quartiles of these.",
    "<b>p95, p99</b>: of single requests. <b>of</b>: how many were timed or counted.",
    "<b>ratio</b>: a way's value divided by that of the way beside it, in the same round; the median over "
    "the rounds. Ways take turns, so that what happens to the machine happens to all of them.",
    "<b>yardstick</b>: work that no change of shorthaul changes. If it differs between two reports, the "
    "machine did.",
    "<b>larger than noise</b>: with five repeats on each side, by Welch's test on the logarithms, with the "
    "bound of Benjamini and Hochberg for many figures, and by more than 3 % and the yardstick.",
)
