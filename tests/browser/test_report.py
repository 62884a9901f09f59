"""The page of a report in a real browser: offline, in light and dark, on a phone, for everybody."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.lab.browser import PHONE, Look, View
from benchmarks.reporting.compare import compare
from benchmarks.reporting.format import Figure, Report, Section, Series
from benchmarks.reporting.histogram import new_histogram, record, to_text
from benchmarks.reporting.page import write_page
from tests.unit.benchmarks.reporting.reports import make_report

_HOSTILE = '<img src="http://example.test/x" onerror="alert(1)">'


def _report() -> Report:
    histograms = []
    for repeat in range(5):
        histogram = new_histogram()
        for each in range(400):
            record(histogram, 0.001 + repeat * 1e-5 + each * each * 1e-7)
        histograms.append(to_text(histogram))
    timed = Figure(
        what="first byte",
        unit="ms",
        better="lower",
        baseline="registry",
        series=tuple(
            Series(way=way, histograms=tuple(histograms)) for way in ("shorthaul", "registry", _HOSTILE)
        ),
    )
    valued = Figure(
        what="until the last node has it",
        unit="s",
        better="lower",
        baseline="registry",
        series=tuple(
            Series(way=way, values=tuple(factor + each / 100 for each in range(5)))
            for way, factor in (("registry", 4.0), ("nginx", 3.0), ("shorthaul", 1.5))
        ),
    )
    section = Section(
        name="pull",
        question="How long do nodes wait?",
        method="In turn.",
        figures=(timed, valued),
        verdicts=(f"Fine: {_HOSTILE}",),
        losses=("The first node waits longer.",),
    )
    return make_report(section, problems=("an agent died",), complete=False)


def _slower(report: Report) -> Report:
    section = report.sections[0]
    figure = section.figures[1]
    series = tuple(
        replace(each, values=tuple(2 * value for value in each.values if value)) for each in figure.series
    )
    figures = (section.figures[0], replace(figure, series=series))
    return replace(report, sections=(replace(section, figures=figures),))


@pytest.mark.parametrize(
    "look",
    [Look(), Look(scheme="dark"), PHONE, replace(PHONE, scheme="dark")],
    ids=("light", "dark", "phone", "night"),
)
def test_report_is_readable_by_everybody_and_asks_nobody(
    open_page: Callable[..., View], look: Look, tmp_path: Path, screenshots: Path
) -> None:
    report = _report()
    write_page(report, tmp_path / "report.html", compare(_slower(report), report))
    view = open_page(f"file://{tmp_path}/report.html", look)
    view.check_accessibility()
    page = view.page
    assert page.locator("h1").inner_text() == "shorthaul benchmark: test"
    assert page.locator("figure svg").count() == 2
    assert page.locator("text=Where shorthaul is behind").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    view.shoot(screenshots / f"report-{look.scheme}-{look.width}.png")
