"""What the probe tells comes back as it was, and nothing else than an error comes of anything else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.flows.book import FlowBook
from agent.flows.messages import (
    FLOWS_MAX,
    LINE_MAX,
    VERSION,
    Canary,
    Claims,
    Flows,
    Health,
    Hello,
    Introduced,
    Introduction,
    Message,
    MessageInvalid,
    Request,
    SendCanaries,
    decode,
    decode_request,
    encode,
    encode_request,
)
from agent.flows.table import Flow, FlowTable
from agent.flows.verdicts import EndpointName, Verdict
from bpf.events import Address
from tests.unit.agent.flows.scenes import balanced, direct, node, node_port, play, portmap

COUNTS = st.integers(0, 2**64 - 1)
IPS = st.binary(min_size=16, max_size=16)
ADDRESSES = st.builds(Address, IPS, st.integers(0, 65535))
FLOWS = st.builds(
    Flow,
    cookie=COUNTS,
    taken_by=COUNTS,
    endpoint=st.sampled_from(EndpointName),
    verdict=st.sampled_from(Verdict),
    reason=st.text(),
    client=ADDRESSES,
    asked=ADDRESSES,
    went=st.none() | ADDRESSES,
    pid=COUNTS,
    comm=st.text(max_size=16),
    rtt_us=COUNTS,
    closed=st.booleans(),
    bytes_received=COUNTS,
    bytes_sent=COUNTS,
    verdict_is_new=st.booleans(),
    translated=st.booleans(),
    by_containerd=st.booleans(),
    contradicted=st.booleans(),
)
CANARIES = st.builds(
    Canary,
    endpoint=st.sampled_from(EndpointName),
    address=st.text(),
    verdict=st.sampled_from(Verdict),
    reason=st.text(),
    went=st.text(),
    answered_by=st.text(),
    rtt_us=COUNTS,
    at_s=st.floats(0, 1e12),
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, node=st.text(), netns=COUNTS),
    st.just(Introduced()),
    st.builds(
        Flows,
        flows=st.lists(FLOWS, max_size=5).map(tuple),
        rtts=st.lists(st.tuples(IPS, COUNTS), max_size=5).map(tuple),
    ),
    st.builds(
        Health,
        canaries=st.lists(CANARIES, max_size=3).map(tuple),
        lost_events=COUNTS,
        lost_flows=COUNTS,
        lost_packets=COUNTS,
        invalid_events=COUNTS,
        forgotten=COUNTS,
        contradictions=COUNTS,
        foreign=COUNTS,
        held_back=COUNTS,
        agents=COUNTS,
        sure_of_intent=st.booleans(),
    ),
)


@given(MESSAGES)
def test_message_comes_back_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


@given(MESSAGES)
def test_message_is_one_line(message: Message) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1


def test_largest_message_of_real_flows_fits_a_line() -> None:
    scenes = [direct(), portmap(cookie=2), node_port(cookie=3), balanced(cookie=4)]
    flows = FlowTable(node())
    told = play(flows, *(event for scene in scenes for event in (scene.client(), scene.server())))
    assert len(told) == 4
    message = Flows(flows=tuple(told * (FLOWS_MAX // 4)))
    assert len(encode(message)) < LINE_MAX
    assert decode(encode(message)) == message


def taken(line: bytes) -> None:
    """Whatever is decoded must be good to work with; whatever is not is `MessageInvalid`."""
    try:
        message = decode(line)
    except MessageInvalid:
        return
    book = FlowBook(own="node-1", canary_interval_s=30.0)
    book.apply(Hello(node="node-1"), 1.0)
    book.apply(message, 1.0)
    book.proved(2.0)
    if isinstance(message, Flows):
        for flow in message.flows:
            assert str(flow.asked)
            assert str(flow.client)
    encode(message)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(line: bytes) -> None:
    taken(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(JSON)
def test_random_json_is_refused(value: Any) -> None:
    taken(json.dumps(value).encode())


@given(MESSAGES, st.data())
def test_message_with_one_value_of_another_kind_is_refused_or_harmless(
    message: Message, data: st.DataObject
) -> None:
    told = json.loads(encode(message))
    places = [*_places(told)]
    container, key = data.draw(st.sampled_from(places))
    container[key] = data.draw(JSON)
    taken(json.dumps(told).encode())


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    found = [(value, key) for key in keys]
    for key in keys:
        found += _places(value[key])
    return found


@given(MESSAGES, st.data())
def test_truncated_message_is_refused(message: Message, data: st.DataObject) -> None:
    line = encode(message).rstrip(b"\n")
    cut = data.draw(st.integers(0, len(line) - 1))
    with pytest.raises(MessageInvalid):
        decode(line[:cut])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"null",
        b"[]",
        b"{}",
        b'"hello"',
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"flows":[],"rtts":[["00",Infinity]]}',
        b'{"flows":[],"rtts":[["' + b"0" * 32 + b'",Infinity]]}',
        b'{"flows":[],"rtts":[["' + b"0" * 32 + b'",NaN]]}',
        b'{"flows":[],"rtts":[["00",5]]}',
        b'{"flows":[[]],"rtts":[]}',
        b'{"health":{}}',
        b'{"health":{"canaries":[],"lost_events":"many"}}',
        b'{"health":{"canaries":[],"contradictions":null}}',
        b'{"health":{"canaries":[],"unheard_of":1}}',
        b'{"health":{"canaries":[{}]}}',
        b'{"health":null}',
        b'{"hello":1}',
    ],
    ids=lambda line: repr(line[:50]),
)
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(MessageInvalid):
        decode(line)


@pytest.mark.parametrize("version", [VERSION + 1, 0, "1", None, 1.5])
def test_other_version_is_refused_by_its_number(version: Any) -> None:
    with pytest.raises(MessageInvalid, match=f"not {VERSION}"):
        decode(json.dumps({"hello": version, "node": "node-1"}).encode())


def test_verdict_nobody_knows_is_refused() -> None:
    line = encode(Flows(flows=tuple(play(FlowTable(node()), node_port().client()))))
    with pytest.raises(MessageInvalid):
        decode(line.replace(b"KUBE_PROXY", b"KUBE_MAGIC"))


# What readers send


@pytest.mark.parametrize(
    "request_",
    [
        Introduction(node="node-1"),
        Introduction(node="node-1", known=(7, 8)),
        Claims(cookies=(1, 1 << 60)),
        Claims(cookies=(), complete=True),
        SendCanaries(),
    ],
)
def test_request_comes_back_as_it_was_on_one_line(request_: Request) -> None:
    line = encode_request(request_)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_request(line) == request_


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"[]", b"7", b"{}", b"[" * 100_000, b'{"agent":1,"node":"x"}'),
        *(
            b'{"claims":["x"],"complete":true}',
            b'{"claims":[1]}',
            b'{"claims":[1' + b"0" * 400 + b"]}",
            b'{"canaries":false}',
        ),
    ],
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(MessageInvalid):
        decode_request(line)
