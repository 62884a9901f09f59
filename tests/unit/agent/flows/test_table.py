"""Playbooks: events in, judged flows out."""

import dataclasses
import tracemalloc

import pytest

from agent.flows.verdicts import EndpointName, Verdict
from bpf.events import Owner, Tuple, decode
from tests.unit.agent.flows.scenes import (
    CONTAINERD,
    HOST_PORT,
    NODE_IP,
    NODE_PORT,
    POD_IP,
    POD_NETNS,
    REMOTE_IP,
    USERS,
    VIP,
    Scene,
    address,
    balanced,
    direct,
    known_agent,
    node,
    node_port,
    node_port_to_host,
    packed,
    play,
    portmap,
    table,
    verdicts,
    way,
)

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


def test_failure_in_a_pods_namespace_is_nothing_of_this_nodes() -> None:
    flows = table()
    assert play(flows, direct(netns=POD_NETNS).failed()) == flows.open_flows() == []


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
        assert [(flow.cookie, flow.verdict) for flow in flows.open_flows()] == [(1, Verdict.UNKNOWN)]


def test_pods_flow_does_not_take_the_hosts_evidence_away() -> None:
    host, pod = direct(), direct(cookie=2, netns=POD_NETNS, server_netns=POD_NETNS)
    flows = table()
    play(flows, pod.client(), host.server(), pod.server(), host.client())
    told = {flow.cookie: flow for flow in flows.changes(1.0) + flows.open_flows()}
    assert told[1].verdict is Verdict.DIRECT
    assert told[1].taken_by == 1001
    assert 2 not in told


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


def test_flows_of_other_namespaces_are_not_kept_and_push_nothing_out() -> None:
    flows = table(flows_max=2)
    mine = direct()
    play(flows, mine.client(), mine.server())
    for number in range(2, 100):
        pod = direct(40000 + number, cookie=number, netns=POD_NETNS, server_netns=POD_NETNS)
        assert play(flows, pod.client(), pod.server(), pod.closed()) == []
    assert [flow.cookie for flow in flows.open_flows()] == [1]
    assert flows.tally.forgotten == 0


# Who took it


def test_connection_that_no_agent_is_known_for_is_unknown() -> None:
    flows = table(node(agents={}))
    assert verdicts(play(flows, direct().client(), direct().server())) == [Verdict.UNKNOWN]
    assert [flow.closed for flow in play(flows, direct().closed())] == [True], "and is not kept for later"
    assert flows.open_flows() == []


@pytest.mark.parametrize("port", [HOST_PORT, NODE_PORT])
def test_connection_that_another_socket_took_is_proxied_and_names_its_process(port: int) -> None:
    view = node(agents={"agent": known_agent("127.0.0.1:40404")})
    flows = table(view)
    scene = direct(socket=way("127.0.0.1:40000", f"127.0.0.1:{port}"), ours=False)
    assert play(flows, scene.client(), scene.server()) == []
    assert flows.has_unnamed
    view.set_owners({address(f"127.0.0.1:{port}"): "kube-proxy (pid 7)"})
    flows.rejudge_named()
    assert flows.changes(0.9) == [], "an agent that has just started may still claim it"
    (told,) = flows.changes(1.0)
    assert told.verdict is Verdict.PROXIED
    assert f"kube-proxy (pid 7) at 127.0.0.1:{port}" in told.reason


def test_connection_that_another_socket_took_does_not_wait_for_a_name_for_ever() -> None:
    flows = table(node(agents={"agent": known_agent("127.0.0.1:40404")}))
    scene = direct(ours=False)
    play(flows, scene.client(), scene.server())
    (told,) = flows.changes(1.0)
    assert (told.verdict, "another process" in told.reason) == (Verdict.PROXIED, True)


def test_transparent_proxy_before_the_agents_own_listener_is_proxied() -> None:
    """Nobody but the agent listens there, and still another socket took it: TPROXY."""
    scene, flows = direct(ours=False), table()
    play(flows, scene.client(), scene.server())
    (told,) = flows.changes(1.0)
    assert (told.verdict, "TPROXY" in told.reason) == (Verdict.PROXIED, True)


