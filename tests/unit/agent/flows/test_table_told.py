"""What the table tells its readers, and round trips."""

from typing import Any

import pytest

from agent.flows.table import RttSample
from agent.flows.verdicts import Verdict
from bpf.events import Event, Flag, Kind
from tests.unit.agent.flows.scenes import (
    HOST_PORT,
    NODE_IP,
    POD_NETNS,
    Scene,
    address,
    direct,
    event,
    node_port,
    play,
    table,
    verdicts,
    way,
)

# What readers are told


def test_changes_are_told_once() -> None:
    flows = table()
    assert len(play(flows, direct().client(), direct().server())) == 1
    assert flows.changes(0.1) == []
    assert flows.changes(9.0) == []


def _seen_again(scene: Scene) -> Event:
    """A later packet of a flow. The programs say that they told of it before."""
    later = scene.client(time_ns=5000)
    return later._replace(flags=later.flags | Flag.TOLD)


def test_flow_that_others_pushed_out_is_not_told_as_new_when_it_is_seen_again() -> None:
    flows = table(flows_max=2)
    kept = node_port(40000, cookie=1)
    assert [flow.verdict_is_new for flow in play(flows, kept.client())] == [True]
    for cookie in (2, 3):
        play(flows, node_port(40000 + cookie, cookie=cookie, masqueraded=50000 + cookie).client())
    again = play(flows, _seen_again(kept), now_s=1.0)
    assert [(flow.cookie, flow.verdict, flow.verdict_is_new) for flow in again] == [
        (1, Verdict.KUBE_PROXY, False)
    ]


def test_flow_whose_evidence_was_pushed_out_keeps_what_was_told_of_it() -> None:
    flows = table(flows_max=2)
    kept = direct(40000, cookie=1)
    assert verdicts(play(flows, kept.client(), kept.server())) == [Verdict.DIRECT]
    for cookie in (2, 3):
        other = direct(40000 + cookie, cookie=cookie)
        play(flows, other.client(), other.server())
    assert play(flows, _seen_again(kept), now_s=1.0) == []
    assert flows.changes(9.0) == []  # and not UNKNOWN, for lack of the other end
    assert play(flows, kept.closed(time_ns=6000), now_s=10.0) == []


def test_other_end_that_comes_after_the_verdict_is_told_but_is_no_news() -> None:
    """The agent knows the flow by its own socket."""
    flows = table()
    scene = node_port()
    (first,) = play(flows, scene.client())
    (second,) = play(flows, scene.server())
    assert (first.taken_by, first.verdict_is_new) == (0, True)
    assert (second.taken_by, second.verdict_is_new) == (1001, False)


def test_new_reader_is_told_all_open_flows_that_are_judged() -> None:
    flows = table()
    one, two, three = direct(), node_port(cookie=2), direct(41000, cookie=3)
    play(flows, one.client(), one.server(), two.client(), three.client())
    assert [(flow.cookie, flow.verdict) for flow in flows.open_flows()] == [
        (1, Verdict.DIRECT),
        (2, Verdict.KUBE_PROXY),
    ]
    assert flows.flow(3) is None


def test_settling_a_flow_judges_it_by_what_there_is() -> None:
    flows = table()
    play(flows, direct().client())
    flows.settle(1)
    flows.settle(2)  # nobody's
    assert verdicts(flows.changes(0.0)) == [Verdict.UNKNOWN]


# Round trips


def rtt(source: str, destination: str, rtt_us: int = 300, **changes: Any) -> Event:
    return event(kind=Kind.RTT, rtt_us=rtt_us, socket=way(source, destination), **changes)


def test_round_trip_to_another_node_is_a_sample() -> None:
    sample = table().add_event(rtt(f"{NODE_IP}:50000", f"192.168.60.2:{HOST_PORT}"), 0.0)
    assert sample == RttSample(address=address(f"192.168.60.2:{HOST_PORT}"), rtt_us=300)


@pytest.mark.parametrize(
    "sample",
    [
        rtt(f"{NODE_IP}:50000", f"{NODE_IP}:{HOST_PORT}"),
        rtt("127.0.0.1:50000", f"127.0.0.1:{HOST_PORT}"),
        rtt(f"{NODE_IP}:50000", f"192.168.60.2:{HOST_PORT}", rtt_us=0),
        rtt("10.244.9.9:50000", f"192.168.60.2:{HOST_PORT}", netns=POD_NETNS),
    ],
)
def test_round_trip_to_this_node_or_of_a_pod_is_none(sample: Event) -> None:
    assert table().add_event(sample, 0.0) is None
