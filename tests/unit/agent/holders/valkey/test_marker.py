"""The marker: whose keys these are."""

from dataclasses import replace

import pytest

from agent.holders.valkey.layout import BITMAP_TTL_S, NUMBER_TTL_S
from agent.holders.valkey.marker import MARKER_LIFE_S, Marker, keyed, marker_key, named, read_marker
from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble

MINE = Marker(cluster="key:aaaa", number="0123456789abcdef", made_s=1_700_000_000)


def test_marker_is_read_as_it_is_written() -> None:
    assert read_marker(bytes(MINE), keyed(("aaaa",)), "p") == MINE
    assert marker_key("p") == "p:1:cluster"


def test_each_key_of_a_cluster_counts_while_it_is_replaced() -> None:
    for ids in (("aaaa", "bbbb"), ("bbbb", "aaaa")):
        assert read_marker(bytes(MINE), keyed(ids), "p") == MINE


@pytest.mark.parametrize("clusters", [keyed(("bbbb",)), named("aaaa"), ()])
def test_another_cluster_is_refused_and_named(clusters: tuple[str, ...]) -> None:
    with pytest.raises(IndexDown) as refused:
        read_marker(bytes(MINE), clusters, "p")
    assert refused.value.kind is IndexTrouble.FOREIGN
    assert "key:aaaa" in refused.value.words
    assert "valkey.prefix" in refused.value.hint


@pytest.mark.parametrize(
    "value",
    [None, 1, b"", b"x", b"2 key:aaaa 0123456789abcdef 1", b"1 key:aaaa 0123456789abcdef", b"\xff" * 500],
)
def test_value_of_another_version_or_program_is_refused(value: object) -> None:
    with pytest.raises(IndexDown) as refused:
        read_marker(value, keyed(("aaaa",)), "p")
    assert refused.value.kind is IndexTrouble.FOREIGN
    assert "p:1:cluster" in refused.value.words


def test_marker_outlives_every_other_key_and_not_by_a_day() -> None:
    assert max(BITMAP_TTL_S, NUMBER_TTL_S) < MARKER_LIFE_S <= 2 * NUMBER_TTL_S


def test_marker_is_the_same_one_under_another_key_of_its_cluster_and_none_of_another_number() -> None:
    assert MINE.is_in(bytes(MINE))
    assert MINE.is_in(bytes(replace(MINE, cluster="key:bbbb")))
    assert not MINE.is_in(bytes(replace(MINE, number="f" * 16)))
    assert not any(MINE.is_in(value) for value in (None, 1, b"", b"x"))
