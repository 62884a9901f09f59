"""Latencies in HdrHistograms."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reporting.histogram import from_text, joined, new_histogram, quantile_s, record, to_text


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(1e-6, 3000), min_size=1, max_size=40))
def test_text_keeps_every_quantile(values: list[float]) -> None:
    histogram = new_histogram()
    for each in values:
        record(histogram, each)
    back = from_text(to_text(histogram))
    assert back.get_total_count() == len(values)
    for quantile in (0.0, 0.5, 0.99, 1.0):
        assert quantile_s(back, quantile) == quantile_s(histogram, quantile)
    assert quantile_s(back, 1.0) == pytest.approx(max(values), rel=0.002, abs=1e-6)


def test_joined_histograms_have_the_quantiles_of_all_values() -> None:
    rng, whole, parts = random.Random(1), new_histogram(), [new_histogram() for _ in range(3)]
    for number in range(3000):
        value = rng.lognormvariate(-7, 1)
        record(whole, value)
        record(parts[number % 3], value)
    for quantile in (0.5, 0.9, 0.99, 0.999):
        assert quantile_s(joined(parts), quantile) == quantile_s(whole, quantile)


def test_what_is_too_short_or_too_long_counts_as_the_nearest() -> None:
    histogram = new_histogram()
    for each in (0.0, -1.0, 1e9):
        record(histogram, each)
    assert histogram.get_total_count() == 3
    assert quantile_s(histogram, 1.0) == pytest.approx(3600, rel=0.002)


def test_text_that_is_no_histogram_is_refused() -> None:
    for text in ("", "x", "HISTFAAAA"):
        with pytest.raises(ValueError, match="no HdrHistogram"):
            from_text(text)


def test_without_values_there_is_no_quantile() -> None:
    assert quantile_s(new_histogram(), 0.5) != quantile_s(new_histogram(), 0.5)  # NaN
