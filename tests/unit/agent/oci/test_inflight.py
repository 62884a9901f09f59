"""The numbers in the headers about content in flight, whoever wrote them."""

import pytest

from agent.oci.inflight import parse_count


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("61", 61), ("9" * 19, int("9" * 19))])
def test_number_is_read(text: str, number: int) -> None:
    assert parse_count(text) == number


@pytest.mark.parametrize("text", [None, "", "-1", "1.5", " 1", "0x1", "¹", "٣", "1" * 20, "many"])
def test_what_is_no_number_is_none(text: str | None) -> None:
    assert parse_count(text) is None
