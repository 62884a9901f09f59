"""Figures of runs: quantiles, and zones beside each other."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulator.figures import curve, quantile, ratio, small_of_large, spread_of
from tests.unit.benchmarks.simulator.runs import made_up


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_quantile_is_the_least_value_that_this_share_does_not_exceed(
    values: list[float], share: float
) -> None:
    ordered = sorted(values)
    found = quantile(ordered, share)
    assert sum(1 for each in ordered if each <= found) >= share * len(ordered) - 1e-6
    assert share == 0 or sum(1 for each in ordered if each < found) < share * len(ordered) + 1e-6


def test_curve_goes_from_the_fastest_to_the_slowest() -> None:
    points = curve([1.0, 2.0, 3.0])
    assert (points[0], points[-1], len(points)) == (1.0, 3.0, 101)
    assert list(points) == sorted(points)


def test_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile([], 0.5))


def test_zone_that_ends_last_is_compared_with_the_one_that_ends_first() -> None:
    assert spread_of({"a": [1.0, 2.0], "b": [3.0, 5.0], "nobody": []}) == pytest.approx(2.5)


def test_smallest_zone_is_compared_with_the_largest() -> None:
    seconds = {"big": [10.0] * 50, "middle": [99.0] * 9, "far": [13.0] * 3}
    assert small_of_large(seconds, {"big": 50, "middle": 9, "far": 3}) == pytest.approx(1.3)


def test_zones_of_one_size_are_not_told_apart() -> None:
    assert small_of_large({"a": [1.0], "b": [9.0]}, {"a": 1, "b": 1}) == 1.0


@pytest.mark.parametrize(("one", "other", "expected"), [(3, 2, 1.5), (0, 0, 1.0), (1, 0, math.inf)])
def test_ratio_of_nothing_to_nothing_is_one(one: float, other: float, expected: float) -> None:
    assert ratio(one, other) == expected


def test_document_has_the_ratios_too() -> None:
    document = made_up(dials=1000, dead_dials=1).document()
    assert document["p99_of_p50"] == pytest.approx(9 / 8)
    assert document["dead_share"] == pytest.approx(0.001)
