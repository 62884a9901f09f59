"""Moments as text: UTC, with milliseconds, whatever the clocks say."""

import pytest

from agent.documents.times import Moment, utc


@pytest.mark.parametrize(
    ("unix_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_785_585_600.2504, "2026-08-01T12:00:00.250Z"),
        (0.9999, "1970-01-01T00:00:00.999Z"),
        (-1.5, "1969-12-31T23:59:58.500Z"),
    ],
)
def test_moment_is_utc_with_milliseconds(unix_s: float, text: str) -> None:
    assert utc(unix_s) == text


@pytest.mark.parametrize("unix_s", [1e18, -1e18, float("nan"), float("inf")])
def test_moment_that_no_calendar_has_is_empty(unix_s: float) -> None:
    assert utc(unix_s) == ""


def test_reading_of_the_monotonic_clock_becomes_a_time_of_day() -> None:
    moment = Moment(now_s=1000.0, unix_s=1_785_585_600.0)
    assert moment.text == "2026-08-01T12:00:00.000Z"
    assert moment.text_of(998.5) == "2026-08-01T11:59:58.500Z"
