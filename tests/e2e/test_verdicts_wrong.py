"""Nodes on which something is wrong: who answers is not the agent, or not here; and what ``verify`` says."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.flows.verdicts import EndpointName, Verdict
from benchmarks.lab.conntrack import Kind
from benchmarks.lab.kubeproxy import Endpoint, Mode
from tests.e2e.verdicts import (
    AGENT_PORT,
    DIRECT_URL,
    HOST_PORT,
    NODE_PORT,
    VIP,
    VIP_PORT,
    Node,
    Rewriter,
    RunningAgent,
    make_node,
    until,
    verdicts,
)
from tests.e2e.verdicts.watching import PROVED, foreigner, port_mapped, watched

pytestmark = pytest.mark.e2e

LOCALHOST_NODE_PORT = f"127.0.0.1:{NODE_PORT}"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces, containerd and eBPF: run `make test` as root")
    with make_node("wrong") as made:
        yield made


@pytest.fixture
def fresh(node: Node) -> None:
    """The agent has forgotten what earlier tests disproved."""
    with node.host.away():
        pass


# verify


@pytest.mark.usefixtures("fresh")
def test_verify_proves_the_direct_path(node: Node) -> None:
    status, found = node.scene.verify()
    assert (status, found["proved"], found["error"]) == (0, True, None)
    first = found["canaries"][0]
    assert (first["address"], first["verdict"], first["went"]) == (DIRECT_URL, "DIRECT", DIRECT_URL)
    assert first["answered_by"] == node.scene.node.name


def test_verify_does_not_prove_a_port_map(node: Node) -> None:
    with port_mapped(node):
        status, found = node.scene.verify()
    assert (status, found["proved"]) == (1, False)
    assert (found["canaries"][0]["verdict"], found["canaries"][0]["went"]) == (
        "HOSTPORT_NAT",
        node.pod.service,
    )


def test_verify_does_not_prove_a_rewritten_host_port(node: Node) -> None:
    with (
        Rewriter(node.scene.node.address, asked=("127.0.0.1", HOST_PORT)) as rewriter,
        rewriter.attached(node.scene.cgroup, "to_node", "multi"),
    ):
        status, found = node.scene.verify()
        assert verdicts(node.pull(DIRECT_URL, by=node.host)) == {Verdict.SOCKET_LB}
    assert (status, found["proved"]) == (1, False)
    assert (found["canaries"][0]["verdict"], found["canaries"][0]["went"]) == ("SOCKET_LB", node.host.service)


@pytest.mark.parametrize(
    ("mode", "endpoint"), [(mode, endpoint) for mode in Mode for endpoint in ("local", "remote")]
)
def test_verify_does_not_take_a_node_port_for_the_host_port(node: Node, mode: Mode, endpoint: str) -> None:
    agent = {"local": node.pod, "remote": node.far[0]}[endpoint]
    address = f"{node.scene.node.address}:{NODE_PORT}"
    with node.scene.rules(mode, node.scene.service(agent)):
        status, found = node.scene.verify(endpoints=[address])
    assert (status, found["proved"]) == (1, False)
    (canary,) = found["canaries"]
    assert canary["verdict"] == {"local": "KUBE_PROXY", "remote": "KUBE_PROXY_REMOTE"}[endpoint]
    assert (canary["went"], canary["answered_by"]) == (agent.service, agent.name)


@pytest.mark.usefixtures("fresh")
def test_verify_names_what_a_stopped_kube_proxy_left(node: Node) -> None:
    gone = Endpoint(ip=node.client_pod.address, port=AGENT_PORT, local=True)
    with node.scene.rules(Mode.IPTABLES, node.scene.service(gone)):
        status, found = node.scene.verify()
    assert status == 0, "the HostPort is none of kube-proxy's"
    assert [canary["verdict"] for canary in found["canaries"]] == ["DIRECT", "FAILED"]
    assert found["canaries"][1]["went"] == str(gone)
    (stale,) = [check for check in found["preflight"] if check["name"] == "stale rules"]
    assert (stale["status"], "kube-proxy does not run" in stale["detail"]) == ("warn", True)


# The agent is elsewhere


@pytest.mark.parametrize("local", [f"127.0.0.1:{HOST_PORT + 79}", f"127.0.0.2:{HOST_PORT}"])
def test_agent_bound_to_another_place_failed(node: Node, local: str) -> None:
    with watched(node, DIRECT_URL, hostport=local) as (_, agent):
        judged = node.pull(DIRECT_URL, falls_back=True, instead=agent)
        assert verdicts(judged) == {Verdict.FAILED}
        assert agent.metric(PROVED) == 0
        status, found = node.scene.verify()
    assert (status, found["proved"]) == (1, False)
    assert found["canaries"][0]["verdict"] == "FAILED"


def test_foreign_process_on_the_host_port_proves_nothing(node: Node) -> None:
    with foreigner_in_place(node) as agent:
        judged = node.pull(DIRECT_URL, falls_back=True, instead=agent)
        assert verdicts(judged) == {Verdict.PROXIED}
        assert agent.metric(PROVED) == 0
        assert "not this node's agent" in agent.api("/api/flows")["why"]
        status, found = node.scene.verify()
    assert (status, found["proved"]) == (1, False)
    assert "PROXIED" in found["why"]
    assert any(check["status"] == "bad" and "30020" in check["detail"] for check in found["preflight"])


@contextmanager
def foreigner_in_place(node: Node) -> Iterator[RunningAgent]:
    with (
        node.host.away(),
        foreigner(node, HOST_PORT),
        node.scene.probe(endpoints=[DIRECT_URL], canary_interval_s=1) as probe,
        node.scene.agent(
            node.scene.node.name, node.scene.node, follow=probe, hostport=f"127.0.0.1:{HOST_PORT + 79}"
        ) as agent,
    ):
        until(lambda: probe.tail.health.agents == 2, "the probe knows this agent and the pod's")
        until(lambda: "PROXIED" in agent.api("/api/flows")["why"], "canaries")
        yield agent


def test_another_nodes_agent_on_the_host_port_proves_nothing(node: Node) -> None:
    with node.host.away(), node.scene.agent("stranger", node.scene.node):
        status, found = node.scene.verify()
    assert (status, found["proved"]) == (1, False)
    assert found["canaries"][0]["verdict"] == "PROXIED"


def test_squatter_on_the_node_port_proves_nothing(node: Node) -> None:
    with (
        node.scene.rules(Mode.NFTABLES, node.scene.service(node.pod)),
        foreigner(node, NODE_PORT),
        watched(node, LOCALHOST_NODE_PORT, hostport=f"127.0.0.1:{HOST_PORT + 79}") as (probe, agent),
    ):
        judged = node.pull(LOCALHOST_NODE_PORT, falls_back=True, instead=agent)
        assert verdicts(judged) == {Verdict.PROXIED}
        assert {one.flow.endpoint for one in judged} == {EndpointName.NODEPORT}
        assert {one.truth.kind for one in judged if one.truth} == {Kind.NONE}
        assert agent.metric(PROVED) == 0
        (canary,) = probe.tail.health.canaries
        assert canary.answered_by == ""
        status, found = node.scene.verify(endpoints=[LOCALHOST_NODE_PORT])
    assert (status, found["proved"]) == (1, False)
    assert any(check["status"] == "bad" and "30021" in check["detail"] for check in found["preflight"])


# The gauge


def test_gauge_follows_what_is_proved(node: Node) -> None:
    with watched(node, DIRECT_URL) as (probe, agent):
        until(lambda: agent.metric(PROVED) == 1, "the canary's proof")
        with port_mapped(node):
            judged = node.pull(DIRECT_URL, instead=agent)
            assert verdicts(judged) == {Verdict.HOSTPORT_NAT}
            assert agent.metric(PROVED) == 0
        until(lambda: probe.tail.health.canaries[0].verdict is Verdict.DIRECT, "the next canary")
        assert agent.metric(PROVED) == 0, "a client's connection counts until one is direct"
        assert verdicts(node.pull(DIRECT_URL, instead=agent)) == {Verdict.DIRECT}
        until(lambda: agent.metric(PROVED) == 1, "both prove it")
        with node.scene.rules(Mode.IPTABLES, node.scene.service(node.far[0])):
            judged = node.pull(f"{VIP}:{VIP_PORT}", instead=agent)
            assert verdicts(judged) == {Verdict.KUBE_PROXY_REMOTE}
            assert agent.metric(PROVED) == 1, "the HostPort is none of kube-proxy's"


def test_bytes_that_left_the_node_are_counted_when_their_connection_ends(node: Node) -> None:
    name = "shorthaul_nodeport_remote_bytes_total"
    before = node.host.metric(name, direction="received")
    with node.scene.rules(Mode.IPTABLES, node.scene.service(node.far[0])):
        with node.scene.asker("127.0.0.1", NODE_PORT) as asker:
            for _ in range(20):
                assert asker.ask() == 200
        until(lambda: node.host.metric(name, direction="received") > before + 20 * 100, "twenty replies")
    assert node.host.metric(name, direction="sent") > 20 * 20


def test_without_its_probe_an_agent_proves_nothing_and_serves_on(node: Node) -> None:
    with (
        node.host.away(),
        node.scene.probe(endpoints=[DIRECT_URL], canary_interval_s=1) as probe,
        node.scene.agent(node.scene.node.name, node.scene.node, follow=probe) as agent,
    ):
        until(lambda: agent.metric(PROVED) == 1, "the canary's proof")
        probe.process.kill()
        until(lambda: agent.metric(PROVED) == 0, "nothing is proved any more")
        assert agent.metric("shorthaul_probe_connected") == 0
        with node.scene.asker("127.0.0.1", HOST_PORT) as asker:
            assert asker.ask() == 200
        until(lambda: agent.counted("shorthaul_local_requests_total")["hostport", "UNKNOWN"], "UNKNOWN")


def test_every_connection_that_conntrack_saw_was_told_of_and_rightly(node: Node) -> None:
    assert node.scene.compare_all(node.probe, since=node.seen)[Verdict.DIRECT] > 0
