"""Numbers and names as people read them."""

import math

import pytest

from agent.cli import formats
from agent.documents.topology import ZoneEntry


def zone(region: str | None, name: str | None) -> ZoneEntry:
    return ZoneEntry(region=region, zone=name, nodes=1)


def test_zone_is_named_with_its_region() -> None:
    assert formats.zone_name(zone("eu", "a")) == "eu/a"
    assert formats.zone_name(zone(None, "a")) == "a"
    assert formats.zone_name(zone("eu", None)) == "eu/no zone"


def test_unknown_costs_are_sorted_last() -> None:
    assert sorted([None, 9e9, 1.0], key=formats.or_far) == [1.0, 9e9, None]


@pytest.mark.parametrize(
    ("cost_us", "text"),
    [
        (None, "–"),
        (0.0, "0.00 ms"),
        (4.2, "0.004 ms"),
        (10.0, "0.01 ms"),
        (312.4, "0.31 ms"),
        (123_456.0, "123 ms"),
    ],
)
def test_costs_are_milliseconds(cost_us: float | None, text: str) -> None:
    assert formats.ms(cost_us) == text


@pytest.mark.parametrize(
    ("age_s", "text"),
    [
        (-1.0, "0 s ago"),
        (119.4, "119 s ago"),
        (120.0, "2 min ago"),
        (7200.0, "2 h ago"),
        (172_800.0, "2 d ago"),
        (math.inf, "long ago"),
        (math.nan, "long ago"),
    ],
)
def test_age_has_the_largest_unit_that_gives_at_least_two(age_s: float, text: str) -> None:
    assert formats.age(age_s) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(None, "–"), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB")]
)
def test_sizes_are_in_powers_of_a_thousand(size_bytes: float | None, text: str) -> None:
    assert formats.size(size_bytes) == text


def test_counts_have_their_plural() -> None:
    assert [formats.count(number, "node") for number in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]
