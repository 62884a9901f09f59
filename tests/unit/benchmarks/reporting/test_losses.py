"""Which differences are called a loss."""

import pytest

from benchmarks.reporting.format import Better, Figure, Section, Series
from benchmarks.reporting.histogram import new_histogram, record, to_text
from benchmarks.reporting.losses import losses, middle


def _section(better: Better, **ways: tuple[float | None, ...]) -> Section:
    series = tuple(Series(way=way, values=values) for way, values in ways.items())
    return Section(name="s", figures=(Figure(what="a pull", unit="s", better=better, series=series),))


def _losses(section: Section) -> list[str]:
    return [*losses(section, ("ours", "ours too"), ("theirs", "others"))]


def test_best_of_ours_is_held_against_the_best_of_the_others() -> None:
    section = _section(Better.LOWER, ours=(3.0,), **{"ours too": (2.0,)}, theirs=(1.0,), others=(9.0,))
    assert _losses(section) == ["a pull: ours too 2 s, theirs 1 s"]


def test_more_is_a_loss_only_where_less_is_better() -> None:
    assert not _losses(_section(Better.HIGHER, ours=(2.0,), theirs=(1.0,)))
    assert _losses(_section(Better.HIGHER, ours=(1.0,), theirs=(2.0,)))
    assert not _losses(_section(Better.NEITHER, ours=(1.0,), theirs=(2.0,)))


@pytest.mark.parametrize("ours", [1.0, 1.04])
def test_what_two_runs_of_the_same_differ_by_is_no_loss(ours: float) -> None:
    assert not _losses(_section(Better.LOWER, ours=(ours,), theirs=(1.0,)))


def test_way_whose_every_round_failed_is_not_compared() -> None:
    assert not _losses(_section(Better.LOWER, ours=(None, None), theirs=(1.0,)))
    assert not _losses(_section(Better.LOWER, ours=(1.0,)))


def test_middle_of_histograms_is_of_all_their_values() -> None:
    repeats = []
    for seconds in (0.001, 0.003, 0.003):
        histogram = new_histogram()
        record(histogram, seconds)
        repeats.append(to_text(histogram))
    figure = Figure(what="x", unit="ms", series=(Series(way="w", histograms=tuple(repeats)),))
    found = middle(figure, "w")
    assert found is not None
    assert abs(found - 3.0) < 0.01
