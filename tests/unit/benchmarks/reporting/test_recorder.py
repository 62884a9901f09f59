"""The recorder of figures."""

import io
import math

import pytest
from rich.console import Console

from benchmarks.reporting.compare import ratios
from benchmarks.reporting.format import Better
from benchmarks.reporting.histogram import new_histogram, record
from benchmarks.reporting.recorder import Recorder
from benchmarks.reporting.rows import rows


def _recorder() -> Recorder:
    return Recorder(Console(file=io.StringIO(), width=200))


def _printed(recorder: Recorder) -> str:
    assert isinstance(recorder.console.file, io.StringIO)
    return recorder.console.file.getvalue()


def test_what_was_measured_before_an_end_is_in_the_sections_at_any_moment() -> None:
    recorder = _recorder()
    recorder.begin("first", question="what?", method="so")
    recorder.single("one", "s", 1.5)
    assert [figure.what for figure in recorder.sections[0].figures] == ["one"]
    recorder.single("two", "s", 2.5)
    (section,) = recorder.sections
    assert (section.question, section.method) == ("what?", "so")
    assert [figure.what for figure in section.figures] == ["one", "two"]


def test_repeats_of_ways_stay_in_their_rounds_also_where_one_failed_which_leaves_no_ratio_to_show() -> None:
    recorder = _recorder()
    recorder.begin("pull")
    for ours, theirs in ((1.0, 2.0), (None, 3.0), (2.0, 8.0)):
        recorder.value("1 GB", "s", ours, way="shorthaul", baseline="registry")
        recorder.value("1 GB", "s", theirs, way="registry", baseline="registry")
    (figure,) = recorder.sections[0].figures
    assert [series.values for series in figure.series] == [(1.0, None, 2.0), (2.0, 3.0, 8.0)]
    mine, other = rows(recorder.sections[0])
    assert ratios(figure, "shorthaul") == [
        0.5,
        0.25,
    ]  # what a comparison takes: the rounds in which neither failed
    assert (mine.median, mine.failed, mine.ratio) == (
        1.5,
        1,
        None,
    )  # the baseline's median is of other rounds
    assert other.ratio is None
    assert "1 GB, shorthaul: failed" in _printed(recorder)


def test_many_samples_of_one_go_are_ten_blocks_and_their_quartiles() -> None:
    recorder = _recorder()
    recorder.spread("f", "ms", [each / 1000 for each in range(100)], 80.0, 1000, bound=True)
    (figure,) = recorder.sections[0].figures
    assert figure.series[0].values == pytest.approx([4.5 + 10 * each for each in range(10)])
    (row,) = rows(recorder.sections[0])
    assert (row.median, row.low, row.high, row.p95, row.of) == pytest.approx((49.5, 25, 75, 95, 100))
    assert (row.met, row.target) == (False, "≤ 80 p95")


def test_figure_of_a_name_that_is_taken_overwrites_nothing() -> None:
    recorder = _recorder()
    for value in (1.0, 2.0, 3.0):
        recorder.single("other zone", "%", value)
    assert [figure.what for figure in recorder.sections[0].figures] == [
        "other zone",
        "other zone (2)",
        "other zone (3)",
    ]


@pytest.mark.parametrize(
    ("unit", "at_least", "target", "better"),
    [
        ("ms", False, None, Better.LOWER),
        ("GB/s", False, None, Better.HIGHER),
        ("", False, None, Better.NEITHER),
        ("", False, 5.0, Better.LOWER),
        ("", True, 5.0, Better.HIGHER),
    ],
)
def test_unit_and_target_say_which_direction_is_good(
    unit: str, at_least: bool, target: float | None, better: Better
) -> None:
    recorder = _recorder()
    recorder.single("f", unit, 1.0, target, at_least=at_least)
    assert recorder.sections[0].figures[0].better == better


def test_histograms_are_one_for_each_repeat() -> None:
    recorder, repeats = _recorder(), []
    for base_s in (0.001, 0.003):
        repeats.append(new_histogram())
        for each in range(100):
            record(repeats[-1], base_s + each * 1e-6)
    recorder.latencies("first byte", repeats, target=2.0)
    (row,) = rows(recorder.sections[0])
    assert (row.repeats, row.of) == (2, 200)
    assert (row.low, row.high) == pytest.approx((1.05, 3.05), rel=0.01)
    assert row.p99 == pytest.approx(3.097, rel=0.01)


def test_value_that_is_not_finite_is_a_repeat_that_failed() -> None:
    recorder = _recorder()
    recorder.single("f", "s", math.nan)
    recorder.share("g", 0, 0)
    assert [figure.series[0].values for figure in recorder.sections[0].figures] == [(None,), (None,)]
    assert [row.median for row in rows(recorder.sections[0])] == [None, None]


def test_section_that_goes_on_keeps_its_figures() -> None:
    recorder = _recorder()
    for section in ("a", "b", "a"):
        recorder.begin(section, question=f"what of {section}?")
        recorder.value("f", "s", 1.0)
    assert [(each.name, len(each.figures[0].series[0].values)) for each in recorder.sections] == [
        ("a", 2),
        ("b", 1),
    ]
