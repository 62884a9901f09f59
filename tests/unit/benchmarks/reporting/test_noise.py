"""Whether a figure changed, or only its noise: held against distributions that are known."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reporting.noise import (
    change,
    changed,
    false_discoveries,
    student_chance,
    student_quantile,
    suspected,
    welch,
)

_Draw = Callable[[random.Random], float]

DISTRIBUTIONS: dict[str, _Draw] = {
    "normal, 5 %": lambda rng: 100 * rng.gauss(1, 0.05),
    "log-normal, 20 %": lambda rng: 100 * rng.lognormvariate(0, 0.2),
    "exponential, above a floor": lambda rng: 100 + rng.expovariate(1 / 20),
    "heavy tail": lambda rng: 100 * rng.paretovariate(3),
    "now and then three times as slow": lambda rng: 100 * (3 if rng.random() < 0.1 else rng.gauss(1, 0.03)),
    "two kinds of repeats": lambda rng: rng.gauss(100 if rng.random() < 0.5 else 140, 2),
}
_RUNS = 120


def _alarm(rng: random.Random, draw: _Draw, repeats: int, figures: int, factor: float = 1.0) -> list[bool]:
    changes = [
        change([draw(rng) for _ in range(repeats)], [factor * draw(rng) for _ in range(repeats)])
        for _ in range(figures)
    ]
    return changed(changes)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("repeats", [3, 5, 8])
def test_two_runs_of_the_same_thing_are_called_different_in_at_most_a_few_per_cent(
    name: str, repeats: int
) -> None:
    rng = random.Random(f"{name} {repeats}")
    alarms = sum(any(_alarm(rng, DISTRIBUTIONS[name], repeats, figures=12)) for _ in range(_RUNS))
    assert alarms <= 0.07 * _RUNS, f"{alarms} of {_RUNS} comparisons of 12 figures each"


@pytest.mark.parametrize("figures", [1, 10, 60])
def test_number_of_figures_makes_no_more_false_alarms(figures: int) -> None:
    rng = random.Random(figures)
    alarms = sum(any(_alarm(rng, DISTRIBUTIONS["normal, 5 %"], 5, figures)) for _ in range(_RUNS // 2))
    assert alarms <= 0.08 * _RUNS // 2


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_true_change_of_a_fifth_is_found_in_five_repeats_that_spread_by_a_twentieth(factor: float) -> None:
    rng = random.Random(7)
    found = sum(_alarm(rng, DISTRIBUTIONS["normal, 5 %"], 5, 1, factor)[0] for _ in range(_RUNS))
    assert found >= 0.95 * _RUNS


def test_true_change_of_a_fifth_is_found_among_forty_figures_that_did_not_change() -> None:
    rng, found = random.Random(8), 0
    for _ in range(100):
        old, new = ([rng.gauss(1, 0.03) for _ in range(5)] for _ in range(2))
        changes = [change(old, [1.2 * each for each in new])]
        changes += [change(*([rng.gauss(1, 0.03) for _ in range(5)] for _ in range(2))) for _ in range(40)]
        found += changed(changes)[0]
    assert found >= 0.9 * 100


def test_interval_holds_the_true_change_in_95_per_cent() -> None:
    rng, held = random.Random(9), 0
    for _ in range(600):
        found = change(
            [rng.lognormvariate(0, 0.1) for _ in range(6)],
            [1.3 * rng.lognormvariate(0, 0.1) for _ in range(6)],
        )
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.3 <= found.high
    assert 550 <= held <= 590


def test_change_below_the_floor_is_none_however_sure_it_is() -> None:
    rng = random.Random(10)
    old, new = ([factor * rng.gauss(1, 0.0001) for _ in range(10)] for factor in (1.0, 1.02))
    assert changed([change(old, new)]) == [False]
    assert changed([change(old, new)], floor=0.01) == [True]


@pytest.mark.parametrize(
    ("old", "new", "differs"), [(3, 3, False), (3, 4, True), (0, 0, False), (0, 1, True)]
)
def test_counts_that_never_vary_differ_exactly(old: float, new: float, differs: bool) -> None:
    found = change([old] * 3, [new] * 3, counted=True)
    assert found is not None
    assert found.exact
    assert changed([found]) == [differs]


@pytest.mark.parametrize(("repeats", "differs"), [(2, False), (3, False), (4, False), (5, True)])
def test_measured_values_that_happen_to_repeat_are_a_verdict_only_with_enough_repeats(
    repeats: int, differs: bool
) -> None:
    found = change(
        [0.01] * repeats, [0.02] * repeats
    )  # a step of a clock that ticks a hundred times a second
    assert found is not None
    assert not found.exact
    assert changed([found]) == [differs]


def test_measured_values_that_happen_to_repeat_have_a_floor() -> None:
    assert changed([change([1.0] * 9, [1.02] * 9)]) == [False]
    assert changed([change([1.0] * 9, [1.02] * 9, counted=True)]) == [True]


def test_three_repeats_are_a_suspicion_and_no_verdict() -> None:
    found = change([10.0, 10.1, 10.2], [20.0, 20.1, 20.2])
    assert found is not None
    assert changed([found]) == [False]
    assert suspected(found)


@pytest.mark.parametrize("repeats", [1, 2])
def test_too_few_values_are_no_evidence(repeats: int) -> None:
    found = change([1.0, 1.1][:repeats], [9.0, 9.1][:repeats])
    assert found is not None
    assert found.chance is None
    assert found.ratio > 7
    assert changed([found]) == [False]


def test_no_value_is_no_change() -> None:
    assert change([], [1.0]) is None
    assert changed([None]) == [False]


@given(
    old=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=8),
    new=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=8),
)
def test_any_values_have_a_change_with_a_probability(old: list[float], new: list[float]) -> None:
    found = change(old, new)
    assert found is not None
    assert found.chance is None or 0 <= found.chance <= 1 + 1e-9
    assert not math.isnan(found.ratio)
    if found.low is not None and found.high is not None:
        assert found.low <= found.high


@given(values=st.lists(st.floats(0.001, 1e6), min_size=3, max_size=8), factor=st.floats(0.1, 10))
def test_unit_changes_nothing(values: list[float], factor: float) -> None:
    other = [each * 1.1 + 0.01 for each in values]
    here, there = (
        change(values, other),
        change([each * factor for each in values], [each * factor for each in other]),
    )
    assert here is not None
    assert there is not None
    assert there.ratio == pytest.approx(here.ratio, rel=1e-3, abs=1e-6)


@given(values=st.lists(st.floats(0.001, 1e6), min_size=3, max_size=8))
def test_nothing_differs_from_itself(values: list[float]) -> None:
    assert changed([change(values, values)]) == [False]


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.30265), (4, 2.77645), (10, 2.22814), (30, 2.04227), (1000, 1.96234)],
)
def test_student_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_quantile(0.05, freedom) == pytest.approx(quantile, rel=1e-5)
    assert student_chance(quantile, freedom) == pytest.approx(0.05, rel=1e-4)


def test_welch_gives_the_published_example() -> None:
    """The third example of the article on Welch's test: p = 0.036."""
    old = [19.8, 20.4, 19.6, 17.8, 18.5, 18.9, 18.3, 18.9, 19.5, 22.0]
    new = [28.2, 26.6, 20.1, 23.3, 25.2, 22.1, 17.7, 27.6, 20.6, 13.7, 23.2, 17.5, 20.6, 18.0, 23.9]
    new += [21.6, 24.3, 20.4, 23.9, 13.3]
    found = welch(old, new)
    assert found is not None
    assert found.chance == pytest.approx(0.036, abs=0.001)


@given(chances=st.lists(st.none() | st.floats(0, 1), max_size=30))
def test_rule_for_many_figures_lies_between_none_and_each_alone(chances: list[float | None]) -> None:
    found = false_discoveries(chances)
    for chance, likely in zip(chances, found, strict=True):
        if likely:
            assert chance is not None
            assert chance <= 0.05
        elif chance is not None:
            assert chance > 0.05 / len([each for each in chances if each is not None])
