"""README.md's figures, and those of docs/benchmarks.md, are those of the published report."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.publish import PAGES, REPORT
from benchmarks.pull.measuring import section_name
from benchmarks.pull.run import QUICK
from benchmarks.reporting.format import Figure, Report, Section, Series, from_json
from benchmarks.reporting.markdown import CONTESTS, KIND, NONE, SHORT, machine_words, parts
from benchmarks.reporting.marks import parts_of
from tests.unit.benchmarks.reporting.reports import make_figure, make_report, make_section


def _published() -> Report:
    return from_json(REPORT.read_bytes(), str(REPORT))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_figure_of_the_page_is_the_published_reports(page: object) -> None:
    shown = dict(parts_of(page.read_text(), KIND))  # type: ignore[attr-defined]
    assert shown, "the page has no part of a report"
    made = parts(_published())
    for name, text in shown.items():
        assert text == made[name], f"{name}: run python -m benchmarks publish {REPORT}"


def test_readme_has_all_short_tables_and_they_have_ten_rows_at_most() -> None:
    readme = dict(parts_of(PAGES[0].read_text(), KIND))
    assert {*SHORT, "machine", "behind"} <= {*readme}
    assert sum(len(table.lines) for table in SHORT.values()) <= 10


def test_every_figure_of_the_short_tables_is_in_the_published_report() -> None:
    made = parts(_published())
    lacking = [line for name in SHORT for line in made[name].splitlines() if NONE in line]
    assert lacking == []


def test_docs_have_every_section_of_the_published_report() -> None:
    text = PAGES[1].read_text()
    for section in _published().sections:
        if section.name != "yardstick":
            assert f"### {section.name}\n" in text


def _pull(*values: tuple[str, float]) -> Section:
    series = tuple(Series(way=way, values=(value,)) for way, value in values)
    figure = Figure(
        what="all at once: until the last node has it",
        unit="s",
        better="lower",
        series=series,
        baseline="registry",
    )
    return Section(name="pull: 100 MB in 4 layers", figures=(figure,))


def test_short_table_has_medians_and_ratios_and_a_dash_for_what_is_lacking() -> None:
    made = parts(make_report(_pull(("registry", 4.0), ("shorthaul", 1.0))))
    assert "| 100 MB in 4 layers | 4 | – | 1 (0.25 ×) | – |" in made["pull"]


def test_names_are_escaped_in_tables() -> None:
    report = make_report(make_section(make_figure("a|b <i>", [1.0]), name="path"))
    assert "| a\\|b &lt;i> |" in parts(report)["all-path"]


def test_losses_are_told_with_their_section() -> None:
    section = Section(name="pull: 10 MB in 1 layer", losses=("slower than nginx",))
    assert parts(make_report(section))["losses"] == "- pull: 10 MB in 1 layer: slower than nginx"


def test_report_that_lacks_something_says_so_where_its_figures_are_shown() -> None:
    report = replace(make_report(), complete=False, problems=("the agent died",))
    assert machine_words(report).endswith("Not all was measured: the agent died.")


def test_heads_have_the_units_of_the_reports_figures() -> None:
    made = parts(make_report(_pull(("registry", 4.0))))
    assert made["pull"].startswith("| until the last of 6 nodes has it, s | registry |")
    assert "{unit}" not in "".join(made.values())


def test_short_table_of_pulls_has_the_sizes_that_the_short_run_pulls() -> None:
    shown = {cell.section for line in SHORT["pull"].lines for cell in line.cells}
    assert shown == {section_name(size) for size in QUICK.rounds}


def _rounds(**ways: Sequence[float | None]) -> Section:
    (figure,) = _pull().figures
    series = tuple(Series(way=way, values=tuple(values)) for way, values in ways.items())
    return Section(name="pull: 100 MB in 4 layers", figures=(replace(figure, series=series),))


@pytest.mark.parametrize("registry", [(4.0, 4.0), (4.0, None, 4.0)], ids=["ended early", "one failed"])
def test_ratio_of_ways_that_were_not_measured_in_the_same_rounds_is_not_shown(
    registry: Sequence[float | None],
) -> None:
    made = parts(make_report(_rounds(registry=registry, nginx=registry, shorthaul=(1.0, 8.0, 8.0))))
    assert "| 100 MB in 4 layers | 4 | 4 (1 ×) | 8 | – |" in made["pull"]
    assert "×" not in next(line for line in made["all-pull"].splitlines() if "shorthaul" in line)


@pytest.mark.parametrize(("ours", "is_behind"), [(1.0, False), (1.99, False), (2.0, False), (3.0, True)])
def test_readme_says_where_its_figures_are_behind_whichever_way_won(ours: float, is_behind: bool) -> None:
    others = {"nginx": (2.0,), "shorthaul, cluster": (1.0,)}
    section = _rounds(registry=(4.0,), shorthaul=(ours,), **others)
    said = parts(make_report(section))["behind"]
    assert said.startswith("- pull: 100 MB in 4 layers: all at once") == is_behind
    assert is_behind or said == "- Nowhere in these figures."


def test_whatever_readme_is_judged_by_is_in_the_published_report() -> None:
    report = _published()
    for each in CONTESTS:
        section = report.section(each.section)
        figure = section and section.figure(each.what)
        assert figure, f"{each.section}: {each.what}"
        assert {*each.ours, *each.theirs} <= {series.way for series in figure.series}


def test_machine_that_was_busy_before_the_run_is_said_where_its_figures_are_shown() -> None:
    report = make_report()
    busy = replace(report, machine=replace(report.machine, load_before=18.19))
    assert "The machine was busy when it began: a load of 18.2 on 2 processors." in machine_words(busy)
    assert "busy" not in machine_words(replace(report, machine=replace(report.machine, load_before=2.0)))