def test_connection_that_is_redirected_to_a_process_of_the_node_is_proxied() -> None:
    """Its port is not watched, so its socket is not seen."""
    flows = table()
    scene = direct(wire=way("127.0.0.1:40000", "127.0.0.1:9999"))
    play(flows, scene.client())
    (told,) = flows.changes(1.0)
    assert (told.verdict, told.translated) == (Verdict.PROXIED, True)
    assert "127.0.0.1:9999" in told.reason


def test_connection_from_before_the_marking_is_direct_once_the_agent_claims_its_socket() -> None:
    agent = known_agent(marked_ns=10**9, complete=False)
    flows = table(node(agents={"agent": agent}))
    scene = direct(ours=False)
    play(flows, scene.client(), scene.server())
    assert verdicts(flows.changes(1.0)) == [Verdict.UNKNOWN]
    agent.claimed = frozenset({1001})
    flows.rejudge_taken()
    assert verdicts(flows.changes(1.1)) == [Verdict.DIRECT]


def test_connection_from_before_the_marking_that_nobody_claims_is_proxied_when_all_is_claimed() -> None:
    agent = known_agent("127.0.0.1:1", marked_ns=10**9, complete=False)
    flows = table(node(agents={"agent": agent}))
    scene = direct(ours=False)
    play(flows, scene.client(), scene.server())
    flows.changes(1.0)
    agent.complete = True
    flows.rejudge_taken()
    assert verdicts(flows.changes(1.1)) == [Verdict.PROXIED]


def test_verdict_stays_when_the_agent_that_took_the_connection_is_gone() -> None:
    view = node()
    flows = table(view)
    scene = direct()
    assert verdicts(play(flows, scene.client(), scene.server())) == [Verdict.DIRECT]
    view.agents.clear()
    (told,) = play(flows, scene.closed())
    assert (told.verdict, told.verdict_is_new) == (Verdict.DIRECT, False)


def test_connection_is_containerds_by_its_cgroup_and_not_by_its_name() -> None:
    for cgroup in (CONTAINERD, USERS):
        scene = direct(cgroup=cgroup)
        (told,) = play(table(), scene.client(), scene.server())
        assert (told.comm, told.by_containerd) == ("containerd", cgroup == CONTAINERD)


@pytest.mark.parametrize("root", [True, False])
def test_where_containerds_cgroup_is_not_known_any_of_roots_may_be_its(root: bool) -> None:
    scene = direct(cgroup=USERS)
    (told,) = play(
        table(node(clients=frozenset())),
        scene.client()._replace(owner=Owner.ROOT if root else 0),
        scene.server(),
    )
    assert told.by_containerd is root


def test_connection_that_a_second_agent_claims_after_all_is_direct() -> None:
    """It has just started, beside the one that it replaces."""
    view = node()
    flows = table(view)
    scene = direct(ours=False)
    play(flows, scene.client(), scene.server())
    assert verdicts(flows.changes(1.0)) == [Verdict.PROXIED]
    view.agents["second"] = known_agent(claimed=frozenset({1001}))
    flows.rejudge_taken()
    assert verdicts(flows.changes(1.1)) == [Verdict.DIRECT]


# Floods


def others(number: int, **changes: object) -> Scene:
    """A connection of another user's."""
    values: dict[str, object] = {"cookie": number, "connect_ns": 1000 * number, "cgroup": USERS}
    return direct(10_000 + number, **values | changes)


def test_other_users_open_connections_never_push_out_containerds() -> None:
    flows = table(others_max=3)
    play(flows, direct().client(), direct().server())
    for number in range(2, 50):
        play(flows, others(number).client(), others(number).server())
    assert sorted(flow.cookie for flow in flows.open_flows()) == [1, 47, 48, 49]
    play(flows, others(47).client())
    play(flows, others(50).client(), others(50).server())
    assert sorted(flow.cookie for flow in flows.open_flows()) == [1, 47, 49, 50], "the silent one goes first"


