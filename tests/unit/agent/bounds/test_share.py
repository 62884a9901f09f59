"""Shares of the processor."""

import pytest

from agent.bounds.share import Share


def test_a_burst_is_free_and_what_goes_beyond_it_is_waited_for() -> None:
    share = Share(rate=0.1, burst_s=0.05, now_s=0.0)
    share.spend(0.05, 0.0)
    assert share.wait_s(0.0) == 0
    share.spend(0.01, 0.0)
    assert share.wait_s(0.0) == pytest.approx(0.1)


def test_a_debt_is_paid_with_time_and_a_share_never_grows_beyond_its_burst() -> None:
    share = Share(rate=0.1, burst_s=0.05, now_s=0.0)
    share.spend(0.15, 0.0)
    assert share.wait_s(0.5) == pytest.approx(0.5)
    assert share.wait_s(1.0) == pytest.approx(0)
    assert share.left_s(1000.0) == pytest.approx(0.05)


def test_what_would_take_longer_than_the_longest_wait_is_let_off() -> None:
    share = Share(rate=0.1, burst_s=0.05, now_s=0.0, wait_max_s=2.0)
    share.spend(100.0, 0.0)
    assert share.wait_s(0.0) == pytest.approx(2.0)
    assert share.wait_s(2.0) == pytest.approx(0)


def test_a_clock_that_stands_still_gives_nothing() -> None:
    share = Share(rate=0.1, burst_s=0.05, now_s=10.0)
    share.spend(0.05, 10.0)
    assert share.left_s(9.0) == pytest.approx(0)


def test_in_the_long_run_the_rate_is_kept() -> None:
    share, now_s, spent_s = Share(rate=0.1, burst_s=0.05, now_s=0.0), 0.0, 0.0
    while now_s < 100:
        share.spend(0.003, now_s)
        spent_s += 0.003
        now_s += share.wait_s(now_s)
        now_s += 0.0001
    assert spent_s == pytest.approx(10.0, rel=0.02)
