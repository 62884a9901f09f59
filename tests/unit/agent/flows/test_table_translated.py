"""Playbooks of flows whose connect() or packets were translated, and of flows that change."""

import dataclasses

import pytest

from agent.flows.verdicts import Location, Verdict
from bpf.events import pack_ip
from tests.unit.agent.flows.scenes import (
    HOST,
    HOST_PORT,
    NODE_IP,
    OTHER_POD_IP,
    POD_IP,
    REMOTE_IP,
    address,
    balanced,
    direct,
    node,
    node_port,
    play,
    portmap,
    table,
    verdicts,
    way,
)

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
