"""Node numbers: read from one value, taken from this node's own list of members, chosen apart."""

import random

from hypothesis import given
from hypothesis import strategies as st

from agent.holders.bitmap import NUMBERS_MAX
from agent.holders.valkey.layout import BITMAP_TTL_S, EPOCH_S, NUMBER_TTL_S
from agent.holders.valkey.numbers import RENEWED_S, SLOT_BYTES, Numbers, slot_value, who_of
from tests.unit.twins import node

EMPTY = b"\0" * SLOT_BYTES


def table(*slots: tuple[str, float] | None) -> bytes:
    return b"".join(EMPTY if slot is None else slot_value(node(slot[0]), slot[1]) for slot in slots)


def known(*slots: tuple[str, float] | None) -> Numbers:
    numbers = Numbers()
    numbers.learn(table(*slots))
    return numbers


def test_the_numbers_of_members_are_found_by_their_names() -> None:
    numbers = known(("a", 10), None, ("b", 20))
    assert numbers.of([node("a"), node("b"), node("c")]) == {"a": 0, "b": 2}
    assert numbers.number_of(node("c")) is None


def test_a_part_of_the_value_says_the_same_as_the_whole() -> None:
    numbers = Numbers()
    numbers.learn(table(("b", 20)), first=700)
    assert numbers.number_of(node("b")) == 700


def test_a_number_that_changed_hands_is_its_new_owners() -> None:
    numbers = known(("old", 10))
    before = numbers.generation
    numbers.learn(table(("new", 9000)))
    assert numbers.number_of(node("new")) == 0
    assert numbers.number_of(node("old")) is None
    assert numbers.generation != before


def test_nobody_has_a_number_of_which_no_bit_can_be_left_so_that_its_next_owner_is_asked_for() -> None:
    numbers = Numbers()
    numbers.learn(table(("dead", 1000.0), ("alive", 1000.0)), now_s=1000.0)
    assert numbers.unknown(0b11) == 0
    before, now_s = numbers.generation, 1000.0 + 2 * EPOCH_S
    numbers.learn(table(("dead", 1000.0), ("alive", now_s - RENEWED_S)), now_s=now_s)
    assert numbers.unknown(0b11) == 0b01
    assert numbers.number_of(node("dead")) is None
    assert numbers.generation != before
    numbers.learn(table(("new", now_s)), now_s=now_s)
    assert numbers.unknown(0b11) == 0
    assert numbers.number_of(node("new")) == 0


def test_a_number_is_forgotten_some_time_before_it_may_come_to_another_node() -> None:
    """All numbers are read again within 12 minutes."""
    numbers = known(("dead", 1000.0))
    numbers.learn(table(("dead", 1000.0)), now_s=1000.0 + NUMBER_TTL_S - 720.0)
    assert numbers.unknown(0b1) == 0b1


def test_of_two_numbers_of_one_node_the_later_renewed_one_counts() -> None:
    assert known(("a", 10), ("a", 20)).number_of(node("a")) == 1
    assert known(("a", 20), ("a", 10)).number_of(node("a")) == 0


def test_a_slot_from_the_future_hides_no_number_of_its_node() -> None:
    """Somebody wrote it, or the server's clock was ahead by a day."""
    numbers = Numbers()
    numbers.learn(table(("a", 1000), ("a", 1000 + 86_400)), now_s=1000.0)
    assert numbers.number_of(node("a")) == 0


def test_a_node_is_found_again_once_the_servers_clock_is_set_back() -> None:
    numbers = Numbers()
    ahead_s, now_s = 1000.0 + 86_400, 1000.0
    numbers.learn(table(None, ("a", ahead_s)), now_s=ahead_s)
    for _ in range(2):  # the second time each slot is seen by the new clock
        numbers.learn(table(("a", now_s), ("a", ahead_s)), now_s=now_s)
    assert numbers.number_of(node("a")) == 0


def test_reading_the_same_again_changes_nothing() -> None:
    numbers = known(("a", 10), ("b", 10))
    before = numbers.generation
    numbers.learn(table(("a", 70), ("b", 80)))
    assert numbers.generation == before


def test_an_empty_slot_does_not_take_a_number_away() -> None:
    numbers = known(("a", 10))
    numbers.learn(table(None))
    assert numbers.number_of(node("a")) == 0


def test_bits_of_numbers_that_were_never_heard_of_are_told_apart() -> None:
    numbers = known(("a", 10), None, ("b", 20))
    assert numbers.unknown(0b1111) == 0b1010
    assert numbers.unknown(0b101) == 0


@given(st.binary(max_size=400), st.integers(0, 2 * NUMBERS_MAX))
def test_whatever_the_value_is_it_is_read_without_an_error(value: bytes, first: int) -> None:
    numbers = Numbers()
    numbers.learn(value, first=first)
    assert numbers.bits < 1 << NUMBERS_MAX


def test_a_new_node_tries_a_number_that_nobody_had_lately() -> None:
    numbers = known(*((f"n{number}", 1000.0) for number in range(60)), ("dead", 1000.0 - NUMBER_TTL_S))
    found = {
        numbers.free(60, 1000.0, random.Random(seed).randrange, tried=range(64, 80)) for seed in range(200)
    }
    assert 60 in found
    assert not found & {*range(60), *range(64, 80)}


def test_nodes_that_start_together_try_different_numbers_and_these_are_low() -> None:
    tried = {Numbers().free(5000, 0.0, random.Random(seed).randrange, tried=()) for seed in range(1000)}
    assert len(tried) > 900
    assert all(number is not None and number < 7500 for number in tried)


def test_when_the_low_numbers_are_taken_higher_ones_are_tried() -> None:
    numbers = known(*((f"n{number}", 10.0) for number in range(100)))
    found = numbers.free(2, 10.0, random.Random(1).randrange, tried=())
    assert found is not None
    assert 100 <= found < 256


def test_when_no_number_is_left_none_is_tried() -> None:
    assert Numbers().free(10, 0.0, random.Random(1).randrange, tried=range(NUMBERS_MAX)) is None


def test_no_bit_outlives_the_right_of_its_node_to_the_number() -> None:
    """A bit is read until the end of the epoch after its own; a number is another's only after that."""
    last_read_s = 2 * EPOCH_S
    assert last_read_s < BITMAP_TTL_S < NUMBER_TTL_S


def test_hashes_of_names_differ_and_are_never_that_of_an_empty_slot() -> None:
    hashes = {who_of(node(f"node-{number}")) for number in range(10_000)}
    assert len(hashes) == 10_000
    assert 0 not in hashes
