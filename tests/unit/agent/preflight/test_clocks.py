"""Whose clock is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.preflight.check import Status
from agent.preflight.clocks import clock


@pytest.mark.parametrize(
    ("ahead_s", "status", "words"),
    [
        ({}, Status.UNKNOWN, "nobody to compare"),
        ({"a": 0.2, "b": -1.5}, Status.GOOD, "within 1.5 s of 2 others"),
        ({"a": 600.0, "b": 601.0, "c": 0.0}, Status.WARN, "this node's clock is 10 min behind, say 2 of 3"),
        ({"a": -600.0, "b": -599.0}, Status.WARN, "this node's clock is 10 min ahead"),
        ({"a": 600.0, "b": 0.0, "c": 0.1}, Status.WARN, "a's is 10 min ahead"),
        ({"a": 0.0, "b": -45.0, "c": 0.1}, Status.WARN, "b's is 45 s behind"),
        ({"a": 600.0}, Status.WARN, "this node's and that of a differ by 10 min"),
    ],
)
def test_the_clock_that_most_disagree_with_is_wrong(
    ahead_s: dict[str, float], status: Status, words: str
) -> None:
    check = clock(ahead_s)
    assert check.status is status
    assert words in check.detail


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(-1e6, 1e6), min_size=1))
def test_any_clocks_give_a_verdict_and_only_close_ones_are_good(ahead_s: dict[str, float]) -> None:
    good = clock(ahead_s).status is Status.GOOD
    assert good is all(abs(each) <= 30 for each in ahead_s.values())
