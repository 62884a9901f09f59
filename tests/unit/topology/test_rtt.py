"""Estimates of one peer's round trip: what is believed of samples with jitter, spikes, age and odd clocks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.rtt import RttEstimator, blend, clamped, is_plausible

WINDOW_S, HALF_LIFE_S = 20.0, 120.0
SAMPLES = st.floats(1.0, 1e7)


def estimator() -> RttEstimator:
    return RttEstimator(window_s=WINDOW_S, half_life_s=HALF_LIFE_S)


def low_us(made: RttEstimator, now_s: float) -> float:
    estimate = made.estimate(now_s)
    assert estimate is not None
    return estimate.low_us


def fed(*samples_us: float, start_s: float = 100.0, every_s: float = 1.0) -> tuple[RttEstimator, float]:
    """An estimator with these samples, and the time of the last one."""
    made, now_s = estimator(), start_s
    for number, rtt_us in enumerate(samples_us):
        now_s = start_s + number * every_s
        made.add(rtt_us, now_s)
    return made, now_s


def test_nothing_is_known_without_samples() -> None:
    assert estimator().estimate(0.0) is None


def test_one_sample_is_an_estimate_of_itself() -> None:
    made, now_s = fed(300.0)
    estimate = made.estimate(now_s)
    assert estimate is not None
    assert (estimate.low_us, estimate.min_us, estimate.jitter_us) == (300.0, 300.0, 0.0)
    assert (estimate.samples, estimate.age_s) == (1, 0.0)
    assert estimate.weight == pytest.approx(1 / 3)


def test_spikes_do_not_move_the_estimate() -> None:
    made, now_s = fed(300, 12_000, 310, 9_000, 305, 11_000, 8_000, 320, 302, 12_000)
    assert 300 <= low_us(made, now_s) <= 310


def test_one_sample_too_good_to_be_true_is_not_the_estimate() -> None:
    made, now_s = fed(300, 301, 302, 5, 303, 304, 305, 306, 307, 308)
    assert low_us(made, now_s) >= 300


def test_minimum_jitter_count_and_age_are_told() -> None:
    made, now_s = fed(300, 310, 320, 330, 340)
    estimate = made.estimate(now_s + 7)
    assert estimate is not None
    assert (estimate.min_us, estimate.samples, estimate.age_s, estimate.jitter_us) == (300, 5, 7, 10)


def test_way_that_became_shorter_is_believed_after_a_few_samples() -> None:
    made, now_s = fed(*[900.0] * 40, every_s=0.5)
    for taken in range(1, 9):
        made.add(300.0, now_s + taken)
        if low_us(made, now_s + taken) == 300.0:
            break
    assert low_us(made, now_s + taken) == 300.0


@pytest.mark.parametrize("every_s", [0.1, 0.5, 2.0, 19.0, 50.0])
def test_way_that_became_longer_is_believed_within_the_window_and_one_sample(every_s: float) -> None:
    made, changed_s = fed(*[300.0] * 64, every_s=every_s)
    now_s = changed_s
    while now_s <= changed_s + WINDOW_S:
        now_s += every_s
        made.add(900.0, now_s)
    assert low_us(made, now_s) == 900.0


def test_estimate_keeps_its_weight_for_the_window_and_then_halves() -> None:
    made, now_s = fed(300.0, 310.0, 305.0)
    weights = [
        estimate.weight if (estimate := made.estimate(now_s + WINDOW_S + late_s)) else 0.0
        for late_s in (-WINDOW_S, 0, HALF_LIFE_S, 2 * HALF_LIFE_S, 100 * HALF_LIFE_S)
    ]
    assert weights == pytest.approx([1.0, 1.0, 0.5, 0.25, 0.0])


def test_estimate_that_is_too_old_says_nothing() -> None:
    made, now_s = fed(300.0)
    assert made.estimate(now_s + 1e6) is None
    assert made.estimate(now_s + 1e300) is None


def test_new_sample_after_a_long_silence_is_the_estimate() -> None:
    made, now_s = fed(*[300.0] * 20)
    made.add(900.0, now_s + 1e5)
    assert low_us(made, now_s + 1e5) == 900.0


def test_clock_that_jumps_back_leaves_an_estimate_and_no_negative_age() -> None:
    made, now_s = fed(300.0, 310.0, 320.0)
    for earlier_s in (now_s - 1, now_s - 50, 0.0, -1e9):
        estimate = made.estimate(earlier_s)
        assert estimate is not None
        assert estimate.age_s >= 0
        assert estimate.weight == pytest.approx(min(1.0, estimate.samples / 3))
        made.add(305.0, earlier_s)
        assert made.estimate(earlier_s) is not None


def test_samples_from_before_a_jump_back_do_not_outlive_the_window() -> None:
    made, _ = fed(*[300.0] * 20, start_s=1e6)
    for number in range(23):
        made.add(900.0, 10.0 + number)
    assert low_us(made, 32.0) == 900.0


@pytest.mark.parametrize("rtt_us", [math.nan, math.inf, -math.inf, -1.0, 0.0, 0.5, 1.1e7, 1e300])
def test_round_trip_that_cannot_be_true_is_not_plausible(rtt_us: float) -> None:
    assert not is_plausible(rtt_us)


@pytest.mark.parametrize("rtt_us", [1.0, 26.0, 300.0, 1e7])
def test_round_trip_that_can_be_true_is_plausible_and_not_clamped(rtt_us: float) -> None:
    assert is_plausible(rtt_us)
    assert clamped(rtt_us) == rtt_us


@given(rtt_us=st.floats())
def test_clamped_value_is_plausible_or_nothing(rtt_us: float) -> None:
    value = clamped(rtt_us)
    assert value is None or is_plausible(value)
    assert (value is None) == (not math.isfinite(rtt_us) or rtt_us < 0)


@given(
    samples=st.lists(st.tuples(SAMPLES, st.floats(-1e6, 1e6)), min_size=1, max_size=80),
    later_s=st.floats(-1e7, 1e7),
)
def test_estimate_is_finite_and_within_the_samples_whatever_the_clock_does(
    samples: list[tuple[float, float]], later_s: float
) -> None:
    made, now_s = estimator(), 0.0
    for rtt_us, step_s in samples:
        now_s += step_s
        made.add(rtt_us, now_s)
        estimate = made.estimate(now_s + later_s)
        assert made.estimate(now_s) is not None
        if estimate is None:
            continue
        values = [value for value, _ in samples]
        assert min(values) <= estimate.min_us <= estimate.low_us <= max(values)
        assert 0 <= estimate.jitter_us <= max(values) - min(values)
        assert 0 < estimate.weight <= 1
        assert math.isfinite(estimate.age_s)
        assert estimate.age_s >= 0
        assert 1 <= estimate.samples <= 80


@given(low=SAMPLES, prior=SAMPLES, weight=st.floats(0, 1))
def test_blend_is_between_the_estimate_and_the_prior(low: float, prior: float, weight: float) -> None:
    assert min(low, prior) * 0.999999 <= blend(low, prior, weight) <= max(low, prior) * 1.000001


def test_blend_goes_from_the_estimate_to_the_prior() -> None:
    blends = [blend(100.0, 900.0, weight / 10) for weight in range(10, -1, -1)]
    assert blends == sorted(blends)
    assert blends[0] == 100.0
    assert blends[-1] == pytest.approx(900.0)
