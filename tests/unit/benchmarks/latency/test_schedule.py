"""When each request is due."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.latency.schedule import starts


@given(rate=st.floats(0.5, 5000), seconds=st.floats(0.01, 2), seed=st.integers())
def test_each_interval_has_one_start_and_none_is_early(rate: float, seconds: float, seed: int) -> None:
    times = starts(rate, seconds, seed)
    assert len(times) == max(1, round(rate * seconds))
    for number, at_s in enumerate(times):
        assert number / rate <= at_s <= (number + 1) / rate
    assert times == sorted(times) == starts(rate, seconds, seed)


def test_nothing_is_due_without_rate_or_time() -> None:
    assert starts(0, 1) == starts(1, 0) == []
