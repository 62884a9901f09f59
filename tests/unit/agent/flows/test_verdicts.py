"""The truth table: what each evidence proves, and that less evidence never proves more."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.flows.verdicts import (
    Accepted,
    EndpointName,
    Evidence,
    Location,
    Taker,
    Verdict,
    is_asked_for,
    judge,
)
from bpf.events import Address, Tuple, pack_ip
from tests.unit.agent.flows.scenes import (
    BRIDGE_IP,
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
    evidence,
    node_port,
    node_port_to_host,
    portmap,
    way,
)


def proof(scene: Scene, endpoint: EndpointName, location: Location | None, **changes: Any) -> Evidence:
    """All evidence of a scene, both ends told; ``changes``: but this."""
    taken = scene.taken or scene.packets.mirrored
    values: dict[str, Any] = {
        "endpoint": endpoint,
        "same_netns": scene.netns == HOST,
        "intent": scene.intent or scene.socket.destination,
        "sure_of_intent": True,
        "socket": scene.socket,
        "wire": scene.packets,
        "established": True,
        "closed": False,
        "mark": scene.mark,
        "accepted": Accepted(1001, scene.server_netns, taken, scene.answer or taken),
        "location": location,
        "taker": Taker.AGENT,
    }
    return Evidence(**values | changes)


HOSTPORT, NODEPORT, CLUSTERIP = EndpointName.HOSTPORT, EndpointName.NODEPORT, EndpointName.CLUSTERIP
BY_NODE_IP = way(f"{NODE_IP}:40000", f"{NODE_IP}:{HOST_PORT}")
TO_VIP = way(f"{NODE_IP}:40000", VIP)

TRUTH: dict[str, tuple[Evidence, Verdict]] = {
    "hostNetwork, 127.0.0.1": (proof(direct(), HOSTPORT, Location.HOST), Verdict.DIRECT),
    "hostNetwork, node's address": (
        proof(direct(socket=BY_NODE_IP), HOSTPORT, Location.HOST),
        Verdict.DIRECT,
    ),
    "hostNetwork, [::1]": (
        proof(direct(socket=way("[::1]:40000", f"[::1]:{HOST_PORT}")), HOSTPORT, Location.HOST),
        Verdict.DIRECT,
    ),
    "portmap by 127.0.0.1": (proof(portmap(), HOSTPORT, Location.POD), Verdict.HOSTPORT_NAT),
    "portmap by the node's address, no mark": (
        proof(
            portmap(socket=BY_NODE_IP, wire=way(f"{NODE_IP}:40000", f"{POD_IP}:5000"), mark=0),
            HOSTPORT,
            Location.POD,
        ),
        Verdict.HOSTPORT_NAT,
    ),
    "portmap, source port taken, but the mark is there": (
        proof(portmap(wire=way(f"{BRIDGE_IP}:1234", f"{POD_IP}:5000")), HOSTPORT, Location.POD),
        Verdict.HOSTPORT_NAT,
    ),
    "NodePort, local pod": (proof(node_port(), NODEPORT, Location.POD), Verdict.KUBE_PROXY),
    "NodePort, host-network agent": (
        proof(node_port_to_host(), NODEPORT, Location.HOST),
        Verdict.KUBE_PROXY,
    ),
    "NodePort, remote endpoint": (
        proof(node_port(to=REMOTE_IP), NODEPORT, Location.REMOTE, accepted=None),
        Verdict.KUBE_PROXY_REMOTE,
    ),
    "ClusterIP, local endpoint": (
        proof(node_port(socket=TO_VIP), CLUSTERIP, Location.POD),
        Verdict.KUBE_PROXY,
    ),
    "ClusterIP, remote endpoint": (
        proof(node_port(socket=TO_VIP, to=REMOTE_IP), CLUSTERIP, Location.REMOTE, accepted=None),
        Verdict.KUBE_PROXY_REMOTE,
    ),
    "ClusterIP without masquerade keeps the source port, and is no port map": (
        proof(
            node_port(socket=TO_VIP, wire=way(f"{NODE_IP}:40000", f"{POD_IP}:5000")), CLUSTERIP, Location.POD
        ),
        Verdict.KUBE_PROXY,
    ),
    "nftables, node's address": (proof(node_port(), NODEPORT, Location.POD), Verdict.KUBE_PROXY),
    "nftables, 127.0.0.1:NodePort": (
        proof(
            direct(socket=way("127.0.0.1:40000", f"127.0.0.1:{NODE_PORT}")),
            NODEPORT,
            Location.HOST,
            established=False,
            closed=True,
            accepted=None,
        ),
        Verdict.FAILED,
    ),
    "NodePort, no endpoints: an untranslated SYN, refused": (
        proof(
            direct(socket=way(f"{NODE_IP}:40000", f"{NODE_IP}:{NODE_PORT}")),
            NODEPORT,
            Location.HOST,
            established=False,
            closed=True,
            accepted=None,
        ),
        Verdict.FAILED,
    ),
    "ClusterIP, no endpoints: no SYN at all": (
        proof(
            direct(socket=TO_VIP),
            CLUSTERIP,
            None,
            established=False,
            closed=True,
            accepted=None,
            wire=None,
        ),
        Verdict.FAILED,
    ),
    "NodePort, dead endpoint: translated SYNs, no route to host": (
        proof(node_port(), NODEPORT, Location.POD, established=False, closed=True, accepted=None),
        Verdict.FAILED,
    ),
    "IPVS, VIP to a local pod": (
        proof(
            node_port(socket=TO_VIP, wire=way(f"{NODE_IP}:40000", f"{POD_IP}:5000")), CLUSTERIP, Location.POD
        ),
        Verdict.KUBE_PROXY,
    ),
    "IPVS, NodePort to a remote pod": (
        proof(node_port(to=REMOTE_IP), NODEPORT, Location.REMOTE, accepted=None),
        Verdict.KUBE_PROXY_REMOTE,
    ),
    "Cilium's socket LB of the NodePort to a host-network agent": (
        proof(balanced(), NODEPORT, Location.HOST),
        Verdict.SOCKET_LB,
    ),
    "Cilium's socket LB of the ClusterIP": (
        proof(balanced(asked=VIP), CLUSTERIP, Location.HOST),
        Verdict.SOCKET_LB,
    ),
    "socket LB to a port that is not watched: no packet seen": (
        proof(balanced(), NODEPORT, None, wire=None, accepted=None),
        Verdict.SOCKET_LB,
    ),
    "a pod's client of the ClusterIP": (
        proof(direct(socket=TO_VIP, netns=POD_NETNS), CLUSTERIP, Location.HOST),
        Verdict.UNKNOWN,
    ),
    "a pod's client of 127.0.0.1": (
        proof(direct(netns=POD_NETNS, server_netns=POD_NETNS), HOSTPORT, Location.HOST),
        Verdict.UNKNOWN,
    ),
    "a pod's client that failed": (
        proof(direct(netns=POD_NETNS), HOSTPORT, Location.HOST, established=False, closed=True),
        Verdict.UNKNOWN,
    ),
}


@pytest.mark.parametrize("row", TRUTH)
def test_row_of_the_truth_table(row: str) -> None:
    given_evidence, verdict = TRUTH[row]
    assert judge(given_evidence).verdict is verdict


@pytest.mark.parametrize("row", TRUTH)
def test_row_is_the_same_when_nothing_more_comes(row: str) -> None:
    given_evidence, verdict = TRUTH[row]
    values = {name: getattr(given_evidence, name) for name in Evidence.__slots__}
    assert judge(Evidence(**values | {"complete": True})).verdict is verdict


# What is waited for, and what it becomes when it does not come


@pytest.mark.parametrize(
    ("lacking", "reason"),
    [
        ({"same_netns": None}, "namespace"),
        ({"wire": None, "location": None}, "no packet"),
        ({"accepted": None}, "no socket of this node"),
        ({"sure_of_intent": False}, "another program"),
        ({"sure_of_intent": False, "intent": None}, "connect() was not seen"),
        ({"established": False}, "no answer yet"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_missing_evidence_is_waited_for_and_then_unknown(lacking: dict[str, Any], reason: str) -> None:
    assert judge(evidence(**lacking)).verdict is None
    finding = judge(evidence(**lacking, complete=True))
    assert finding.verdict is Verdict.UNKNOWN
    assert reason in finding.reason


def test_flow_older_than_the_probe_is_direct_if_nothing_else_runs_on_connect() -> None:
    assert judge(evidence(intent=None)).verdict is Verdict.DIRECT


def test_translated_to_an_unknown_place_waits_for_it_and_is_unknown_without() -> None:
    assert judge(proof(node_port(), NODEPORT, None)).verdict is None
    finding = judge(proof(node_port(), NODEPORT, None, complete=True))
    assert finding.verdict is Verdict.UNKNOWN
    assert f"{POD_IP}:5000" in finding.reason


def test_place_that_routes_do_not_tell_is_here_if_a_socket_here_took_it_and_else_remote() -> None:
    assert judge(proof(node_port(), NODEPORT, Location.UNSURE)).verdict is Verdict.KUBE_PROXY
    assert judge(proof(node_port(), NODEPORT, Location.UNSURE, accepted=None)).verdict is None
    settled = proof(node_port(), NODEPORT, Location.UNSURE, accepted=None, complete=True)
    assert judge(settled).verdict is Verdict.KUBE_PROXY_REMOTE


def test_host_port_that_leads_to_another_node_is_not_called_a_port_map() -> None:
    scene = portmap(wire=way(f"{BRIDGE_IP}:40000", f"{REMOTE_IP}:5000"))
    assert judge(proof(scene, HOSTPORT, Location.REMOTE)).verdict is Verdict.KUBE_PROXY_REMOTE


def test_host_port_with_a_random_source_port_and_no_mark_is_no_port_map() -> None:
    scene = portmap(wire=way(f"{BRIDGE_IP}:1234", f"{POD_IP}:5000"), mark=0)
    assert judge(proof(scene, HOSTPORT, Location.POD)).verdict is Verdict.KUBE_PROXY


def test_other_marks_are_not_the_port_maps() -> None:
    scene = portmap(wire=way(f"{BRIDGE_IP}:1234", f"{POD_IP}:5000"), mark=0x4000)
    assert judge(proof(scene, HOSTPORT, Location.POD)).verdict is Verdict.KUBE_PROXY


def test_translated_syn_names_the_dead_endpoint() -> None:
    finding = judge(TRUTH["NodePort, dead endpoint: translated SYNs, no route to host"][0])
    assert f"{POD_IP}:5000" in finding.reason


def test_syn_that_never_left_is_told_from_one_that_was_refused() -> None:
    failed = {"established": False, "closed": True, "accepted": None}
    assert "nothing left the node" in judge(evidence(**failed, wire=None)).reason
    assert "refused" in judge(evidence(**failed)).reason


# Whether connect() got what it asked for


@pytest.mark.parametrize(
    ("intent", "destination", "same"),
    [
        ("127.0.0.1:30020", "127.0.0.1:30020", True),
        ("[::ffff:127.0.0.1]:30020", "127.0.0.1:30020", True),
        ("0.0.0.0:30020", "127.0.0.1:30020", True),
        ("[::]:30020", "[::1]:30020", True),
        ("[::]:30020", "127.0.0.1:30020", True),  # a v4-mapped socket
        ("0.0.0.0:30020", "127.0.0.1:30021", False),
        ("0.0.0.0:30020", "192.168.60.1:30020", False),
        ("127.0.0.1:30020", "127.0.0.2:30020", False),
        ("127.0.0.1:30020", "127.0.0.1:30022", False),
        ("[::1]:30020", "127.0.0.1:30020", False),
    ],
)
def test_any_address_means_loopback_and_nothing_else_is_another_name(
    intent: str, destination: str, same: bool
) -> None:
    assert is_asked_for(address(intent), address(destination)) is same


def test_connect_to_any_address_is_direct() -> None:
    assert judge(evidence(intent=address(f"0.0.0.0:{HOST_PORT}"))).verdict is Verdict.DIRECT


# Both ends


def test_translation_at_the_other_end_only_is_a_contradiction_and_unknown() -> None:
    taken = direct().socket.mirrored
    other = Accepted(1001, HOST, taken, way("127.0.0.1:30021", "127.0.0.1:40000"))
    assert judge(evidence(accepted=other)).alarm
    assert judge(evidence(accepted=other)).verdict is Verdict.UNKNOWN


def test_translated_answer_of_a_host_network_agent_agrees_with_its_translated_client() -> None:
    assert not judge(proof(node_port_to_host(), NODEPORT, Location.HOST)).alarm


def test_untranslated_answer_to_a_translated_client_is_a_contradiction() -> None:
    scene = node_port_to_host(answer=None)
    assert judge(proof(scene, NODEPORT, Location.HOST)).alarm
    assert judge(proof(scene, NODEPORT, Location.HOST)).verdict is Verdict.UNKNOWN


def test_a_pods_answer_is_translated_out_of_sight_and_contradicts_nothing() -> None:
    assert not judge(proof(node_port(), NODEPORT, Location.POD)).alarm
    assert not judge(proof(portmap(), HOSTPORT, Location.POD)).alarm


@pytest.mark.parametrize("location", [None, Location.POD, Location.REMOTE, Location.UNSURE])
def test_what_is_not_the_nodes_own_address_is_never_reached_directly(location: Location | None) -> None:
    """An untranslated ClusterIP, say: where that leads is decided behind the last hook that sees it."""
    scene = direct(socket=TO_VIP)
    for complete in (False, True):
        judged = judge(proof(scene, CLUSTERIP, location, complete=complete))
        assert judged.verdict is not Verdict.DIRECT


# Properties

ADDRESSES = st.sampled_from(
    [
        Address(pack_ip(ip), port)
        for ip in ("127.0.0.1", "::1", NODE_IP, POD_IP, "0.0.0.0", "::")
        for port in (HOST_PORT, NODE_PORT, 40000)
    ]
)
TUPLES = st.builds(Tuple, ADDRESSES, ADDRESSES)
ODD_TUPLES = TUPLES | st.just(way(f"127.0.0.1:{NODE_PORT}", "127.0.0.1:40000"))
EVIDENCE: dict[str, st.SearchStrategy[Any]] = {
    "endpoint": st.sampled_from(EndpointName),
    "same_netns": st.sampled_from([None, False]),
    "intent": st.none() | ADDRESSES,
    "sure_of_intent": st.just(False),
    "wire": st.none() | TUPLES,
    "established": st.just(False),
    "closed": st.just(True),
    "mark": st.sampled_from([0x2000, 0x4000]),
    "accepted": st.none(),
    "taken": ODD_TUPLES,
    "answer": ODD_TUPLES,
    "location": st.none() | st.sampled_from(Location),
}


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    """Those of a direct flow, with a few of them anything else."""
    socket = direct().socket
    changed = draw(st.sets(st.sampled_from(sorted(EVIDENCE)), max_size=3))
    values = {name: draw(EVIDENCE[name]) for name in sorted(changed)}
    if draw(st.integers(0, 9)) == 0:
        socket = draw(TUPLES)
    taken = draw(ODD_TUPLES) if "taken" in changed else socket.mirrored
    answer = draw(ODD_TUPLES) if "answer" in changed else taken
    accepted = None if "accepted" in changed else Accepted(1001, HOST, taken, answer)
    known = {"socket": socket, "wire": socket, "intent": socket.destination, "accepted": accepted}
    named = {name: value for name, value in values.items() if name in Evidence.__slots__}
    return evidence(**known | named, complete=draw(st.booleans()))


@given(evidences())
def test_direct_needs_every_single_proof(known: Evidence) -> None:
    if judge(known).verdict is not Verdict.DIRECT:
        return
    assert known.established
    assert known.same_netns is True
    assert known.sure_of_intent
    assert known.intent is None or is_asked_for(known.intent, known.socket.destination)
    assert known.wire == known.socket
    assert known.accepted is not None
    assert known.accepted.wire.mirrored == known.socket
    assert known.accepted.socket.mirrored == known.wire
    assert known.location is Location.HOST
    assert not judge(known).alarm


@given(evidences())
def test_complete_evidence_always_gets_a_verdict_with_its_reason(known: Evidence) -> None:
    finding = judge(known)
    assert finding.reason
    assert finding.verdict is not None or not known.complete


@given(evidences())
def test_nothing_translated_is_called_direct_or_said_of_another_namespace(known: Evidence) -> None:
    verdict = judge(known).verdict
    if known.translated:
        assert verdict is not Verdict.DIRECT
    if known.same_netns is False:
        assert verdict is Verdict.UNKNOWN


LESS = {
    "same_netns": (None, False),
    "sure_of_intent": (False,),
    "wire": (None,),
    "established": (False,),
    "accepted": (None,),
}


@given(evidences(), st.booleans())
def test_evidence_taken_away_never_makes_a_flow_direct(known: Evidence, complete: bool) -> None:
    values = {name: getattr(known, name) for name in Evidence.__slots__}
    for name, worse in LESS.items():
        for value in worse:
            lesser = Evidence(**values | {name: value, "complete": complete})
            assert judge(lesser).verdict is not Verdict.DIRECT
