"""How one agent reads why another one turned it away."""

import pytest

from agent.observe.refusals import Reason
from agent.peering.refused import Told, read_refusal, refusal_headers

NOW_S = 1_700_000_000.0


@pytest.mark.parametrize("reason", Reason)
def test_what_one_agent_says_another_one_reads(reason: Reason) -> None:
    headers = refusal_headers(reason, NOW_S + 600)
    for told in (headers, {name.lower(): value for name, value in headers.items()}):
        read = read_refusal(401, told, NOW_S)
        assert read == Told(reason=reason, ahead_s=600.0)
    assert read_refusal(403, headers, NOW_S) == Told(reason=reason, ahead_s=600.0)
    assert read_refusal(200, headers, NOW_S) is None
    assert read_refusal(429, headers, NOW_S) is None


def test_peer_that_says_nothing_has_another_key() -> None:
    told = read_refusal(401, {}, NOW_S)
    assert told == Told()
    assert told is not None
    assert "their keys differ" in told.words
    assert read_refusal(403, {}, NOW_S) is None  # a refusal of another kind


def test_clock_is_told_in_words() -> None:
    for ahead_s, words in ((600.0, "600 s ahead of"), (-31.0, "31 s behind")):
        told = read_refusal(401, refusal_headers(Reason.CLOCK, NOW_S + ahead_s), NOW_S)
        assert told is not None
        assert f"its clock is {words} this node's" in told.words


@pytest.mark.parametrize("time", ["", "x", "-1", "1" * 30, "٣"])
def test_odd_words_are_no_words(time: str) -> None:
    told = read_refusal(401, {"Shorthaul-Refusal": "whatever\x1b", "Shorthaul-Time": time}, NOW_S)
    assert told == Told()
