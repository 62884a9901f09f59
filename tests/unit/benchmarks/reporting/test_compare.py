"""What changed between two reports."""

import io
import random
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks.reporting.compare import YARDSTICK, Incomparable, Verdict, compare, ratios
from benchmarks.reporting.format import Figure, Report, Samples, Series
from benchmarks.reporting.histogram import new_histogram, record, to_text
from benchmarks.reporting.recorder import Recorder
from tests.unit.benchmarks.reporting.reports import MACHINE, make_figure, make_report, make_section

_OTHER = replace(MACHINE, processor="another one")


def _values(seed: int, factor: float = 1.0, spread: float = 0.02, number: int = 6) -> list[float]:
    rng = random.Random(seed)
    return [factor * 10 * rng.gauss(1, spread) for _ in range(number)]


def _report(factor: float, seed: int, **more: object) -> Report:
    machine = more.pop("machine", MACHINE)
    figure = make_figure("f", _values(seed, factor), **more)
    return make_report(make_section(figure), machine=machine)  # type: ignore[arg-type]


def _ways(ours: list[float], theirs: list[float]) -> Figure:
    series = (Series(way="shorthaul", values=tuple(ours)), Series(way="registry", values=tuple(theirs)))
    return Figure(what="pull", unit="s", better="lower", series=series, baseline="registry")


@pytest.mark.parametrize(
    ("better", "factor", "verdict"),
    [
        ("lower", 1.2, Verdict.WORSE),
        ("lower", 0.8, Verdict.BETTER),
        ("higher", 1.2, Verdict.BETTER),
        ("higher", 0.8, Verdict.WORSE),
        ("neither", 1.2, Verdict.CHANGED),
        ("lower", 1.0, Verdict.NOISE),
    ],
)
def test_verdict_follows_which_direction_is_good(better: str, factor: float, verdict: Verdict) -> None:
    (row,) = compare(_report(1.0, 1, better=better), _report(factor, 2, better=better)).rows
    assert row.verdict is verdict


def test_histograms_are_compared_by_their_quantiles_repeat_by_repeat() -> None:
    def figure(factor: float) -> Figure:
        texts = []
        for repeat in range(5):
            rng, histogram = random.Random(repeat), new_histogram()
            for _ in range(2000):
                record(histogram, factor * 0.001 * rng.lognormvariate(0, 0.2))
            texts.append(to_text(histogram))
        return Figure(what="first byte", unit="ms", better="lower", series=(Series(histograms=tuple(texts)),))

    rows = compare(make_report(make_section(figure(1.0))), make_report(make_section(figure(1.3)))).rows
    assert [row.what for row in rows] == ["first byte, p50", "first byte, p99"]
    assert rows[0].verdict is Verdict.WORSE
    assert rows[0].change.ratio == pytest.approx(0.3, abs=0.02)


def test_ways_are_divided_round_by_round_though_one_of_them_lacks_a_round() -> None:
    def timed(*seconds: float | None) -> tuple[str, ...]:
        texts = []
        for each in seconds:
            histogram = new_histogram()
            if each is not None:
                record(histogram, each)
            texts.append(to_text(histogram))
        return tuple(texts)

    series = (
        Series(way="shorthaul", histograms=timed(None, 0.002, 0.004)),
        Series(way="registry", histograms=timed(0.001, 0.002, 0.004)),
    )
    figure = Figure(what="pull", unit="ms", better="lower", series=series, baseline="registry")
    assert ratios(figure, "shorthaul") == pytest.approx([1.0, 1.0])


def test_another_machine_compares_counts_and_ratios_and_no_seconds() -> None:
    old = make_report(make_section(_ways(_values(1), _values(2)), make_figure("GETs", [3] * 5, unit="")))
    ours = _ways([0.1 * each for each in _values(3)], [0.1 * each for each in _values(4)])
    new = make_report(make_section(ours, make_figure("GETs", [4] * 5, unit="")), machine=_OTHER)
    found = compare(old, new)
    assert {row.what: row.verdict for row in found.rows} == {
        "pull, shorthaul / registry": Verdict.NOISE,  # both are ten times as fast there
        "GETs": Verdict.WORSE,
    }
    assert "another machine" in found.notes[0]


def test_another_machine_without_counts_or_ratios_is_refused_with_a_hint() -> None:
    with pytest.raises(Incomparable, match="of another machine") as refused:
        compare(_report(1.0, 1), _report(1.0, 2, machine=_OTHER))
    assert "on this machine" in refused.value.hint


def test_reports_without_a_common_figure_are_refused_with_a_hint() -> None:
    other = make_report(make_section(make_figure("g", [1.0])), name="other")
    with pytest.raises(Incomparable, match="no figure in common") as refused:
        compare(_report(1.0, 1), other)
    assert "python -m benchmarks other --json" in refused.value.hint