def test_what_is_containerds_is_known_even_if_its_cgroup_became_known_late() -> None:
    view = node(clients=frozenset())
    flows = table(view, others_max=1)
    play(flows, direct().client(), direct().server())
    view.clients = frozenset({CONTAINERD})
    play(flows, direct().client())
    play(flows, others(2).client(), others(2).server())
    play(flows, others(3).client(), others(3).server())
    assert [(flow.cookie, flow.by_containerd) for flow in flows.open_flows()] == [(1, True), (3, False)]


def test_other_users_connection_to_another_process_is_judged_as_soon_as_that_has_a_name() -> None:
    """Every agent's mark is older, and no proof depends on it: so it costs no memory while it waits."""
    view = node(agents={"agent": known_agent("192.168.60.1:30020")})
    flows = table(view)
    scene = others(2, ours=False)
    assert play(flows, scene.client(), scene.server()) == []
    assert flows.has_unnamed
    view.set_owners({scene.socket.destination: "nginx (pid 7)"})
    flows.rejudge_named()
    (told,) = flows.changes(0.0)
    assert (told.verdict, told.counts) == (Verdict.PROXIED, False)
    assert "nginx (pid 7)" in told.reason
    assert verdicts(play(flows, others(3, ours=False).client(), others(3, ours=False).server())) == [
        Verdict.PROXIED
    ]


@pytest.mark.parametrize("canary", [True, False])
def test_connection_that_counts_waits_for_an_agent_that_has_just_started(canary: bool) -> None:
    view = node()
    view.set_owners({})
    flows = table(view, canaries={2} if canary else ())
    scene = others(2, ours=False, cgroup=USERS if canary else CONTAINERD)
    assert play(flows, scene.client(), scene.server()) == []
    view.agents["second"] = known_agent(claimed=frozenset({1002}))
    flows.rejudge_taken()
    (told,) = flows.changes(0.5)
    assert (told.verdict, told.canary, told.counts) == (Verdict.DIRECT, canary, True)


def test_canary_is_one_to_its_end() -> None:
    canaries = {1}
    flows = table(canaries=canaries)
    (told,) = play(flows, direct(cgroup=USERS).client(), direct().server())
    canaries.clear()  # the probe has what it wanted
    (closed,) = play(flows, direct(cgroup=USERS).closed())
    assert (told.canary, closed.canary, closed.closed) == (True, True, True)


def test_number_that_waits_for_evidence_is_bounded_and_what_is_hurried_is_unknown_and_counted() -> None:
    flows = table(undecided_max=10, canaries={1})
    told = play(flows, *(others(number, cgroup=CONTAINERD).client() for number in range(1, 31)))
    assert verdicts(told) == [Verdict.UNKNOWN] * 20
    assert 1 not in {flow.cookie for flow in told}, "no canary is hurried"
    assert flows.tally.forgotten == 20
    (late,) = play(flows, others(2).server())
    assert late.verdict is Verdict.DIRECT, "evidence that comes later still counts"


def test_connection_that_waits_for_an_agents_claim_is_never_direct_when_it_is_hurried() -> None:
    """The agent has just begun to mark: what began before may be its own, or may not."""
    agent = known_agent(marked_ns=10**9, complete=False)
    flows = table(node(agents={"agent": agent}), undecided_max=1)
    scene = others(2, ours=False)
    (told,) = play(flows, scene.client(), scene.server(), others(3).client())
    assert (told.cookie, told.verdict) == (2, Verdict.UNKNOWN)
    assert "no agent of this node has told" in told.reason
    assert flows.tally.forgotten == 1


@pytest.mark.parametrize("ours", [True, False])
def test_connection_takes_little_memory_while_it_is_kept(ours: bool) -> None:
    """Some 1.2 kB: as many as are kept fit into what the probe may take."""
    number = 1000
    flows = table()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for cookie in range(number):
            scene = others(cookie, cgroup=CONTAINERD, ours=ours)
            for one in (scene.client(), scene.server()):
                flows.add_event(decode(packed(one)), 0.0)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before <= 1600 * number
