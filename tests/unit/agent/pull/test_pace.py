"""How long to wait for a first byte, and how fast a tier's bodies are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pull.pace import Pace
from topology.placement import Tier

PATIENCE_S = 0.5
MIB = 1 << 20
SECONDS = st.floats(0.0, 100.0)


def measured(*first_bytes_s: float, tier: Tier = Tier.ZONE) -> Pace:
    pace = Pace(patience_s=PATIENCE_S)
    for seconds in first_bytes_s:
        pace.first_byte(tier, seconds)
    return pace


def test_patience_decides_in_every_tier_until_enough_was_measured() -> None:
    assert measured(*[0.02] * 7).hedge_s() == dict.fromkeys(Tier, PATIENCE_S)
    assert measured(*[0.02] * 8).hedge_s()[Tier.ZONE] == 0.02


def test_tier_says_nothing_about_another() -> None:
    hedge_s = measured(*[0.02] * 64, tier=Tier.ZONE).hedge_s()
    assert hedge_s[Tier.REGION] == hedge_s[Tier.REMOTE] == PATIENCE_S


@pytest.mark.parametrize(("slow", "expected_s"), [(3, 0.02), (4, 0.3)])
def test_wait_is_what_nineteen_of_twenty_first_bytes_took_at_most(slow: int, expected_s: float) -> None:
    assert measured(*[0.02] * (64 - slow), *[0.3] * slow).hedge_s()[Tier.ZONE] == expected_s


@pytest.mark.parametrize(("seconds", "expected_s"), [(0.0001, 0.01), (7.0, PATIENCE_S)])
def test_wait_has_bounds(seconds: float, expected_s: float) -> None:
    assert measured(*[seconds] * 20).hedge_s()[Tier.ZONE] == expected_s


def test_only_the_last_ones_count() -> None:
    assert measured(*[0.4] * 500, *[0.02] * 64).hedge_s()[Tier.ZONE] == 0.02


@given(first_bytes_s=st.lists(SECONDS, max_size=100))
def test_wait_is_never_longer_than_patience_and_never_instant(first_bytes_s: list[float]) -> None:
    assert 0.01 <= measured(*first_bytes_s).hedge_s()[Tier.ZONE] <= PATIENCE_S


def test_usual_rate_is_the_median_of_a_tiers_bodies_once_there_are_enough() -> None:
    pace = Pace(patience_s=PATIENCE_S)
    for number in range(7):
        pace.body(Tier.ZONE, 10 * MIB, 1.0 + number)
    assert pace.median_bytes_per_s(Tier.ZONE) is None
    pace.body(Tier.ZONE, 10 * MIB, 0.1)
    pace.body(Tier.ZONE, 10 * MIB, 0.1)
    assert pace.median_bytes_per_s(Tier.ZONE) == 10 * MIB / 3.0
    assert pace.median_bytes_per_s(Tier.REGION) is None


@pytest.mark.parametrize(("size_bytes", "seconds"), [(4 * MIB - 1, 0.001), (10 * MIB, 0.0)])
def test_body_that_says_nothing_about_the_rate_does_not_count(size_bytes: int, seconds: float) -> None:
    pace = Pace(patience_s=PATIENCE_S)
    for _ in range(20):
        pace.body(Tier.ZONE, size_bytes, seconds)
    assert pace.median_bytes_per_s(Tier.ZONE) is None
