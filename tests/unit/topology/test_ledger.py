"""What bytes between zones cost: prices, exceptions, sums, and a bounded number of pairs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.twins import zone_key
from topology.ledger import CostLedger, Prices
from topology.placement import ZoneKey

A, B, FAR = zone_key("r/a"), zone_key("r/b"), zone_key("q/a")
PRICES = Prices(same_zone=0.0, cross_zone=0.01, cross_region=0.05)
GB = 10**9


@pytest.mark.parametrize(
    ("source", "destination", "usd"),
    [
        (A, A, 0.0),
        (A, B, 0.01),
        (B, A, 0.01),
        (A, FAR, 0.05),
        (A, None, 0.01),
        (None, A, 0.01),
        (None, None, 0.0),
        (zone_key("a"), zone_key("a"), 0.0),
        (zone_key("a"), zone_key("b"), 0.01),
        (zone_key("a"), A, 0.01),
    ],
)
def test_price_is_that_of_the_nearest_level_in_common(
    source: ZoneKey | None, destination: ZoneKey | None, usd: float
) -> None:
    assert PRICES.usd_per_gb(source, destination) == usd


@pytest.mark.parametrize("pair", [("r/a", "r/b"), ("a", "b"), ("r/a", "b"), ("a", "r/b")])
def test_exception_is_for_its_pair_and_direction_alone(pair: tuple[str, str]) -> None:
    prices = Prices(cross_zone=0.01, cross_region=0.05, pairs={pair: 0.5})
    assert prices.usd_per_gb(A, B) == 0.5
    assert prices.usd_per_gb(B, A) == 0.01
    assert prices.usd_per_gb(A, FAR) == 0.05


def test_exception_with_a_region_wins_over_one_by_the_zones_names() -> None:
    prices = Prices(pairs={("a", "b"): 1.0, ("r/a", "r/b"): 2.0})
    assert prices.usd_per_gb(A, B) == 2.0
    assert prices.usd_per_gb(zone_key("q/a"), zone_key("q/b")) == 1.0


def test_exception_can_give_a_zones_inside_a_price_or_make_a_pair_free() -> None:
    prices = Prices(same_zone=0.0, cross_zone=0.01, pairs={("a", "a"): 0.3, ("a", "b"): 0.0})
    assert prices.usd_per_gb(A, A) == 0.3
    assert prices.usd_per_gb(A, B) == 0.0


def test_gigabyte_is_10_to_the_9th() -> None:
    entry = CostLedger(PRICES).add(A, B, GB)
    assert (entry.source, entry.destination, entry.size_bytes) == ("r/a", "r/b", GB)
    assert entry.usd == pytest.approx(0.01)


def test_sums_are_by_direction_and_come_with_the_most_bytes_first() -> None:
    ledger = CostLedger(PRICES)
    for source, destination, size in ((A, B, 1), (B, A, 5), (A, B, 2), (A, A, 100)):
        ledger.add(source, destination, size)
    sums = [(entry.source, entry.destination, entry.size_bytes) for entry in ledger.entries()]
    assert sums == [("r/a", "r/a", 100), ("r/b", "r/a", 5), ("r/a", "r/b", 3)]


def test_unknown_zone_is_accounted_as_such() -> None:
    assert CostLedger(PRICES).add(None, A, GB).source == "unknown"
    assert CostLedger(PRICES).add(A, None, GB).destination == "unknown"


def test_number_of_pairs_is_bounded_and_no_byte_and_no_cent_is_lost() -> None:
    ledger = CostLedger(PRICES)
    for number in range(5000):
        ledger.add(zone_key(f"r/z{number}"), A, GB)
    ledger.add(zone_key("r/z0"), A, GB)
    entries = list(ledger.entries())
    assert len(entries) <= 130
    assert sum(entry.size_bytes for entry in entries) == 5001 * GB
    assert sum(entry.usd for entry in entries) == pytest.approx(50.01)
    assert (entries[0].source, entries[0].destination) == ("other", "other")


@given(
    sent=st.lists(
        st.tuples(st.sampled_from((A, B, FAR, None)), st.sampled_from((A, B, None)), st.integers(0, 10**15))
    )
)
def test_sums_are_what_the_entries_add_up_to(
    sent: list[tuple[ZoneKey | None, ZoneKey | None, int]],
) -> None:
    ledger = CostLedger(PRICES)
    added = [ledger.add(*each) for each in sent]
    sums = list(ledger.entries())
    assert sum(entry.size_bytes for entry in sums) == sum(size for _, _, size in sent)
    assert sum(entry.usd for entry in sums) == pytest.approx(sum(entry.usd for entry in added))
    assert len({(entry.source, entry.destination) for entry in sums}) == len(sums)


def test_totals_are_the_sums_of_all_pairs_and_bytes_within_a_zone_cross_nothing() -> None:
    ledger = CostLedger(PRICES)
    for source, destination in ((A, A), (A, B), (B, A), (A, FAR), (None, None), (None, A)):
        ledger.add(source, destination, GB)
    assert ledger.crossing_bytes == 4 * GB
    assert ledger.usd == pytest.approx(sum(entry.usd for entry in ledger.entries()))
