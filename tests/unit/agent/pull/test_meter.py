"""The rate of one body over a window, and whether its source or its reader limits it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pull.meter import TICK_S, Meter, Rate

WINDOW_S = 3.0


def test_nothing_is_said_more_often_than_a_tick() -> None:
    meter = Meter(100.0, window_s=WINDOW_S)
    meter.moved_bytes = 1000
    assert meter.rate(100.0) is None
    assert meter.rate(100.0 + TICK_S * 0.99) is None
    assert meter.rate(100.0 + TICK_S) == Rate(bytes_per_s=4000.0, over_s=TICK_S, source_bound=False)
    assert meter.rate(100.0 + TICK_S * 1.5) is None


def test_rate_is_that_of_the_window_and_not_of_what_was_before() -> None:
    meter = Meter(0.0, window_s=WINDOW_S)
    meter.moved_bytes = 10**9
    now_s = 0.0
    rate = None
    for _ in range(12):
        now_s += 0.5
        rate = meter.rate(now_s)
        meter.moved_bytes += 50
    assert rate is not None
    assert rate.over_s == WINDOW_S
    assert rate.bytes_per_s == 100.0


def test_body_that_moves_in_bursts_further_apart_than_the_window_is_judged_over_the_whole_gap() -> None:
    meter = Meter(0.0, window_s=WINDOW_S)
    assert meter.rate(1.0) is not None
    meter.moved_bytes = 900
    rate = meter.rate(10.0)
    assert rate is not None
    assert rate.over_s >= 9.0
    assert rate.bytes_per_s <= 100.0


@pytest.mark.parametrize(("waited_s", "source_bound"), [(0.49, False), (0.5, True), (1.0, True)])
def test_source_is_the_slower_one_if_it_was_waited_for_half_of_the_time(
    waited_s: float, source_bound: bool
) -> None:
    meter = Meter(0.0, window_s=WINDOW_S)
    meter.waited_s = waited_s
    rate = meter.rate(1.0)
    assert rate is not None
    assert rate.source_bound is source_bound


@given(steps=st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 10**9), st.booleans()), max_size=50))
def test_looks_are_of_at_least_the_window_once_it_is_over_and_never_negative(
    steps: list[tuple[float, int, bool]],
) -> None:
    meter = Meter(0.0, window_s=WINDOW_S)
    now_s = 0.0
    for after_s, size_bytes, waits in steps:
        now_s += after_s
        meter.moved_bytes += size_bytes
        meter.waited_s += after_s if waits else 0.0
        rate = meter.rate(now_s)
        if rate is not None:
            assert rate.bytes_per_s >= 0.0
            assert TICK_S <= rate.over_s <= now_s
            assert rate.over_s >= min(now_s, WINDOW_S)
