"""What the arguments of the benchmark of chunks mean."""

import pytest

from benchmarks.chunks.rows import UNCHUNKED, Chunks, Condition, Holders, conditions


@pytest.mark.parametrize("text", ["off", "3x16", "20x1"])
def test_chunks_are_printed_as_they_are_given(text: str) -> None:
    assert str(Chunks.parse(text)) == text


def test_first_number_is_how_many_at_once() -> None:
    assert Chunks.parse("20x1") == Chunks(at_once=20, size_mib=1)
    assert Chunks.parse("off") == UNCHUNKED


@pytest.mark.parametrize("text", ["", "16", "x", "3x", "3x16x1", "many"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Chunks.parse(text)


def test_unknown_holders_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"one, two, dying, freezing"):
        Holders.parse("three")


def test_registry_is_down_only_while_another_holder_is_up() -> None:
    assert all(holders.registry_up or holders.count > 1 for holders in Holders)


def test_every_combination_is_a_condition() -> None:
    made = list(conditions([Holders.ONE, Holders.TWO], [None, 200.0], [1, 5]))
    assert len(set(made)) == 8
    assert Condition(holders=Holders.TWO, link_mbit_s=None, nodes=5) in made
