"""What two agents of one node say to each other, also if they are of different releases."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.handover.messages import (
    Claim,
    Claims,
    Leaving,
    Message,
    MessageInvalid,
    Offer,
    Refusal,
    Resumed,
    Serving,
    Take,
    Yielded,
    decode,
    encode,
)

EVERY: list[Message] = [
    Take(node="n", agent="1.0"),
    Offer(agent="1.0", proved=True, programs=(1, 2)),
    Refusal(reason="no", again=True),
    Claim(),
    Claims(cookies=(1, 1 << 63), every=True),
    Serving(places=(("127.0.0.1", 30020), ("fd00::1", 30020))),
    Yielded(cookies=(1,), every=True, ages={"a": ["sha256:0", 1.0, None, "n"]}),
    Leaving(),
    Resumed(),
]


@pytest.mark.parametrize("message", EVERY, ids=lambda message: type(message).__name__)
def test_each_message_is_one_line_and_comes_back_as_it_was(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode(line) == message


@pytest.mark.parametrize("message", EVERY, ids=lambda message: type(message).__name__)
def test_a_later_release_may_add_keys(message: Message) -> None:
    document = {**json.loads(encode(message)), "later": {"what": ["ever"]}}
    assert decode(json.dumps(document).encode()) == message


@pytest.mark.parametrize("message", EVERY, ids=lambda message: type(message).__name__)
def test_another_release_may_leave_keys_out(message: Message) -> None:
    line = json.dumps({"say": type(message).__name__.lower()}).encode()
    assert decode(line) == type(message)()


def test_a_message_of_a_later_release_is_ignored() -> None:
    assert decode(b'{"say": "sing", "song": 1}') is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET / HTTP/1.1",
        b"[]",
        b"{}",
        b'{"say": []}',
        b'{"say": "serving", "places": 1}',
        b'{"say": "claims", "cookies": "many"}',
        b"[" * 100_000,
    ],
)
def test_what_makes_no_sense_is_an_error(line: bytes) -> None:
    with pytest.raises(MessageInvalid):
        decode(line)


@given(st.binary())
def test_any_bytes_are_a_message_or_an_error(line: bytes) -> None:
    with suppress(MessageInvalid):
        decode(line)
