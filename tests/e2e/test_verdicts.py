"""Each row of the truth table: a real containerd pulls, the probe judges, conntrack is asked as well.

Every verdict of every flow in here is compared with conntrack's entry, see `Scene.judging`.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from agent.flows.verdicts import EndpointName, Verdict
from benchmarks.lab import portmap
from benchmarks.lab.conntrack import Flow as Way
from benchmarks.lab.conntrack import Kind
from benchmarks.lab.containerd import Containerd, PullFailed
from benchmarks.lab.kubeproxy import Endpoint, Mode
from benchmarks.lab.portmap import HostPort
from benchmarks.lab.process import LabError
from tests.e2e.verdicts import (
    AGENT_PORT,
    DIRECT_URL,
    HOST_PORT,
    NODE_PORT,
    VIP,
    VIP6,
    VIP_PORT,
    Judged,
    Node,
    RunningAgent,
    Scene,
    make_node,
    until,
    verdicts,
    went,
)

pytestmark = pytest.mark.e2e

NODE_IP = "192.168.60.1"
LOCALHOST_NODE_PORT, NODE_IP_NODE_PORT = f"127.0.0.1:{NODE_PORT}", f"{NODE_IP}:{NODE_PORT}"
CLUSTER_IP = f"{VIP}:{VIP_PORT}"
NODE_IP6_NODE_PORT, CLUSTER_IP6 = f"[fd00:60::1]:{NODE_PORT}", f"[{VIP6}]:{VIP_PORT}"
PULLS_MAX = 30  # so many coins, two a pull at least, never all fall on one side


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces, containerd and eBPF: run `make test` as root")
    with make_node("rows", versions=("1.6", "1.7", "2.1")) as made:
        yield made


@pytest.fixture
def host_port(node: Node) -> Iterator[None]:
    port = HostPort(host_port=HOST_PORT, container_port=AGENT_PORT)
    portmap.add(node.scene.node, node.local_pod, port)
    yield
    portmap.remove(node.scene.node, node.local_pod, port)


def pull_until(node: Node, mirror: str, wanted: set[Verdict]) -> list[Judged]:
    """Pull images until all these verdicts occurred; every connection there was."""
    judged: list[Judged] = []
    for _ in range(PULLS_MAX):
        judged += node.pull(mirror)
        if wanted <= verdicts(judged):
            return judged
    pytest.fail(f"only {verdicts(judged)} in {len(judged)} connections")


# Direct


@pytest.mark.parametrize("version", ["1.6", "1.7", "2.1"])
def test_loopback_is_direct_for_every_containerd(node: Node, version: str) -> None:
    judged = node.pull(DIRECT_URL, by=node.host, containerd=node.containerds[version])
    assert verdicts(judged) == {Verdict.DIRECT}
    assert went(judged) == {DIRECT_URL}
    assert {one.flow.endpoint for one in judged} == {EndpointName.HOSTPORT}


def test_host_port_at_the_nodes_address_is_direct(node: Node) -> None:
    judged = node.pull(f"{NODE_IP}:{HOST_PORT}")
    assert verdicts(judged) == {Verdict.DIRECT}


def test_any_address_means_loopback_and_is_direct(node: Node) -> None:
    judged = node.pull(f"0.0.0.0:{HOST_PORT}", by=node.host)
    assert verdicts(judged) == {Verdict.DIRECT}
    assert went(judged) == {DIRECT_URL}


def test_v4_mapped_client_is_judged_like_any_other(node: Node) -> None:
    with (
        node.scene.rules(Mode.IPTABLES, node.scene.service(node.pod)),
        node.scene.asker("127.0.0.1", HOST_PORT, mapped=True) as direct,
        node.scene.asker(NODE_IP, NODE_PORT, mapped=True) as translated,
    ):
        assert direct.ask() == translated.ask() == 200
        for asker, verdict in ((direct, Verdict.DIRECT), (translated, Verdict.KUBE_PROXY)):
            assert node.scene.compare(node.scene.flow(node.probe, asker.way)).verdict is verdict


def test_fifty_requests_on_one_connection_are_one_flow(node: Node) -> None:
    flows, requests = "shorthaul_other_flows_total", "shorthaul_local_requests_total"
    before, key = node.host.counted(flows), ("hostport", "DIRECT")
    with node.scene.asker("127.0.0.1", HOST_PORT) as asker:
        first = node.host.counted(requests).total()
        assert asker.ask() == 200
        flow = node.scene.flow(node.probe, asker.way)
        assert node.scene.compare(flow).verdict is Verdict.DIRECT
        # On a busy machine the agent counts this request as UNKNOWN before the probe's word arrives.
        until(lambda: node.host.counted(requests).total() == first + 1, "the first request is counted")
        until(lambda: node.host.counted(flows) - before == {key: 1}, "the agent knows the flow")
        known, canaries_before = node.host.counted(requests), len(canaries(node))
        for _ in range(49):
            assert asker.ask() == 200
        until(lambda: node.host.counted(requests).total() - known.total() >= 49, "the other requests")
    assert node.host.counted(flows) - before == {key: 1}
    new = node.host.counted(requests) - known
    assert set(new) == {key}
    assert 49 <= new[key] <= 49 + len(canaries(node)) - canaries_before, "a canary sends a request as well"


def canaries(node: Node) -> set[int]:
    """The cookies of the canaries that were told of."""
    return {flow.cookie for flow in node.probe.tail.all() if flow.canary}


def test_flows_older_than_the_probe_are_judged_at_their_next_packet(node: Node) -> None:
    scene = node.scene
    with (
        scene.rules(Mode.IPTABLES, scene.service(node.pod)),
        scene.asker("127.0.0.1", HOST_PORT) as direct,
        scene.asker(NODE_IP, NODE_PORT) as translated,
        scene.asker(NODE_IP, HOST_PORT, netns=node.client_pod.netns) as of_a_pod,
    ):
        ways = {direct: Verdict.DIRECT, translated: Verdict.KUBE_PROXY}
        assert [asker.ask() for asker in (*ways, of_a_pod)] == [200] * 3
        with scene.probe() as probe:
            probe.tail.wait(lambda: probe.tail.health.canaries, "its canaries")
            for asker in ways:
                early = scene.told_of(probe, asker.way)
                assert early is None or early.verdict is Verdict.UNKNOWN
            for asker, verdict in ways.items():
                assert asker.ask() == 200
                assert scene.compare(scene.flow(probe, asker.way)).verdict is verdict
            assert of_a_pod.ask() == 200
            with scene.asker("127.0.0.1", HOST_PORT) as later:  # what came before is told by then
                assert later.ask() == 200
                assert scene.flow(probe, later.way).verdict is Verdict.DIRECT
            pod = f"{of_a_pod.way.src}:{of_a_pod.way.src_port}"
            assert not [one for one in probe.tail.history if str(one.client) == pod]
            direct_flows = [one for one in probe.tail.history if one.verdict is Verdict.DIRECT]
            assert {one.asked.port for one in direct_flows} == {HOST_PORT}


# The CNI's port map


@pytest.mark.usefixtures("host_port")
@pytest.mark.parametrize("way", ["127.0.0.1", NODE_IP])
def test_host_port_by_the_cni_port_map_is_no_direct_path(node: Node, way: str) -> None:
    judged = node.pull(f"{way}:{HOST_PORT}", by=node.pod)  # though the host's agent listens there as well
    assert verdicts(judged) == {Verdict.HOSTPORT_NAT}
    assert went(judged) == {node.pod.service}


@pytest.mark.usefixtures("host_port")
def test_port_map_that_can_not_keep_the_source_port_is_told_by_the_mark_of_the_syn(node: Node) -> None:
    scene = node.scene
    with closing(scene.dial(node.local_pod.address, AGENT_PORT)) as holder:  # so its source port is taken
        taken = Way.of(holder)
        with scene.asker("127.0.0.1", HOST_PORT, source=("127.0.0.1", taken.src_port)) as asker:
            assert asker.ask() == 200
            judged = scene.compare(scene.flow(node.probe, asker.way))
            assert judged.truth is not None
            assert judged.truth.reply.dst_port != taken.src_port
            assert judged.verdict is Verdict.HOSTPORT_NAT


# kube-proxy


@pytest.mark.parametrize(
    ("mode", "way"),
    [
        (Mode.IPTABLES, LOCALHOST_NODE_PORT),
        (Mode.IPTABLES, NODE_IP_NODE_PORT),
        (Mode.IPTABLES, CLUSTER_IP),
        (Mode.NFTABLES, NODE_IP_NODE_PORT),
        (Mode.NFTABLES, CLUSTER_IP),
    ],
)
def test_local_pod_as_the_endpoint_is_kube_proxys(node: Node, mode: Mode, way: str) -> None:
    with node.scene.rules(mode, node.scene.service(node.pod)):
        judged = node.pull(way, by=node.pod)
    assert verdicts(judged) == {Verdict.KUBE_PROXY}
    assert went(judged) == {node.pod.service}
    assert {one.flow.endpoint.value for one in judged} == {"clusterip" if way == CLUSTER_IP else "nodeport"}


@pytest.mark.parametrize(
    ("mode", "way", "policies"),
    [
        (Mode.IPTABLES, LOCALHOST_NODE_PORT, {}),
        (Mode.IPTABLES, NODE_IP_NODE_PORT, {"external_policy": "Local"}),
        (Mode.IPTABLES, LOCALHOST_NODE_PORT, {"internal_policy": "Local"}),
        (Mode.IPTABLES, CLUSTER_IP, {}),
        (Mode.NFTABLES, NODE_IP_NODE_PORT, {}),
        (Mode.NFTABLES, CLUSTER_IP, {}),
    ],
)
def test_of_three_endpoints_the_remote_ones_are_told_from_the_local_one(
    node: Node, mode: Mode, way: str, policies: dict[str, Any]
) -> None:
    with node.scene.rules(mode, node.scene.service(node.pod, *node.far, **policies)):
        judged = pull_until(node, way, {Verdict.KUBE_PROXY, Verdict.KUBE_PROXY_REMOTE})
    for one in judged:
        local = one.went == node.pod.service
        assert one.verdict is (Verdict.KUBE_PROXY if local else Verdict.KUBE_PROXY_REMOTE)
        assert local or one.went in {agent.service for agent in node.far}


@pytest.mark.parametrize("mode", Mode)
def test_internal_policy_local_keeps_cluster_ips_on_the_node(node: Node, mode: Mode) -> None:
    with node.scene.rules(mode, node.scene.service(node.pod, *node.far, internal_policy="Local")):
        for _ in range(5):
            judged = node.pull(CLUSTER_IP, by=node.pod)
            assert verdicts(judged) == {Verdict.KUBE_PROXY}
            assert went(judged) == {node.pod.service}


@pytest.mark.parametrize("way", [LOCALHOST_NODE_PORT, NODE_IP_NODE_PORT, CLUSTER_IP])
def test_agent_of_the_host_network_as_the_endpoint_is_kube_proxys(node: Node, way: str) -> None:
    with node.scene.rules(Mode.IPTABLES, node.scene.service(node.host)):
        judged = node.pull(way, by=node.host)
    assert verdicts(judged) == {Verdict.KUBE_PROXY}
    assert went(judged) == {node.host.service}
    assert {str(one.flow.client).partition(":")[0] for one in judged} == {NODE_IP}


def test_agent_of_the_host_network_behind_an_older_bridge_is_kube_proxys() -> None:
    with Scene("bridge", bridge_first=True, remotes=1, images=4) as scene:
        scene.start_registry()
        containerd = scene.start_containerd()
        (agent,) = scene.start_agents((scene.node.name, scene.node))
        probe = scene.start_probe()
        with scene.rules(Mode.IPTABLES, scene.service(agent)):
            judged = scene.pull(containerd, LOCALHOST_NODE_PORT, probe)
        assert verdicts(judged) == {Verdict.KUBE_PROXY}
        sources = {str(one.flow.client).partition(":")[0] for one in judged}
        assert sources == {scene.node.pod_address(1)}, "it is masqueraded to the bridge's address"


@pytest.mark.parametrize("away", ["local", "remote"])
@pytest.mark.parametrize("mode", Mode)
def test_endpoint_taken_away_keeps_its_connection_and_the_verdict(node: Node, mode: Mode, away: str) -> None:
    scene, tail = node.scene, node.probe.tail
    agents = {"local": (node.pod, node.far[0]), "remote": (node.far[0], node.pod)}[away]
    meant = {"local": Verdict.KUBE_PROXY, "remote": Verdict.KUBE_PROXY_REMOTE}
    with scene.rules(mode, scene.service(agents[0])), scene.asker(NODE_IP, NODE_PORT) as asker:
        assert asker.ask() == 200
        flow = scene.flow(node.probe, asker.way)
        assert (flow.verdict, str(flow.went)) == (meant.pop(away), agents[0].service)
        scene.install(mode, scene.service(agents[1]))
        judged = node.pull(NODE_IP_NODE_PORT)
        assert (verdicts(judged), went(judged)) == (set(meant.values()), {agents[1].service})
        assert [asker.ask() for _ in range(3)] == [200] * 3
    until(lambda: tail.known[flow.cookie].closed, "its end")
    told = [one for one in tail.history if one.cookie == flow.cookie]
    assert {(one.verdict, one.went) for one in told} == {(flow.verdict, flow.went)}
    assert sum(one.verdict_is_new for one in told) == 1


# Failures


@pytest.mark.parametrize(
    ("mode", "way"),
    [
        (Mode.IPTABLES, LOCALHOST_NODE_PORT),
        (Mode.IPTABLES, NODE_IP_NODE_PORT),
        (Mode.IPTABLES, CLUSTER_IP),
        (Mode.NFTABLES, NODE_IP_NODE_PORT),
        (Mode.NFTABLES, CLUSTER_IP),
    ],
)
def test_without_endpoints_it_failed_and_the_pull_goes_on_to_the_registry(
    node: Node, mode: Mode, way: str
) -> None:
    with node.scene.rules(mode, node.scene.service()):
        judged = node.pull(way, falls_back=True)
    assert verdicts(judged) == {Verdict.FAILED}
    assert went(judged) == {"" if way == CLUSTER_IP else way}, "a ClusterIP's SYN does not even leave"


def test_nftables_mode_refuses_localhost(node: Node) -> None:
    with node.scene.rules(Mode.NFTABLES, node.scene.service(node.pod)):
        judged = node.pull(LOCALHOST_NODE_PORT, falls_back=True)
    assert verdicts(judged) == {Verdict.FAILED}
    assert went(judged) == {LOCALHOST_NODE_PORT}


@pytest.mark.parametrize("mode", Mode)
def test_cluster_ip_that_is_silently_dropped_failed_when_its_client_gave_up(node: Node, mode: Mode) -> None:
    scene = node.scene
    with (
        scene.rules(mode, scene.service(*node.far, internal_policy="Local")),
        scene.judging(node.probe, CLUSTER_IP) as judged,
    ):
        node.containerd.use_mirrors("registry.demo", scene.registry.endpoint, [CLUSTER_IP])
        with pytest.raises((PullFailed, LabError)):
            node.containerd.pull(scene.image(), at_most_s=0.5)
    until(lambda: all(node.probe.tail.known[one.flow.cookie].closed for one in judged), "the client gives up")
    flows = [node.probe.tail.known[one.flow.cookie] for one in judged]
    assert {(flow.verdict, flow.went) for flow in flows} == {(Verdict.FAILED, None)}


def test_endpoint_that_is_gone_failed_translated(node: Node) -> None:
    gone = Endpoint(ip=node.client_pod.address, port=AGENT_PORT, local=True)  # nobody listens there
    with node.scene.rules(Mode.IPTABLES, node.scene.service(gone)):  # as a stopped kube-proxy leaves them
        judged = node.pull(LOCALHOST_NODE_PORT, falls_back=True)
    assert verdicts(judged) == {Verdict.FAILED}
    assert went(judged) == {str(gone)}
    assert {one.truth.kind for one in judged if one.truth} == {Kind.DNAT}
    assert all("did not take the connection" in one.flow.reason for one in judged)


def test_pod_that_is_gone_failed_translated(node: Node) -> None:
    nobody = Endpoint(ip=node.scene.node.pod_address(99), port=AGENT_PORT, local=True)
    with (
        node.scene.rules(Mode.IPTABLES, node.scene.service(nobody)),
        node.scene.judging(node.probe, LOCALHOST_NODE_PORT, comm="") as judged,
        pytest.raises(TimeoutError),
    ):
        node.scene.dial("127.0.0.1", NODE_PORT, at_most_s=0.3)
    assert verdicts(judged) == {Verdict.FAILED}
    assert went(judged) == {str(nobody)}


# Pods as clients


@pytest.mark.parametrize("mode", Mode)
def test_client_in_a_pod_is_counted_and_not_told_of(node: Node, mode: Mode) -> None:
    scene, tail = node.scene, node.probe.tail
    before = tail.health.foreign
    with scene.rules(mode, scene.service(node.pod, *node.far)):
        for host, port, translated in (
            (NODE_IP, HOST_PORT, False),
            (NODE_IP, NODE_PORT, True),
            (VIP, VIP_PORT, True),
        ):
            with scene.asker(host, port, netns=node.client_pod.netns) as asker:
                assert asker.ask() == 200
                truth = scene.watcher.find(asker.way)
                assert (truth.kind is Kind.DNAT) is translated
    until(lambda: tail.health.foreign >= before + 3, "they are counted")
    assert not [flow for flow in tail.history if str(flow.client).startswith(node.client_pod.address)]


# IPv6


@dataclass(frozen=True, slots=True, kw_only=True)
class Six:
    """What speaks IPv6. containerd is 2.1: older ones can't read a hosts.toml that names an IPv6 address."""

    agent: RunningAgent
    far: RunningAgent
    containerd: Containerd


