"""Questions about claims and their replies, as they travel between agents."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.holders.claims import Ask, ClaimKey, Completed, Free, GivenUp, Granted, Held, Renewed
from agent.holders.claimwire import (
    NEWS_MAX,
    WAIT_MAX_S,
    ClaimCall,
    ClaimReply,
    decode_call,
    decode_reply,
    encode_call,
    encode_reply,
)
from agent.holders.wire import Question, Reply, decode_question, encode_question
from agent.holders.wire import decode_reply as decode_message
from agent.holders.wire import encode_reply as encode_message
from agent.oci.digest import Digest
from agent.oci.errors import OciError
from topology.placement import NodeName

A, B = NodeName("a"), NodeName("b.example")
DIGEST = Digest("sha256:" + "1" * 64)
keys = st.builds(ClaimKey, st.just(DIGEST), st.text("0123456789abcdef", max_size=32), st.booleans())
numbers = st.integers(0, 1 << 50)
names = st.sampled_from((A, B))
asks = st.builds(
    Ask,
    key=keys,
    node=st.just(A),
    beyond_bytes=numbers,
    takes=st.booleans(),
    despite=st.none() | names,
    hearsay=st.none() | names,
)
news = st.one_of(
    st.builds(Renewed, keys, numbers, st.booleans()),
    st.builds(Completed, keys),
    st.builds(GivenUp, keys, st.booleans()),
)
calls = st.builds(
    ClaimCall,
    node=st.just(A),
    ask=asks,
    wait_s=st.integers(0, int(WAIT_MAX_S)).map(float),
    news=st.lists(news, max_size=NEWS_MAX).map(tuple),
)
verdicts = st.one_of(
    st.none(),
    st.just(Granted()),
    st.just(Free()),
    st.builds(Held, st.lists(names, min_size=1, max_size=16).map(tuple), numbers, st.booleans()),
)
replies = st.builds(
    ClaimReply,
    verdict=verdicts,
    holder=st.none() | names,
    queued=st.booleans(),
    kept=st.lists(st.booleans()).map(tuple),
)


@given(call=calls)
def test_call_travels_unchanged_in_a_question(call: ClaimCall) -> None:
    question = Question(digests=(DIGEST,), claims=call)
    assert decode_question(encode_question(7, question)) == (7, question)


@given(reply=replies)
def test_reply_travels_unchanged(reply: ClaimReply) -> None:
    question = Question(digests=(DIGEST,), claims=ClaimCall(node=A))
    number, read = decode_message(encode_message(7, question, Reply(claims=reply)))
    assert (number, read(question)) == (7, Reply(claims=reply))


def test_call_that_asks_nothing_is_short() -> None:
    assert encode_call(ClaimCall(node=A)) == {"node": "a"}
    assert decode_call({"node": "a"}) == ClaimCall(node=A)


def test_agent_that_knows_no_claims_leaves_them_out() -> None:
    question = Question(digests=(), claims=ClaimCall(node=A))
    _, read = decode_message(b'{"number":1,"held":[],"tags":[]}')
    assert read(question).claims is None
    assert b"claims" not in encode_question(1, Question(digests=(DIGEST,)))
    assert b"claims" not in encode_message(1, question, Reply())


def test_nobody_is_made_to_wait_longer_than_a_moment() -> None:
    assert decode_call({"node": "a", "wait_ms": 1 << 40}).wait_s == WAIT_MAX_S


KEY = [DIGEST, "", False]
ASK = [KEY, 0, True, None, None]


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"node": ""},
        {"node": "a\n"},
        {"node": "a", "wait_ms": -1},
        {"node": "a", "wait_ms": True},
        {"node": "a", "ask": []},
        {"node": "a", "ask": [[DIGEST], 0, True, None, None]},
        {"node": "a", "ask": [["sha256:x", "", False], 0, True, None, None]},
        {"node": "a", "ask": [[DIGEST, "x" * 65, False], 0, True, None, None]},
        {"node": "a", "ask": [[DIGEST, 1, False], 0, True, None, None]},
        {"node": "a", "ask": [KEY, -1, True, None, None]},
        {"node": "a", "ask": [KEY, 1.5, True, None, None]},
        {"node": "a", "ask": [KEY, 0, True, "", None]},
        {"node": "a", "news": {}},
        {"node": "a", "news": [["renewed", KEY, -1]]},
        {"node": "a", "news": [["forgotten", KEY, 0]]},
        {"node": "a", "news": [["completed", KEY, 0]] * (NEWS_MAX + 1)},
    ],
)
def test_call_that_can_not_be_understood_is_refused(document: Any) -> None:
    with pytest.raises(OciError):
        decode_call(document)
    with pytest.raises(OciError):
        decode_question(json.dumps({"number": 1, "claims": document or 1}).encode())


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kept": [1], "verdict": None},
        {"kept": {}, "verdict": None},
        {"kept": [], "verdict": []},
        {"kept": [], "verdict": ["taken"]},
        {"kept": [], "verdict": ["held", [], 0, True]},
        {"kept": [], "verdict": ["held", ["a\n"], 0, True]},
        {"kept": [], "verdict": ["held", ["a"] * 17, 0, True]},
        {"kept": [], "verdict": ["held", ["a"], -1, True]},
    ],
)
def test_reply_that_can_not_be_understood_is_refused(document: Any) -> None:
    with pytest.raises((ValueError, KeyError)):
        decode_reply(document)


def test_verdict_says_who_has_it() -> None:
    held = Held((A, B), 5, complete=True)
    assert encode_reply(ClaimReply(verdict=held)) == {
        "verdict": ["held", ["a", "b.example"], 5, True],
        "kept": [],
    }
