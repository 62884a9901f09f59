"""A Cluster: which primary has a key, and what happens when slots move. A real one: test_connecting.py."""

from typing import Any

import pytest

from agent.config import Endpoint
from agent.holders.valkey.shards import SlotRange, ranges_of, slot_of
from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble

SEED = Endpoint(host="10.0.0.9", port=6379)


def served(*spans: tuple[int, int], host: bytes | None = b"10.0.0.1") -> list[list[Any]]:
    return [[first, last, [host, 7000, b"id", []], [b"10.0.0.2", 7001, b"replica"]] for first, last in spans]


def test_slots_are_at_the_first_node_of_each_range_in_any_order() -> None:
    place = Endpoint(host="10.0.0.1", port=7000)
    assert ranges_of(served((100, 16383), (0, 99)), SEED) == (
        SlotRange(first=0, last=99, primary=place),
        SlotRange(first=100, last=16383, primary=place),
    )


@pytest.mark.parametrize("host", [b"", None])
def test_host_that_a_node_does_not_know_is_the_one_that_was_asked(host: bytes | None) -> None:
    (found,) = ranges_of(served((0, 16383), host=host), SEED)
    assert found.primary == Endpoint(host="10.0.0.9", port=7000)


@pytest.mark.parametrize("spans", [[], [(0, 99)], [(1, 16383)], [(0, 99), (101, 16383)]])
def test_cluster_that_does_not_serve_all_slots_is_not_ready(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(IndexDown) as refused:
        ranges_of(served(*spans), SEED)
    assert refused.value.kind is IndexTrouble.NOT_READY


@pytest.mark.parametrize(
    "reply", [None, 1, b"x", [1], [[1]], [[0, 16383, []]], [[0, 16383, [b"\xff", b"x"]]]]
)
def test_answer_that_makes_no_sense_is_garbage(reply: object) -> None:
    with pytest.raises(IndexDown) as refused:
        ranges_of(reply, SEED)
    assert refused.value.kind is IndexTrouble.GARBAGE


def test_slot_is_that_of_the_key_and_only_of_what_is_in_braces() -> None:
    same = [("GET", "p:{ab}:1"), ("SETBIT", b"q:{ab}:2", 1, 1), ("EVAL", "script", 2, "{ab}", "x")]
    assert len({slot_of(command) for command in same}) == 1
    assert slot_of(("GET", "foo")) == 12182  # as the Cluster's specification has it
    assert slot_of(("PING",)) is None