@pytest.fixture(scope="module")
def six(node: Node) -> Iterator[Six]:
    scene = node.scene
    remote = scene.remotes[0].add_pod()
    here, there = f"[{scene.node.address6}]", f"[{remote.address6}]"
    with (
        scene.agent(
            scene.node.name,
            scene.node,
            hostport=f"[::1]:{HOST_PORT}",
            peer=f"{here}:{HOST_PORT}",
            nodeport=f"{here}:{AGENT_PORT}",
            admin="127.0.0.1:9092",
        ) as agent,
        scene.agent("node2", remote, peer=f"{there}:{HOST_PORT}", nodeport=f"{there}:{AGENT_PORT}") as far,
    ):
        until(agent.follows_a_probe, "the agent follows the probe")
        yield Six(agent=agent, far=far, containerd=node.containerds["2.1"])


def test_ipv6_loopback_and_node_address_are_direct(node: Node, six: Six) -> None:
    judged = node.pull(f"[::1]:{HOST_PORT}", by=six.agent, containerd=six.containerd)
    assert (verdicts(judged), went(judged)) == ({Verdict.DIRECT}, {f"[::1]:{HOST_PORT}"})
    judged = node.pull(f"[{node.scene.node.address6}]:{HOST_PORT}", containerd=six.containerd)
    assert verdicts(judged) == {Verdict.DIRECT}


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("way", [NODE_IP6_NODE_PORT, CLUSTER_IP6])
def test_ipv6_by_kube_proxy_is_told_apart_like_ipv4(node: Node, six: Six, mode: Mode, way: str) -> None:
    scene = node.scene
    with scene.rules(mode, scene.service(six.agent, vip=VIP6)):
        judged = node.pull(way, by=six.agent, containerd=six.containerd)
        assert (verdicts(judged), went(judged)) == ({Verdict.KUBE_PROXY}, {six.agent.service})
        scene.install(mode, scene.service(six.far, vip=VIP6))
        judged = node.pull(way, containerd=six.containerd)
        assert (verdicts(judged), went(judged)) == ({Verdict.KUBE_PROXY_REMOTE}, {six.far.service})


@pytest.mark.parametrize("mode", Mode)
def test_ipv6_localhost_has_no_node_port(node: Node, six: Six, mode: Mode) -> None:
    with node.scene.rules(mode, node.scene.service(six.agent, vip=VIP6)):
        judged = node.pull(f"[::1]:{NODE_PORT}", falls_back=True, containerd=six.containerd)
    assert verdicts(judged) == {Verdict.FAILED}


# All in all


def test_every_connection_that_conntrack_saw_was_told_of_and_rightly(node: Node) -> None:
    found = node.scene.compare_all(node.probe, since=node.seen)
    assert found[Verdict.DIRECT] > 0


def test_probe_lost_nothing_and_both_ends_never_contradict_each_other(node: Node) -> None:
    assert node.probe.tail.error is None
    assert node.scene.watcher.overruns == 0
    health = node.probe.tail.health
    assert (health.lost_events, health.lost_flows, health.lost_packets) == (0, 0, 0)
    assert (health.invalid_events, health.forgotten, health.contradictions) == (0, 0, 0)
    assert node.probe.metric("shorthaul_probe_lost_total") == 0
