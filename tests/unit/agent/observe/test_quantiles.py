"""Quantiles of durations: near the true ones, at a fixed cost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.observe.quantiles import Durations, joined


def counted(*seconds: float) -> Durations:
    durations = Durations()
    for each in seconds:
        durations.add(each)
    return durations


@given(st.lists(st.floats(min_value=60e-6, max_value=80), min_size=1, max_size=200))
def test_quantile_is_within_seven_per_cent_of_the_true_one(values: list[float]) -> None:
    (found,) = counted(*values).quantiles(0.95)
    true = sorted(values)[math.ceil(0.95 * len(values)) - 1]
    assert found == pytest.approx(true, rel=0.07)


def test_of_nothing_there_are_no_quantiles() -> None:
    assert Durations().quantiles(0.5, 0.99) == (None, None)


def test_several_quantiles_are_found_in_one_look_and_ascend() -> None:
    low, middle, high = counted(*(n / 1000 for n in range(1, 101))).quantiles(0.5, 0.95, 0.99)
    assert low is not None
    assert middle is not None
    assert high is not None
    assert low < middle <= high


@pytest.mark.parametrize("absurd", [math.nan, math.inf, -1.0])
def test_what_is_no_duration_counts_as_nothing(absurd: float) -> None:
    assert counted(absurd).count == 0


@pytest.mark.parametrize("extreme", [0.0, 1e-9, 1e6])
def test_what_is_outside_of_the_scale_counts_at_its_end(extreme: float) -> None:
    (found,) = counted(extreme).quantiles(0.5)
    assert found is not None
    assert 5e-5 <= found <= 100


def test_joined_ones_count_as_one_and_stay_as_they_are() -> None:
    one, other = counted(0.001), counted(0.002, 0.002)
    assert joined((one, other)).count == 3
    assert (one.count, other.count) == (1, 2)
    assert joined(()).quantiles(0.5) == (None,)


def test_cleared_ones_are_empty() -> None:
    durations = counted(0.001)
    durations.clear()
    assert durations.quantiles(0.5) == (None,)
