"""The page of a report."""

import os
import re
import stat
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.reporting.compare import compare
from benchmarks.reporting.format import Figure, Report, Section, Series
from benchmarks.reporting.histogram import new_histogram, record, to_text
from benchmarks.reporting.page import page, write_page
from benchmarks.reporting.writing import WriteFailed, write_whole
from tests.unit.benchmarks.reporting.reports import make_figure, make_report, make_section
from tests.unit.twins import REPOSITORY_ROOT

_HOSTILE = '<script>alert(1)</script>"><img src=x onerror=1> $x_1$'


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def _report(words: str = "plain") -> Report:
    histogram = new_histogram()
    for each in range(500):
        record(histogram, 0.001 + each * 1e-6)
    timed = Figure(
        what=f"timed {words}", unit="ms", series=(Series(way=words, histograms=(to_text(histogram),)),)
    )
    ways = (Series(way=words, values=(1.0, 2.0, None)), Series(way="other", values=(2.0, 3.0, 90.0)))
    valued = Figure(
        what=f"valued {words}", unit="s", better="lower", series=ways, baseline="other", note=words
    )
    section = Section(
        name=f"section {words}",
        question=words,
        method=words,
        figures=(timed, valued, make_figure("single", [1.0], target=0.5)),
        verdicts=(words,),
        losses=(words,),
    )
    return make_report(section, problems=(words,), complete=False, name=words)


def test_page_needs_nothing_from_anywhere(tmp_path: Path) -> None:
    write_page(_report(), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    elements = _Elements(text).found
    assert not {tag for tag, _ in elements} & {"script", "link", "iframe", "img", "object", "use2"}
    for tag, attributes in elements:
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text


def test_names_of_others_are_text_on_the_page_and_in_its_pictures(tmp_path: Path) -> None:
    report = _report(_HOSTILE)
    write_page(report, tmp_path / "report.html", compare(report, report))
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in text
    assert "<img" not in text
    assert _Elements(text).found
    assert "&lt;script&gt;" in text


def test_pictures_are_png_files_beside_the_page(tmp_path: Path) -> None:
    write_page(_report(), tmp_path / "report.html")
    pictures = sorted(tmp_path.glob("report-*.png"))
    assert [each.name for each in pictures] == [
        "report-section-plain-percentiles-ms.png",
        "report-section-plain-s.png",
    ]
    for each in pictures:
        assert each.read_bytes().startswith(b"\x89PNG")


def test_each_picture_has_its_numbers_in_words_and_a_table_beside_it() -> None:
    from benchmarks.reporting.plots import plots

    report = _report()
    text = page(report, None, plots(report))
    for tag, attributes in _Elements(text).found:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert "Medians: " in (attributes["aria-label"] or "")
    assert text.count("<svg") == 2
    assert text.count("<table") == 1


def test_numbers_in_pictures_are_those_of_the_table() -> None:
    from benchmarks.reporting.plots import plots

    report = make_report(make_section(_ways(0.60849, 1.23456)))
    (plot,) = plots(report)["s"]
    assert ">0.608<" in plot.svg
    assert ">1.23<" in plot.svg


def _ways(*values: float) -> Figure:
    series = tuple(Series(way=f"way {number}", values=(value,) * 3) for number, value in enumerate(values))
    return Figure(what="pull", unit="s", better="lower", series=series)


def test_losses_and_problems_come_before_all_figures() -> None:
    text = page(_report("words"))
    assert text.index("Not all of this was measured") < text.index("Where shorthaul is behind")
    assert text.index("Where shorthaul is behind") < text.index("<table")


def test_repeats_that_failed_and_targets_that_were_missed_are_said() -> None:
    text = page(_report())
    assert "1 failed" in text
    assert "missed" in text


def test_identifiers_on_the_page_are_unique(tmp_path: Path) -> None:
    report = _report()
    write_page(report, tmp_path / "report.html", compare(report, report))
    elements = _Elements((tmp_path / "report.html").read_text()).found
    names = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(names) == len({*names})


def test_page_without_matplotlib_has_tables_and_says_how_to_get_pictures(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    (tmp_path / "report.json").write_text("")
    program = (
        "from pathlib import Path; from tests.unit.benchmarks.reporting.test_page import _report;"
        "from benchmarks.reporting.page import write_page;"
        f"write_page(_report(), Path({str(tmp_path / 'report.html')!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY_ROOT}"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)
    text = (tmp_path / "report.html").read_text()
    assert "pip install &#x27;shorthaul[bench]&#x27;" in text
    assert "<table" in text
    assert "<svg" not in text


def test_report_without_figures_is_a_page() -> None:
    assert "Nothing was measured here" in page(make_report(Section(name="empty")))
    assert "<h1>" in page(make_report())


def test_full_disk_leaves_the_older_file_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("older")
    with pytest.raises(WriteFailed) as failed:
        write_whole(Path("/dev/full/report.json"), "new")
    assert failed.value.hint
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        (folder / "report.json").write_text("older")
        with pytest.raises(WriteFailed, match="No space left"):
            write_whole(folder / "report.json", "x" * 200_000)
        assert (folder / "report.json").read_text() == "older"
        assert [each.name for each in folder.iterdir()] == ["report.json"]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_file_is_written_with_the_usual_rights(tmp_path: Path) -> None:
    write_whole(tmp_path / "report.json", "new")
    assert stat.S_IMODE((tmp_path / "report.json").stat().st_mode) & 0o400


def test_empty_section_and_comparison_have_no_empty_tables() -> None:
    report = make_report(make_section(make_figure("f", [1.0] * 5)))
    assert "<tbody></tbody>" not in page(report, compare(report, report))


@pytest.mark.parametrize("values", [0, 1, 2, 3])
def test_latency_that_was_hardly_measured_or_not_at_all_breaks_no_page(tmp_path: Path, values: int) -> None:
    histogram = new_histogram()
    for _ in range(values):
        record(histogram, 0.02)
    few = (Series(way="this node", histograms=(to_text(histogram),)), Series(way="same zone", histograms=()))
    failed = (Series(way="this node", values=(None,)), Series(way="same zone", values=(None,)))
    section = make_section(
        Figure(what="whole blob", unit="ms", series=few), Figure(what="pull", unit="s", series=failed)
    )
    write_page(make_report(section), tmp_path / "report.html")
    assert "whole blob" in (tmp_path / "report.html").read_text()