def test_unit_that_changed_makes_another_figure() -> None:
    with pytest.raises(Incomparable):
        compare(_report(1.0, 1), _report(1.0, 2, unit="s"))


def _with_yardstick(factor: float, work: float, seed: int) -> Report:
    steps = make_figure("steps", _values(seed + 50, factor, number=10))
    ours = make_section(make_figure("f", _values(seed, work)))
    return make_report(ours, make_section(steps, name=YARDSTICK))


def test_machine_that_became_slower_is_not_blamed_on_the_product() -> None:
    found = compare(_with_yardstick(1.0, 1.0, 1), _with_yardstick(1.3, 1.28, 2))
    assert [row.verdict for row in found.rows] == [Verdict.NOISE]
    assert any("the machine itself changed (steps +" in note for note in found.notes)
    assert found.floor == pytest.approx(0.3, abs=0.03)


def test_change_beyond_that_of_the_machine_still_counts() -> None:
    found = compare(_with_yardstick(1.0, 1.0, 1), _with_yardstick(1.1, 2.0, 2))
    assert [row.verdict for row in found.rows] == [Verdict.WORSE]


def test_few_repeats_are_perhaps_and_never_a_verdict() -> None:
    old, new = (
        make_report(make_section(make_figure("f", values))) for values in ([1, 1.01, 1.02], [2, 2.01, 2.02])
    )
    assert [row.verdict for row in compare(old, new).rows] == [Verdict.PERHAPS]
    new = make_report(make_section(make_figure("f", [2.0])))
    assert [row.verdict for row in compare(old, new).rows] == [Verdict.UNKNOWN]


def test_repeats_that_failed_are_left_out_and_incomplete_reports_are_named() -> None:
    old = _report(1.0, 1)
    new = make_report(
        make_section(make_figure("f", [None, *_values(2)])), complete=False, problems=("the agent died",)
    )
    found = compare(old, new)
    assert [row.verdict for row in found.rows] == [Verdict.NOISE]
    assert "the new report is not complete: the agent died" in found.notes


def test_busy_or_robbed_machine_is_a_note() -> None:
    busy = replace(MACHINE, busy_percent=60.0, steal_percent=12.0)
    notes = compare(_report(1.0, 1), _report(1.0, 2, machine=busy)).notes
    assert any(note.startswith("now others took 60 % of the processors") for note in notes)
    assert "now other guests took 12 % of the processors" in notes


def test_on_a_busy_machine_no_time_is_called_changed_and_counts_still_are() -> None:
    busy = replace(MACHINE, busy_percent=60.0)
    timed, counted = (make_figure(what, _values(1), unit=what) for what in ("ms", "MB"))
    old = make_report(make_section(timed, counted))
    timed, counted = (make_figure(what, _values(2, 1.5), unit=what) for what in ("ms", "MB"))
    found = compare(old, make_report(make_section(timed, counted), machine=busy))
    assert [row.verdict for row in found.rows] == [Verdict.PERHAPS, Verdict.WORSE]


def test_samples_of_one_go_are_no_repeats_however_many() -> None:
    def report(factor: float) -> Report:
        recorder = Recorder(Console(file=io.StringIO()))
        recorder.spread("f", "ms", _values(int(10 * factor), factor, number=500))
        return make_report(*recorder.sections)

    assert [row.verdict for row in compare(report(1.0), report(1.5)).rows] == [Verdict.PERHAPS]
    assert [row.verdict for row in compare(report(1.0), report(1.01)).rows] == [Verdict.UNKNOWN]


def test_memory_that_a_kernel_keeps_is_no_other_machine() -> None:
    assert replace(MACHINE, memory_mib=7990).identity == MACHINE.identity
    assert replace(MACHINE, memory_mib=16000).identity != MACHINE.identity


@pytest.mark.parametrize(
    ("unit", "verdict"),
    [("", Verdict.WORSE), ("MB", Verdict.WORSE), ("s", Verdict.UNKNOWN), ("MiB", Verdict.UNKNOWN)],
)
def test_two_repeats_that_are_equal_are_exact_only_where_something_is_counted(
    unit: str, verdict: Verdict
) -> None:
    old, new = (make_report(make_section(make_figure("f", [each] * 2, unit=unit))) for each in (10.0, 11.0))
    (row,) = compare(old, new).rows
    assert row.verdict is verdict


def test_blocks_of_one_go_that_are_equal_are_not_exact() -> None:
    samples = Samples(count=4, lower=1.0, median=1.0, upper=1.0, p95=1.0)
    old, new = (
        Figure(what="f", unit="MB", better="lower", series=(Series(values=(each, each), samples=samples),))
        for each in (1.0, 1.01)
    )
    (row,) = compare(make_report(make_section(old)), make_report(make_section(new))).rows
    assert row.verdict is Verdict.UNKNOWN
