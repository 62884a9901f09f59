"""Bounds of the table; and in whatever order events come, and with whatever lost, no false DIRECT."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.flows.table import FlowTable
from agent.flows.verdicts import Location, Verdict
from bpf.events import Address, Event, Flag, Kind
from tests.unit.agent.flows.scenes import (
    HOST,
    HOST_PORT,
    NODE_IP,
    NODE_PORT,
    OTHER_POD_IP,
    POD_NETNS,
    REMOTE_IP,
    VIP,
    Scene,
    address,
    balanced,
    direct,
    event,
    node,
    node_port,
    node_port_to_host,
    play,
    portmap,
    table,
    way,
)

# Bounds


def sizes(flows: FlowTable) -> dict[str, int]:
    """Of every container the table has, sets inside counted too."""
    counted = {}
    for name in vars(flows):
        value = getattr(flows, name)
        if hasattr(value, "__len__"):
            inner = value.values() if isinstance(value, dict) else ()
            counted[name] = len(value) + sum(len(one) for one in inner if isinstance(one, set))
    return counted


def test_oldest_flow_goes_when_there_are_too_many_and_is_counted_if_it_was_not_judged() -> None:
    flows = table(flows_max=2)
    judged = direct(40001, cookie=1)
    play(flows, judged.client(), judged.server())
    play(flows, *(direct(40000 + number, cookie=number).client() for number in (2, 3, 4)))
    assert flows.tally.forgotten == 1
    assert {flow.cookie for flow in flows.changes(1.0)} == {3, 4}


def test_judged_flow_that_goes_before_it_was_told_is_counted() -> None:
    flows = table(flows_max=2)
    for number in (1, 2, 3):
        remote = node_port(40000 + number, to=REMOTE_IP, masqueraded=number, cookie=number)
        flows.add_event(remote.client(), 0.0)
        flows.add_event(remote.closed(sent=9), 0.0)
    assert {flow.cookie for flow in flows.changes(0.0)} == {2, 3}
    assert flows.tally.forgotten == 1


def test_forgotten_flow_is_judged_anew_at_its_closing() -> None:
    flows = table(flows_max=1)
    play(flows, direct(40001, cookie=1).client(), direct(40002, cookie=2).client())
    (told,) = play(flows, direct(40001, cookie=1).server(), direct(40001, cookie=1).closed())
    assert (told.cookie, told.verdict) == (1, Verdict.DIRECT)


@pytest.mark.parametrize("scene", [direct, portmap, node_port])
def test_burst_of_flows_takes_no_more_memory_than_flows_max_allows(scene: Any) -> None:
    """Nobody asks for changes in between, and nobody locates anything."""
    view = node()
    view.forget_locations()
    flows = table(view, flows_max=16)
    for number in range(1, 1001):
        made = scene(30000 + number, cookie=number)
        flows.add_event(made.client(), 0.0)
        if number % 2:
            flows.add_event(made.closed(), 0.0)
    assert {name: size for name, size in sizes(flows).items() if size > 2 * 16} == {}
    assert flows.tally.forgotten == 1000 - 16


def test_ends_without_a_client_are_bounded() -> None:
    flows = table()
    for number in range(1, 6000):
        flows.add_event(direct(number, cookie=number).server(), 0.0)
    assert sum(sizes(flows).values()) <= 4096


ANY_TUPLE = st.builds(
    way,
    st.sampled_from([f"127.0.0.1:{port}" for port in range(40000, 40004)] + [f"{NODE_IP}:40000"]),
    st.sampled_from([f"127.0.0.1:{HOST_PORT}", f"{NODE_IP}:{NODE_PORT}", f"{OTHER_POD_IP}:5000", VIP]),
)
ANY_EVENT = st.builds(
    event,
    kind=st.sampled_from(Kind),
    flags=st.integers(0, 255).map(int),
    time_ns=st.integers(0, 99),
    connect_ns=st.integers(0, 3),
    cookie=st.integers(0, 40),
    netns=st.sampled_from([0, HOST, HOST, POD_NETNS]),
    rtt_us=st.integers(0, 9),
    mark=st.sampled_from([0, 0x2000]),
    intent=ANY_TUPLE.map(lambda one: one.destination),
    socket=ANY_TUPLE | ANY_TUPLE.map(lambda one: one.mirrored),
    wire=ANY_TUPLE | ANY_TUPLE.map(lambda one: one.mirrored),
)


@given(
    st.lists(st.tuples(ANY_EVENT, st.sampled_from([0.0, 0.0, 0.0, 0.4, 1.5])), max_size=120), st.booleans()
)
def test_any_events_at_all_are_taken_within_bounds_and_told_at_most_once_a_change(
    script: list[tuple[Event, float]], locating: bool
) -> None:
    view = node()
    flows = table(view, flows_max=5)
    now_s = 0.0
    for one, pause_s in script:
        now_s += pause_s
        flows.add_event(one, now_s)
        assert {name: size for name, size in sizes(flows).items() if name != "_ends" and size > 10} == {}
        if not pause_s:
            continue
        if locating:
            for ip in flows.unlocated():
                view.set_location(ip, Location.UNSURE)
            flows.rejudge_located()
        changed = flows.changes(now_s)
        assert len({flow.cookie for flow in changed}) == len(changed)
        assert flows.changes(now_s) == []
    flows.changes(now_s + 1.0)
    assert sizes(flows).get("_undecided", 0) == 0


# Whatever is lost, and in whatever order: no false DIRECT

SCENES: dict[str, tuple[Any, set[Verdict]]] = {
    "direct": (direct, {Verdict.DIRECT}),
    "direct, old": (lambda port, **more: direct(port, old=True, **more), {Verdict.DIRECT}),
    "port map": (portmap, {Verdict.HOSTPORT_NAT}),
    "pod": (node_port, {Verdict.KUBE_PROXY}),
    "unknown place": (lambda port, **more: node_port(port, to=OTHER_POD_IP, **more), set()),
    "host agent": (
        lambda port, **more: node_port_to_host(port, masqueraded=port + 100, **more),
        {Verdict.KUBE_PROXY},
    ),
    "remote": (lambda port, **more: node_port(port, to=REMOTE_IP, **more), {Verdict.KUBE_PROXY_REMOTE}),
    "balanced": (balanced, {Verdict.SOCKET_LB}),
    "balanced to loopback": (
        lambda port, **more: direct(port, intent=address(f"{NODE_IP}:{NODE_PORT}"), **more),
        {Verdict.SOCKET_LB},
    ),
    "pod's own": (
        lambda port, **more: direct(port, **more | {"netns": POD_NETNS, "server_netns": POD_NETNS}),
        set(),
    ),
    "pod's service": (lambda port, **more: direct(port, **more | {"netns": POD_NETNS}), set()),
    "failed": (direct, {Verdict.FAILED}),
}


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], dict[int, str]]:
    """Connections of four ports, one after the other with the same addresses or (in other namespaces) at
    once; their events as the ring buffer has them: in the order of their times, but for those that are lost.
    """
    truth: dict[int, str] = {}
    events: list[Event] = []
    lanes = draw(st.integers(1, 4))
    for lane in range(lanes):
        now_ns = 1000
        for _ in range(draw(st.integers(1, 4))):
            name = draw(st.sampled_from(sorted(SCENES)))
            cookie = len(truth) + 1
            truth[cookie] = name
            # Two lanes share a port: one of them in another namespace, or with other addresses.
            scene: Scene = SCENES[name][0](40000 + lane // 2, cookie=cookie, connect_ns=now_ns)
            told = [scene.failed(time_ns=now_ns + 3)] if name == "failed" else _worked(draw, scene, now_ns)
            events += [one for one in told if draw(st.integers(0, 3))]
            now_ns = max(one.time_ns for one in told) + draw(st.integers(1, 50))
    return sorted(events, key=lambda one: one.time_ns), truth


def _worked(draw: st.DrawFn, scene: Scene, start_ns: int) -> list[Event]:
    told, now_ns = [], start_ns
    ends: list[Callable[..., Event]] = [scene.client, scene.server]
    makers = [*ends, *draw(st.lists(st.sampled_from(ends), max_size=2))]
    for make in draw(st.permutations(makers)):
        now_ns += draw(st.integers(1, 50))
        told.append(make(time_ns=now_ns))
    return [*told, scene.closed(time_ns=now_ns + draw(st.integers(1, 50)))]


@settings(max_examples=200)
@given(histories(), st.data())
def test_no_flow_is_called_direct_that_was_not_whatever_events_are_lost(
    history: tuple[list[Event], dict[int, str]], data: st.DataObject
) -> None:
    events, truth = history
    flows = table(flows_max=data.draw(st.sampled_from([2, 4, 100])))
    now_s = 0.0
    told = []
    for one in events:
        flows.add_event(one, now_s)
        step_s = data.draw(st.sampled_from([0.0, 0.0, 0.0, 0.3, 2.0]))
        now_s += step_s
        if step_s:
            told += flows.changes(now_s) + flows.open_flows()
    told += flows.changes(now_s) + flows.changes(now_s + 2.0) + flows.open_flows()
    for flow in told:
        allowed = SCENES[truth[flow.cookie]][1] | {Verdict.UNKNOWN}
        assert flow.verdict in allowed or (
            truth[flow.cookie] == "unknown place" and flow.verdict is not Verdict.DIRECT
        )
    assert flows.tally.contradictions == 0


@given(st.sampled_from(sorted(SCENES)), st.permutations(range(3)))
def test_nothing_lost_means_every_verdict_is_the_true_one(name: str, order: list[int]) -> None:
    make, expected = SCENES[name]
    scene = make(40000)
    flows = table()
    events = [scene.client(), scene.server(), scene.client()]
    told = (
        play(flows, scene.failed()) if name == "failed" else play(flows, *(events[index] for index in order))
    )
    told += flows.changes(1.0)
    if name.startswith("pod's"):
        assert told == []
    else:
        assert told[-1].verdict in (expected or {Verdict.UNKNOWN})


def test_ten_thousand_mixed_connections_are_all_judged_as_they_were() -> None:
    flows = table()
    names = [name for name, (_, expected) in SCENES.items() if expected and name != "failed"]
    wrong = 0
    for number in range(1, 10_001):
        name = names[number % len(names)]
        make, expected = SCENES[name]
        scene = make(20000 + number % 5000, cookie=number, connect_ns=number * 1000)
        told = play(flows, scene.client(), scene.server(), scene.closed(), now_s=number / 1000)
        wrong += [flow.verdict in expected for flow in told] != [True]
    assert wrong == 0
    assert flows.open_flows() == []
    assert flows.tally.contradictions == flows.tally.forgotten == 0


def test_flags_of_a_server_are_not_taken_for_a_client() -> None:
    flows = table()
    play(flows, direct().server()._replace(flags=int(Flag.WIRE)))  # its handshake is not over
    assert play(flows, direct().client()) == []


def test_flow_that_began_under_our_eyes_without_an_intent_is_never_direct() -> None:
    """It asked for an address that is not watched, and another program sent it here."""
    scene = direct()
    begun = scene.client()._replace(
        flags=(scene.client().flags & ~Flag.INTENT) | Flag.BEGUN, intent=Address(b"\0" * 16, 0)
    )
    flows = FlowTable(node())
    play(flows, begun, scene.server())
    (flow,) = flows.changes(9.0) or flows.open_flows()
    assert flow.verdict is Verdict.UNKNOWN
