"""Playbooks: events in, judged flows out, in whatever order and with whatever lost."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.flows.node import NodeView
from agent.flows.table import FlowTable, RttSample
from agent.flows.verdicts import EndpointName, Location, Verdict
from bpf.events import Address, Event, Flag, Kind, Tuple, pack_ip
from tests.unit.agent.flows.scenes import (
    HOST,
    HOST_PORT,
    NODE_IP,
    NODE_PORT,
    POD_IP,
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
    verdicts,
    way,
)

OTHER_POD_IP = "10.244.3.3"  # nobody knows where


def table(view: NodeView | None = None, **options: Any) -> FlowTable:
    return FlowTable(node() if view is None else view, **options)


# Both ends


def test_client_then_server_is_direct_and_told_with_both_ends() -> None:
    flows = table()
    scene = direct()
    assert play(flows, scene.client()) == []
    (told,) = play(flows, scene.server())
    assert (told.verdict, told.endpoint) == (Verdict.DIRECT, EndpointName.HOSTPORT)
    assert (told.cookie, told.taken_by) == (1, 1001)
    assert (told.client, told.asked, told.went) == (
        scene.socket.source,
        scene.socket.destination,
        scene.socket.destination,
    )
    assert (told.pid, told.comm, told.rtt_us, told.closed) == (42, "containerd", 200, False)


def test_server_before_client_is_the_same() -> None:
    assert verdicts(play(table(), direct().server(), direct().client())) == [Verdict.DIRECT]


def test_client_alone_is_never_direct() -> None:
    flows = table()
    assert play(flows, direct().client()) == []
    assert verdicts(flows.changes(5.0)) == [Verdict.UNKNOWN]


def test_server_alone_is_no_flow() -> None:
    flows = table()
    play(flows, direct().server())
    assert flows.changes(5.0) == []


def test_other_end_that_is_told_late_makes_an_unknown_flow_direct() -> None:
    """Its first event was dropped; the programs tell again with the next packet."""
    flows = table()
    play(flows, direct().client())
    assert verdicts(flows.changes(1.0)) == [Verdict.UNKNOWN]
    assert verdicts(play(flows, direct().server(time_ns=5000), now_s=9.0)) == [Verdict.DIRECT]


def test_keep_alive_is_told_once_however_often_its_packets_are() -> None:
    flows = table()
    scene = direct()
    told = play(flows, scene.client(), scene.server())
    for second in range(1, 50):
        told += play(flows, scene.client(), scene.server(), now_s=float(second))
    assert verdicts([flow for flow in told if flow.verdict_is_new]) == [Verdict.DIRECT]


@pytest.mark.parametrize(
    ("scene", "verdict"),
    [
        (direct(), Verdict.DIRECT),
        (direct(socket=way(f"{NODE_IP}:40000", f"{NODE_IP}:{HOST_PORT}")), Verdict.DIRECT),
        (direct(socket=way("[::1]:40000", f"[::1]:{HOST_PORT}")), Verdict.DIRECT),
        (direct(socket=way("[fd00::1]:40000", f"[fd00::1]:{HOST_PORT}")), Verdict.DIRECT),
        (direct(socket=way("[::ffff:127.0.0.1]:40000", f"[::ffff:127.0.0.1]:{HOST_PORT}")), Verdict.DIRECT),
        (direct(intent=address(f"0.0.0.0:{HOST_PORT}")), Verdict.DIRECT),
        (direct(socket=way("127.0.0.1:40000", f"127.0.0.1:{NODE_PORT}")), Verdict.DIRECT),
        (direct(old=True), Verdict.DIRECT),
        (portmap(), Verdict.HOSTPORT_NAT),
        (node_port(), Verdict.KUBE_PROXY),
        (node_port_to_host(), Verdict.KUBE_PROXY),
        (node_port(to=REMOTE_IP), Verdict.KUBE_PROXY_REMOTE),
        (node_port(socket=way(f"{NODE_IP}:40000", VIP)), Verdict.KUBE_PROXY),
        (node_port(socket=way(f"{NODE_IP}:40000", VIP), to=REMOTE_IP), Verdict.KUBE_PROXY_REMOTE),
        (balanced(), Verdict.SOCKET_LB),
        (balanced(asked=VIP), Verdict.SOCKET_LB),
        (balanced(asked=f"127.0.0.1:{HOST_PORT}"), Verdict.SOCKET_LB),
        (direct(netns=POD_NETNS, server_netns=POD_NETNS), Verdict.UNKNOWN),
        (direct(netns=0), Verdict.UNKNOWN),
    ],
    ids=lambda value: "" if isinstance(value, Scene) else str(value.value),
)
def test_scene_ends_in_its_verdict_whichever_end_is_seen_first(scene: Scene, verdict: Verdict) -> None:
    for events in ([scene.client(), scene.server()], [scene.server(), scene.client()]):
        flows = table()
        play(flows, *events)
        flows.changes(1.0)
        (flow,) = flows.open_flows()
        assert flow.verdict is verdict


def test_v4_mapped_client_is_joined_with_an_ipv4_server() -> None:
    client = direct(socket=way("[::ffff:127.0.0.1]:40000", f"[::ffff:127.0.0.1]:{HOST_PORT}"))
    assert verdicts(play(table(), client.client(), direct().server())) == [Verdict.DIRECT]


def test_other_end_of_another_family_proves_nothing() -> None:
    ipv6 = direct(socket=way("[::1]:40000", f"[::1]:{HOST_PORT}"))
    assert play(table(), ipv6.client(), direct().server()) == []


def test_rewritten_to_a_port_that_is_not_watched_is_socket_lb_without_any_packet() -> None:
    scene = balanced().socket
    elsewhere = balanced(socket=Tuple(scene.source, address(f"{POD_IP}:5000")))
    (told,) = play(table(), elsewhere.rewritten())
    assert told.verdict is Verdict.SOCKET_LB
    assert (told.asked, told.went) == (address(f"{NODE_IP}:{NODE_PORT}"), None)


@pytest.mark.parametrize(
    "destination", [f"{REMOTE_IP}:{HOST_PORT}", "192.168.60.2:30020", "127.0.0.1:80", "10.96.0.30:81"]
)
def test_connections_that_ask_for_no_local_endpoint_are_no_flows(destination: str) -> None:
    scene = Scene(socket=way(f"{NODE_IP}:40000", destination))
    flows = table()
    play(flows, scene.client(), scene.server(), scene.closed())
    assert flows.changes(5.0) == []


def test_both_ends_that_contradict_each_other_are_unknown_and_counted_once() -> None:
    flows = table()
    scene = direct(answer=way(f"127.0.0.1:{NODE_PORT}", "127.0.0.1:40000"))
    assert verdicts(play(flows, scene.client(), scene.server())) == [Verdict.UNKNOWN]
    play(flows, scene.client(), scene.server(time_ns=5000), scene.closed())
    assert flows.tally.contradictions == 1


def test_contradiction_that_comes_later_takes_direct_back() -> None:
    flows = table()
    scene = direct()
    assert verdicts(play(flows, scene.client(), scene.server())) == [Verdict.DIRECT]
    other = dataclasses.replace(scene, answer=way(f"127.0.0.1:{NODE_PORT}", "127.0.0.1:40000"))
    assert verdicts(play(flows, other.server(time_ns=5000))) == [Verdict.UNKNOWN]
    assert flows.tally.contradictions == 1


# Closing and failing


def test_closed_flow_is_told_with_its_bytes_and_forgotten() -> None:
    flows = table()
    scene = direct()
    play(flows, scene.client(), scene.server())
    (told,) = play(flows, scene.closed(received=5000, sent=70))
    assert (told.verdict, told.closed, told.verdict_is_new) == (Verdict.DIRECT, True, False)
    assert (told.bytes_received, told.bytes_sent) == (5000, 70)
    assert flows.flow(1) is None
    assert flows.changes(9.0) == []


def test_flow_that_closes_before_it_is_judged_is_told_once_judged() -> None:
    flows = table()
    assert play(flows, direct().client(), direct().closed(received=9)) == []
    (told,) = play(flows, direct().server(), now_s=0.5)
    assert (told.verdict, told.closed, told.bytes_received) == (Verdict.DIRECT, True, 9)


def test_flow_whose_packet_was_dropped_is_judged_by_its_closing() -> None:
    assert verdicts(play(table(), direct().server(), direct().closed())) == [Verdict.DIRECT]


@pytest.mark.parametrize("packet", [True, False])
def test_connection_that_never_worked_failed(packet: bool) -> None:
    (told,) = play(table(), direct().failed(packet=packet))
    assert (told.verdict, told.closed, told.taken_by) == (Verdict.FAILED, True, 0)


def test_connection_that_failed_behind_a_translation_names_the_endpoint() -> None:
    (told,) = play(table(), node_port().failed())
    assert (told.verdict, told.went) == (Verdict.FAILED, address(f"{POD_IP}:5000"))


def test_failure_in_a_pods_namespace_is_unknown() -> None:
    assert verdicts(play(table(), direct(netns=POD_NETNS).failed())) == [Verdict.UNKNOWN]


# The same addresses again


def test_other_end_of_an_earlier_connection_does_not_prove_one_with_the_same_addresses() -> None:
    flows = table()
    first, second = direct(), direct(cookie=2, connect_ns=2000)
    play(flows, first.client(), first.closed())
    flows.changes(1.0)  # closed, unknown, forgotten: now its other end is told
    assert play(flows, first.server(), second.client(), now_s=2.0) == []
    assert verdicts(flows.changes(9.0)) == [Verdict.UNKNOWN]


def test_other_end_of_an_earlier_connection_does_not_prove_a_failed_one() -> None:
    flows = table()
    first, second = direct(), direct(cookie=2, connect_ns=2000)
    play(flows, first.client(), first.server(), first.closed())
    assert verdicts(play(flows, first.server(), second.failed())) == [Verdict.FAILED]


def test_addresses_used_again_are_judged_anew() -> None:
    flows = table()
    first = portmap()
    second = direct(cookie=2, connect_ns=2000)
    third = node_port(cookie=3, connect_ns=3000)
    assert verdicts(play(flows, first.client(), first.server(), first.closed())) == [Verdict.HOSTPORT_NAT]
    assert verdicts(play(flows, second.client(), second.server(), second.closed())) == [Verdict.DIRECT]
    assert verdicts(play(flows, third.client(), third.server())) == [Verdict.KUBE_PROXY]


def test_addresses_used_again_while_the_closing_was_lost_are_judged_anew() -> None:
    flows = table()
    first, second = direct(), direct(cookie=2, connect_ns=2000)
    play(flows, first.client(), first.server())
    assert verdicts(play(flows, second.client(), second.server(cookie=1002))) == [Verdict.DIRECT]
    told = flows.flow(1)
    assert told is not None
    assert told.taken_by == 1001


def test_second_connect_of_one_socket_is_another_flow() -> None:
    """Go does not; a losing attempt whose socket is used again does."""
    flows = table()
    first, second = direct(), direct(connect_ns=2000)
    assert verdicts(play(flows, first.client(), first.server(), first.closed())) == [Verdict.DIRECT]
    assert play(flows, second.client()) == []
    assert verdicts(flows.changes(1.0)) == [Verdict.UNKNOWN]


def test_second_connect_of_one_socket_inherits_nothing_while_the_first_is_still_known() -> None:
    flows = table()
    first, second = direct(), direct(connect_ns=2000)
    play(flows, first.client(), first.server())
    assert verdicts(play(flows, second.failed())) == [Verdict.FAILED]


def test_second_connect_of_one_socket_waits_its_own_time_for_evidence() -> None:
    flows = table()
    play(flows, direct().client())
    play(flows, direct(connect_ns=2000).client(), now_s=0.9)
    assert flows.changes(1.5) == []
    assert verdicts(flows.changes(1.9)) == [Verdict.UNKNOWN]


# Network namespaces: 127.0.0.1 is in each of them


@pytest.mark.parametrize("host_first", [True, False])
def test_same_addresses_in_a_pods_namespace_at_the_same_time_are_kept_apart(host_first: bool) -> None:
    """The pod's flow has both its ends seen, the host's one only its own: neither is direct."""
    host, pod = direct(), direct(cookie=2, netns=POD_NETNS, server_netns=POD_NETNS)
    events = [host.client(), pod.client(), pod.server()]
    for order in (events, events[::-1]):
        flows = table()
        play(flows, *(order if host_first else order[1:] + order[:1]))
        flows.changes(1.0)
        assert verdicts(flows.open_flows()) == [Verdict.UNKNOWN] * 2


def test_pods_flow_does_not_take_the_hosts_evidence_away() -> None:
    host, pod = direct(), direct(cookie=2, netns=POD_NETNS, server_netns=POD_NETNS)
    flows = table()
    play(flows, pod.client(), host.server(), pod.server(), host.client())
    told = {flow.cookie: flow for flow in flows.changes(1.0) + flows.open_flows()}
    assert told[1].verdict is Verdict.DIRECT
    assert told[1].taken_by == 1001
    assert told[2].verdict is Verdict.UNKNOWN


def test_other_end_in_a_pods_namespace_proves_nothing_of_the_nodes_own_address() -> None:
    scene = direct(server_netns=POD_NETNS)
    for events in ([scene.client(), scene.server()], [scene.server(), scene.client()]):
        assert play(table(), *events) == []


def test_other_end_of_an_unknown_namespace_proves_nothing() -> None:
    scene = direct(server_netns=0)
    for events in ([scene.client(), scene.server()], [scene.server(), scene.client()]):
        assert play(table(), *events) == []


def test_address_of_a_service_held_by_a_pod_is_not_the_agent_of_this_node() -> None:
    scene = direct(socket=way(f"{NODE_IP}:40000", VIP), server_netns=POD_NETNS)
    flows = table()
    play(flows, scene.client(), scene.server())
    flows.changes(1.0)
    assert verdicts(flows.open_flows()) == [Verdict.UNKNOWN]


# What connect() asked for


def test_program_in_front_of_ours_leaves_untranslated_flows_unknown() -> None:
    flows = table(node(sure_of_intent=False, sure_of_intent_near=False))
    assert play(flows, direct().client(), direct().server()) == []
    assert verdicts(flows.changes(1.0)) == [Verdict.UNKNOWN]


def test_intent_read_in_containerds_own_cgroup_is_sure_where_others_come_later() -> None:
    view = node(sure_of_intent=False, sure_of_intent_near=True)
    assert verdicts(play(table(view), direct(first=True).client(), direct().server())) == [Verdict.DIRECT]
    assert play(table(view), direct(first=False).client(), direct().server()) == []


def test_intent_read_behind_another_program_does_not_become_sure_when_that_goes() -> None:
    """In truth the NodePort, rewritten before it was read."""
    view = node(sure_of_intent=False, sure_of_intent_near=False)
    flows = table(view)
    lb = balanced(asked=f"{NODE_IP}:{HOST_PORT}")
    play(flows, lb.client())
    view.sure_of_intent = True
    play(flows, lb.server())
    assert verdicts(flows.changes(1.0)) == [Verdict.UNKNOWN]


def test_flow_older_than_the_probe_waits_for_its_next_packet_and_is_direct_with_both_ends() -> None:
    flows = table()
    old = direct(old=True)
    assert flows.open_flows() == []
    assert play(flows, old.server()) == []
    assert verdicts(play(flows, old.client())) == [Verdict.DIRECT]


def test_flow_older_than_the_probe_is_unknown_where_any_program_may_have_rewritten_it() -> None:
    flows = table(node(alone_on_connect=False))
    old = direct(old=True)
    assert play(flows, old.client(), old.server()) == []
    assert verdicts(flows.changes(1.0)) == [Verdict.UNKNOWN]


def test_translated_flow_older_than_the_probe_is_judged_all_the_same() -> None:
    for scene, verdict in (
        (portmap(old=True), Verdict.HOSTPORT_NAT),
        (node_port(old=True), Verdict.KUBE_PROXY),
    ):
        assert verdicts(play(table(node(alone_on_connect=False)), scene.client())) == [verdict]


# Where translated flows went


def test_translated_to_an_address_nobody_knows_waits_until_it_is_located() -> None:
    view = node()
    flows = table(view)
    assert play(flows, node_port(to=OTHER_POD_IP).client()) == []
    assert flows.unlocated() == [pack_ip(OTHER_POD_IP)]
    view.set_location(pack_ip(OTHER_POD_IP), Location.REMOTE)
    flows.rejudge_located()
    assert flows.unlocated() == []
    assert verdicts(flows.changes(0.1)) == [Verdict.KUBE_PROXY_REMOTE]


def test_address_that_is_located_too_late_is_unknown_until_then() -> None:
    view = node()
    flows = table(view)
    play(flows, node_port(to=OTHER_POD_IP).client())
    assert verdicts(flows.changes(1.0)) == [Verdict.UNKNOWN]
    view.set_location(pack_ip(OTHER_POD_IP), Location.POD)
    flows.rejudge_located()
    assert verdicts(flows.changes(2.0)) == [Verdict.KUBE_PROXY]


def test_one_address_of_many_flows_is_asked_for_once() -> None:
    flows = table()
    for number in range(1, 6):
        play(flows, node_port(40000 + number, to=OTHER_POD_IP, masqueraded=number, cookie=number).client())
    assert flows.unlocated() == [pack_ip(OTHER_POD_IP)]


def test_closed_flow_waits_for_its_place_and_is_told_then() -> None:
    view = node()
    flows = table(view)
    scene = node_port(to=OTHER_POD_IP)
    assert play(flows, scene.client(), scene.closed(sent=8)) == []
    view.set_location(pack_ip(OTHER_POD_IP), Location.REMOTE)
    flows.rejudge_located()
    (told,) = flows.changes(0.1)
    assert (told.verdict, told.closed, told.bytes_sent) == (Verdict.KUBE_PROXY_REMOTE, True, 8)


def test_place_the_routes_do_not_tell_is_remote_after_a_while_without_a_socket_here() -> None:
    view = node()
    view.set_location(pack_ip(OTHER_POD_IP), Location.UNSURE)
    flows = table(view)
    assert play(flows, node_port(to=OTHER_POD_IP).client()) == []
    assert flows.changes(0.9) == []
    assert verdicts(flows.changes(1.0)) == [Verdict.KUBE_PROXY_REMOTE]


def test_place_the_routes_do_not_tell_is_here_when_a_socket_here_took_it_even_late() -> None:
    view = node()
    view.set_location(pack_ip(OTHER_POD_IP), Location.UNSURE)
    flows = table(view)
    scene = node_port(to=OTHER_POD_IP)
    assert verdicts(play(flows, scene.client(), scene.server())) == [Verdict.KUBE_PROXY]
    late = node_port(41000, to=OTHER_POD_IP, masqueraded=777, cookie=2)
    play(flows, late.client())
    assert verdicts(flows.changes(1.0)) == [Verdict.KUBE_PROXY_REMOTE]
    assert verdicts(play(flows, late.server(), now_s=2.0)) == [Verdict.KUBE_PROXY]


@pytest.mark.parametrize("settled", [True, False])
def test_place_once_known_stays_so_for_its_flow_when_places_are_found_out_anew(settled: bool) -> None:
    view = node()
    flows = table(view)
    scene = node_port(to=REMOTE_IP)
    assert verdicts(play(flows, scene.client())) == [Verdict.KUBE_PROXY_REMOTE]
    if settled:
        flows.changes(1.0)
    view.forget_locations()
    (told,) = play(flows, scene.closed(sent=9), now_s=2.0)
    assert (told.verdict, told.bytes_sent, told.verdict_is_new) == (Verdict.KUBE_PROXY_REMOTE, 9, False)


# Flows that change


@pytest.mark.parametrize(
    ("to", "verdict"),
    [
        (POD_IP, Verdict.HOSTPORT_NAT),
        (REMOTE_IP, Verdict.KUBE_PROXY_REMOTE),
        (OTHER_POD_IP, Verdict.UNKNOWN),
    ],
)
@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("closing", [True, False])
def test_flow_that_turns_translated_is_direct_no_more(
    to: str, verdict: Verdict, settled: bool, closing: bool
) -> None:
    flows = table()
    scene = direct()
    assert verdicts(play(flows, scene.client(), scene.server())) == [Verdict.DIRECT]
    now_s = 1.0 if settled else 0.1
    flows.changes(now_s)
    turned = dataclasses.replace(scene, wire=way("127.0.0.1:40000", f"{to}:5000"))
    told = play(flows, turned.client(), *([turned.closed()] if closing else []), now_s=now_s)
    assert verdicts(told) == [verdict]
    assert told[0].went == address(f"{to}:5000")
    assert all(flow.verdict is not Verdict.DIRECT for flow in flows.open_flows())


def test_once_translated_stays_translated() -> None:
    flows = table()
    scene = node_port()
    play(flows, scene.client())
    plain = dataclasses.replace(scene, wire=None, server_netns=HOST)
    play(flows, plain.client(), plain.server())
    assert verdicts(flows.open_flows()) == [Verdict.KUBE_PROXY]


def test_endpoint_of_a_translated_flow_stays_when_a_new_probe_sees_it() -> None:
    """An established keep-alive goes on to an endpoint that was taken away: still translated."""
    scene = node_port(old=True)
    assert verdicts(play(table(), scene.client(), scene.server())) == [Verdict.KUBE_PROXY]


# What readers are told


def test_changes_are_told_once() -> None:
    flows = table()
    assert len(play(flows, direct().client(), direct().server())) == 1
    assert flows.changes(0.1) == []
    assert flows.changes(9.0) == []


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
