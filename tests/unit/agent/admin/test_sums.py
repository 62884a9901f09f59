"""Sums as an entry of documents."""

import math

import pytest

from agent.admin.sums import sums_entry, usd_of


def test_entry_names_all_tiers_and_takes_the_costs_off_the_savings() -> None:
    entry = sums_entry((1, 2, 3, 4, 5, 60, 7, 0.5, 2.0, 10, 9, 1), 12.34567)
    assert [(each.tier, each.size_bytes) for each in entry.bytes_by_tier] == [
        ("node", 1),
        ("rack", 2),
        ("zone", 3),
        ("region", 4),
        ("remote", 5),
    ]
    assert (entry.saved_bytes, entry.crossing_bytes) == (60, 7)
    assert (entry.usd, entry.usd_saved, entry.net_usd_saved) == (0.5, 2.0, 1.5)
    assert (entry.requests, entry.served, entry.failed, entry.seconds) == (10, 9, 1, 12.346)


def test_sum_that_rounding_made_negative_is_zero() -> None:
    entry = sums_entry((-1e-9,) * 12, 0.0)
    assert (entry.saved_bytes, entry.usd, entry.requests) == (0, 0.0, 0)


@pytest.mark.parametrize("value", [-0.0, -1e-12, 0.0, 1e-12])
def test_money_that_is_nothing_has_no_sign(value: float) -> None:
    assert math.copysign(1.0, usd_of(value)) == 1.0
    entry = sums_entry((0, 0, 0, 0, 0, 0, 0, max(0.0, -value), 0.0, 0, 0, 0), 1.0)
    assert math.copysign(1.0, entry.net_usd_saved) == 1.0
