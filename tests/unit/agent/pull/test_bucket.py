"""The token bucket: the rate in the long run, a bounded burst, and no limit if it is 0."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pull.bucket import TokenBucket

RATE = 1000.0


def test_without_a_limit_nobody_ever_waits() -> None:
    bucket = TokenBucket(0)
    assert bucket.piece_bytes is None
    assert [bucket.take(10**12, now_s) for now_s in (0.0, 0.0, 1.0)] == [0.0, 0.0, 0.0]


def test_burst_of_a_tenth_of_a_second_is_free_and_what_is_beyond_is_waited_off() -> None:
    bucket = TokenBucket(RATE)
    assert bucket.take(100, 50.0) == 0.0
    assert bucket.take(500, 50.0) == 0.5
    assert bucket.take(0, 50.5) == 0.0


def test_large_piece_delays_those_behind_it() -> None:
    bucket = TokenBucket(RATE)
    assert bucket.take(2100, 0.0) == 2.0
    assert bucket.take(1, 1.0) == pytest.approx(1.001)


def test_time_that_nobody_used_is_not_saved_up() -> None:
    bucket = TokenBucket(RATE)
    bucket.take(100, 0.0)
    assert bucket.take(300, 1000.0) == pytest.approx(0.2)


def test_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = TokenBucket(RATE)
    bucket.take(100, 10.0)
    assert bucket.take(100, 5.0) == pytest.approx(0.1)


def test_piece_is_a_burst_and_shared_among_those_who_take() -> None:
    bucket = TokenBucket(RATE)
    assert bucket.piece_bytes == 100
    bucket.takers = 1
    assert bucket.piece_bytes == 100
    bucket.takers = 4
    assert bucket.piece_bytes == 25
    bucket.takers = 10_000
    assert bucket.piece_bytes == 1
    assert TokenBucket(1).piece_bytes == 1


@given(
    takes=st.lists(st.tuples(st.integers(0, 5000), st.floats(0.0, 3.0)), min_size=1, max_size=60),
    rate=st.sampled_from((1.0, 1000.0, 12e6)),
)
def test_taker_that_waits_as_told_never_gets_more_than_the_rate_and_a_burst(
    takes: list[tuple[int, float]], rate: float
) -> None:
    bucket = TokenBucket(rate)
    now_s, taken_bytes = 0.0, 0
    for size_bytes, idle_s in takes:
        taken_bytes += size_bytes
        now_s += bucket.take(size_bytes, now_s)
        assert taken_bytes <= rate * (now_s + 0.1) * (1 + 1e-6) + 1e-6
        now_s += idle_s


@given(takes=st.lists(st.integers(1, 5000), min_size=1, max_size=60))
def test_taker_that_always_wants_more_gets_the_rate(takes: list[int]) -> None:
    bucket = TokenBucket(RATE)
    now_s = 0.0
    for size_bytes in takes:
        now_s += bucket.take(size_bytes, now_s)
    assert now_s == pytest.approx(max(0.0, (sum(takes) - 100) / RATE))
