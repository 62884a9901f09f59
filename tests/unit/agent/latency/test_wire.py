"""Reports between nodes: they round-trip, and every other message is an invalid report."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.latency.wire import REPORT_MAX_BYTES, ReportInvalid, decode_report, encode_report
from tests.unit.twins import located, node, zone_key
from topology.cluster import ClusterTopology
from topology.labels import clean_value
from topology.placement import NodeName, Region, Zone, ZoneKey
from topology.zones import Report

LEAST: dict[str, Any] = {"node": "n", "zones": [], "nodes": [], "load": 0}
NAME = st.text(max_size=40).map(clean_value)
ZONE = st.builds(ZoneKey, region=st.none() | NAME.map(Region), zone=NAME.map(Zone))
RTT = st.integers(1, 10**7).map(float)
REPORTS = st.builds(
    Report,
    zones=st.dictionaries(ZONE, RTT, max_size=64),
    nodes=st.dictionaries(NAME.map(NodeName), RTT, max_size=32),
    load=st.integers(0, 10**6),
)


def message(**changes: object) -> bytes:
    return json.dumps({**LEAST, **changes}).encode()


@given(report=REPORTS, name=NAME)
def test_report_that_is_written_reads_back(report: Report, name: str) -> None:
    told = decode_report(encode_report(node(name), report))
    assert told.node == name
    assert told.report == report


def test_whole_microseconds_are_told() -> None:
    report = Report(zones={zone_key("r/a"): 300.4}, nodes={node("u"): 899.6})
    told = decode_report(encode_report(node("n"), report)).report
    assert (list(told.zones.values()), list(told.nodes.values())) == ([300], [900])


def test_report_of_more_than_fits_is_cut_and_still_reads_back() -> None:
    report = Report(
        zones={zone_key(f"r/{number}"): 1.0 for number in range(1000)},
        nodes={node(str(number)): 1.0 for number in range(1000)},
    )
    told = decode_report(encode_report(node("n"), report)).report
    assert (len(told.zones), len(told.nodes)) == (64, 32)


def test_report_with_the_longest_labels_of_kubernetes_fits_into_a_message() -> None:
    report = Report(
        zones={zone_key(f"{'r' * 63}/{number:063}"): 1e7 for number in range(64)},
        nodes={node(f"{number:0253}"): 1e7 for number in range(32)},
        load=10**6,
    )
    assert len(encode_report(node("n" * 253), report)) <= REPORT_MAX_BYTES


def test_report_with_labels_of_any_text_fits_into_a_message() -> None:
    """The peer closes the connection after a longer message, so it would never get a report."""
    zones = {zone_key(f"{'é' * 253}/{number}{'é' * 250}"): 1e7 for number in range(64)}
    assert len(encode_report(node("n"), Report(zones=zones, nodes={}))) <= REPORT_MAX_BYTES


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"\xff\xfe",
        b"nonsense",
        b"[]",
        b"{}",
        b"null",
        b"7",
        b'"text"',
        b"[" * 30_000,
        b'{"node":' * 5_000,
        b'{"node": "n", "zones": [], "nodes": []',
        b"1" * 30_000,
        b'{"node":"n","zones":[["r","z",' + b"9" * 20_000 + b']],"nodes":[],"load":0}',
    ],
)
def test_message_that_is_no_report_is_invalid(content: bytes) -> None:
    with pytest.raises(ReportInvalid):
        decode_report(content)


@pytest.mark.parametrize(
    "changes",
    [
        {"node": 7},
        {"node": None},
        {"zones": None},
        {"zones": 7},
        {"zones": [7]},
        {"zones": [[]]},
        {"zones": [["r", "z"]]},
        {"zones": [["r", "z", 1, 2]]},
        {"zones": [["r", None, 1]]},
        {"zones": [["r", "z", "1"]]},
        {"zones": [["r", "z", True]]},
        {"zones": [["r", "z", None]]},
        {"zones": [[["r"], "z", 1]]},
        {"zones": {"abc": 1}},
        {"zones": [["r", "z", 1]] * 65},
        {"nodes": [["n", "1"]]},
        {"nodes": [[7, 1]]},
        {"nodes": {"ab": 1}},
        {"nodes": [["n", 1]] * 33},
        {"nodes": "abcd"},
        {"load": "1"},
        {"load": 1.5},
        {"load": True},
        {"load": None},
    ],
)
def test_message_of_another_form_is_invalid(changes: dict[str, object]) -> None:
    with pytest.raises(ReportInvalid):
        decode_report(message(**changes))


@pytest.mark.parametrize("missing", sorted(LEAST))
def test_message_without_one_of_its_parts_is_invalid(missing: str) -> None:
    with pytest.raises(ReportInvalid):
        decode_report(json.dumps({key: value for key, value in LEAST.items() if key != missing}).encode())


@pytest.mark.parametrize(("load", "taken"), [(-1, 0), (0, 0), (7, 7), (10**300, 10**6)])
def test_load_is_clamped(load: int, taken: int) -> None:
    assert decode_report(message(load=load)).report.load == taken


def test_names_are_made_plain() -> None:
    told = decode_report(message(node="n\n\x1b[31m", zones=[["r\x00", "z" * 999, 1]], nodes=[["\ud800", 1]]))
    texts: list[str] = [told.node, *told.report.nodes]
    texts += [str(text) for zone in told.report.zones for text in (zone.region, zone.zone)]
    assert all(text.isprintable() and len(text) <= 253 for text in texts)


def test_sender_says_where_it_is_and_older_agents_understand_the_rest() -> None:
    where = located("eu", "eu-a", ("rack", "7"))
    sent = encode_report(node("n"), Report(zones={}, nodes={}, load=3), where)
    assert decode_report(sent).placement == where
    assert json.loads(sent) == {
        **json.loads(encode_report(node("n"), Report(zones={}, nodes={}, load=3))),
        "placement": ["eu", "eu-a", [["rack", "7"]]],
    }


@pytest.mark.parametrize(
    "placement", [None, 7, "x", [], ["r", "z", [["rack", "1"], ["rack", "2"]]], ["r"] * 9]
)
def test_report_of_an_agent_that_does_not_say_where_it_is_or_in_another_form_counts(
    placement: object,
) -> None:
    told = decode_report(message(placement=placement, load=5))
    assert told.placement is None
    assert told.report.load == 5


def test_unknown_parts_are_left_out() -> None:
    assert decode_report(message(version=9, extra=[1])).report == Report(zones={}, nodes={})


ABSURD = (math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300)


@pytest.mark.parametrize("rtt_us", ABSURD)
def test_absurd_number_is_invalid_or_clamped_and_counted_by_the_topology(rtt_us: float) -> None:
    topology = ClusterTopology(own=node("own"), placement=located("r", "a"))
    topology.update({node("n"): located("r", "b"), node("u"): located()}, 0.0)
    told = decode_report(message(zones=[["r", "a", rtt_us]], nodes=[["u", rtt_us]]))
    assert topology.add_report(told.node, told.report, 1.0) == 2
    snapshot = topology.refresh(1.0)
    assert all(1 <= each.cost_us <= 1e7 for name, each in snapshot.standings.items() if name != "own")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
ODD_ZONES = st.lists(st.tuples(JSON, JSON, JSON) | JSON, max_size=3)
DOCUMENTS = st.fixed_dictionaries(
    {
        "node": st.just("n") | JSON,
        "zones": ODD_ZONES | JSON,
        "nodes": st.lists(st.tuples(JSON, JSON) | st.tuples(st.just("u"), st.floats()), max_size=3) | JSON,
        "load": st.integers() | JSON,
    }
)


@given(content=st.binary(max_size=200) | DOCUMENTS.map(lambda document: json.dumps(document).encode()))
def test_no_message_fails_in_another_way_or_leaves_a_number_that_is_none(content: bytes) -> None:
    topology = ClusterTopology(own=node("own"), placement=located("r", "a"))
    topology.update({node("n"): located("r", "b"), node("u"): located()}, 0.0)
    try:
        told = decode_report(content)
    except ReportInvalid:
        return
    assert 0 <= told.report.load <= 10**6
    assert topology.add_report(node("n"), told.report, 1.0) >= 0
    snapshot = topology.refresh(1.0)
    assert all(math.isfinite(each.cost_us) for each in snapshot.standings.values())
