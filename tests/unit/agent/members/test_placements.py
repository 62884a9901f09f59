"""Placements as agents tell them: what is told is understood, what is none is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.members.placements import (
    TEXT_MAX,
    PlacementInvalid,
    decode_placement,
    encode_placement,
    from_json,
    to_json,
)
from tests.unit.twins import located
from topology.placement import Placement

NAMES = st.text(st.characters(categories=("L", "N"), max_codepoint=0x2FF), min_size=1, max_size=20)
PLACEMENTS = st.builds(
    lambda region, zone, finer: located(region, zone, *finer.items()),
    st.none() | NAMES,
    st.none() | NAMES,
    st.dictionaries(NAMES.filter(lambda name: name not in ("region", "zone")), NAMES, max_size=5),
)


@given(PLACEMENTS)
def test_placement_that_is_told_is_understood_and_fits_into_a_header(placement: Placement) -> None:
    text = encode_placement(placement)
    assert text is not None
    assert text.isascii()
    assert text.isprintable()
    assert decode_placement(text) == placement
    assert from_json(to_json(placement)) == placement


def test_placement_that_is_too_long_is_not_told() -> None:
    assert encode_placement(located("r", "z", *((f"{number}", "x" * 250) for number in range(20)))) is None


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        [],
        ["r", "z"],
        ["r", "z", None],
        ["r", "z", [["rack"]]],
        ["r", "z", [["rack", None]]],
        ["r", "z", [["rack", ""]]],
        ["r", "z", [["rack", "1"], ["rack", "2"]]],
        ["r", "z", [["zone", "1"]]],
        ["r", 7, []],
        ["r", "z", [["rack", 7]]],
        ["r", "z", [["rack", "1"]] * 33],
    ],
)
def test_document_of_another_form_is_refused(document: Any) -> None:
    with pytest.raises(PlacementInvalid):
        from_json(document)


@pytest.mark.parametrize("text", ["", "{", "[" * 3000, "x" * (TEXT_MAX + 1)])
def test_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(PlacementInvalid):
        decode_placement(text)


def test_values_are_made_safe_to_show() -> None:
    assert from_json([" eu ", "a\x1b[2J", [["rack", "7\n"]]]) == located("eu", "a\\x1b[2J", ("rack", "7"))
