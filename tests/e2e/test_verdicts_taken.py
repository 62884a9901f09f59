"""Who took a connection, and who may spoil the proof: processes in between, pods, other users, and verify."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from agent.flows.verdicts import EndpointName, Verdict
from benchmarks.lab.kubeproxy import Mode
from benchmarks.lab.process import run
from tests.e2e.verdicts import (
    AGENT_PORT,
    DIRECT_URL,
    HOST_PORT,
    NODE_PORT,
    Node,
    make_node,
    until,
    verdicts,
    went,
)
from tests.e2e.verdicts.running import Judged
from tests.e2e.verdicts.watching import PROVED, forwarder, watched

pytestmark = pytest.mark.e2e

LOCALHOST_NODE_PORT = f"127.0.0.1:{NODE_PORT}"
BESIDE = f"127.0.0.1:{HOST_PORT + 79}"
PROXY = "127.0.0.1:9999"
USER = 54321


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces, containerd and eBPF: run `make test` as root")
    with make_node("taken") as made:
        yield made


@contextmanager
def rules(netns: str, *rules: str) -> Iterator[None]:
    """iptables rules, each as ``TABLE CHAIN …``, for a while."""
    added: list[list[str]] = []
    try:
        for rule in rules:
            table, chain, *words = rule.split()
            run(["iptables", "-t", table, "-A", chain, *words], netns=netns)
            added.append(["iptables", "-t", table, "-D", chain, *words])
        yield
    finally:
        for command in reversed(added):
            run(command, netns=netns)


# Another process takes it


def pull_named(pull: Callable[[], list[Judged]]) -> list[Judged]:
    """Pull, and again if the listener was too new for its name to be known.

    The probe looks up who listens where at most once in five seconds, and later on a busy machine.
    """
    for _ in range(5):
        judged = pull()
        if any("taken by python" in one.flow.reason for one in judged):
            break
        time.sleep(6)
    return judged


def test_user_space_proxy_of_the_node_port_is_proxied_and_named(node: Node) -> None:
    """As kube-proxy's own one for localhost is, in nftables mode: nothing is translated at either side."""
    far = node.far[0]
    with (
        node.scene.rules(Mode.NFTABLES, node.scene.service(far)),
        forwarder(node, LOCALHOST_NODE_PORT, far.service),
    ):
        judged = pull_named(lambda: node.pull(LOCALHOST_NODE_PORT, by=None))
        status, found = node.scene.verify(endpoints=[DIRECT_URL, LOCALHOST_NODE_PORT])
    assert verdicts(judged) == {Verdict.PROXIED}
    assert {one.flow.endpoint for one in judged} == {EndpointName.NODEPORT}
    assert went(judged) == {LOCALHOST_NODE_PORT}
    reasons = [one.flow.reason for one in judged]  # on a busy machine the name may come too late for some
    assert any("taken by python" in reason and "(pid " in reason for reason in reasons), reasons
    assert all("taken by " in reason for reason in reasons), reasons
    assert [canary["verdict"] for canary in found["canaries"]] == ["DIRECT", "PROXIED"]
    assert "passed it on" in found["canaries"][1]["reason"]
    assert (status, found["canaries"][1]["answered_by"]) == (0, ""), "the HostPort itself is the agent's"


def test_user_space_proxy_before_the_agent_is_proxied_and_proves_nothing(node: Node) -> None:
    with (
        watched(node, DIRECT_URL, hostport=BESIDE) as (probe, agent),
        forwarder(node, DIRECT_URL, BESIDE),
    ):
        judged = node.pull(DIRECT_URL, instead=agent)
        status, found = node.scene.verify(config=probe.config)
        assert (status, found["proved"]) == (1, False)
        assert "PROXIED" in found["why"]
        assert agent.metric(PROVED) == 0
        assert "PROXIED" in agent.api("/api/flows")["why"]
        assert agent.counted("shorthaul_local_flows_total")["hostport", "PROXIED"] >= len(judged)
    assert verdicts(judged) == {Verdict.PROXIED}


def test_redirect_to_a_process_of_the_node_is_proxied(node: Node) -> None:
    redirect = f"nat OUTPUT -p tcp -d 127.0.0.1 --dport {HOST_PORT} -j REDIRECT --to-ports 9999"
    with (
        watched(node, DIRECT_URL) as (_, agent),
        forwarder(node, PROXY, node.far[0].service),
        rules(node.scene.node.netns, redirect),
    ):
        judged = pull_named(lambda: node.pull(DIRECT_URL, instead=agent))
        until(lambda: agent.metric(PROVED) == 0, "it is not proved any more")
    assert verdicts(judged) == {Verdict.PROXIED}
    assert went(judged) == {PROXY}
    reasons = [one.flow.reason for one in judged]
    assert any("taken by python" in reason for reason in reasons), reasons
    assert all("taken by " in reason for reason in reasons), reasons


def test_transparent_proxy_before_the_agents_own_listener_is_proxied(node: Node) -> None:
    netns = node.scene.node.netns
    ways = (["rule", "add", "fwmark", "7", "lookup", "77"], ["route", "add", "local", "default", "dev", "lo"])
    with (
        watched(node, DIRECT_URL) as (_, agent),
        forwarder(node, PROXY, node.far[0].service, transparent=True),
    ):
        run(["ip", *ways[0]], netns=netns)
        run(["ip", *ways[1], "table", "77"], netns=netns)
        try:
            with rules(
                netns,
                f"mangle OUTPUT -p tcp -d 127.0.0.1 --dport {HOST_PORT} -j MARK --set-mark 7",
                f"mangle PREROUTING -p tcp -d 127.0.0.1 --dport {HOST_PORT} -j TPROXY --on-ip 127.0.0.1 "
                "--on-port 9999 --tproxy-mark 7",
            ):
                judged = node.pull(DIRECT_URL, instead=agent)
                until(lambda: agent.metric(PROVED) == 0, "it is not proved any more")
        finally:
            run(["ip", "rule", "del", "fwmark", "7"], netns=netns)
            run(["ip", "route", "flush", "table", "77"], netns=netns)
    assert verdicts(judged) == {Verdict.PROXIED}
    assert all("TPROXY" in one.flow.reason for one in judged)


def test_without_an_agent_that_told_its_sockets_nothing_is_direct(node: Node) -> None:
    with node.scene.probe_alone() as probe:
        judged = node.scene.pull(node.containerd, DIRECT_URL, probe)
    assert verdicts(judged) == {Verdict.UNKNOWN}
    assert all("no agent" in one.flow.reason for one in judged)


# The agent's own listeners


def test_client_of_the_node_at_the_nodes_address_is_direct_and_spoils_nothing(node: Node) -> None:
    """It is taken by the listener for peers, which is the agent's own as well."""
    address = node.scene.node.address
    with watched(node, DIRECT_URL) as (probe, agent):
        until(lambda: agent.metric(PROVED) == 1, "the canary's proof")
        with node.scene.asker(address, HOST_PORT) as asker:
            assert asker.ask() == 200
            flow = node.scene.flow(probe, asker.way)
        assert (flow.endpoint, flow.verdict) == (EndpointName.HOSTPORT, Verdict.DIRECT)
        assert verdicts(node.pull(f"{address}:{HOST_PORT}", instead=agent)) == {Verdict.DIRECT}
        assert agent.metric(PROVED) == 1


def test_connections_older_than_the_probe_are_the_agents_own_when_it_says_so(node: Node) -> None:
    with node.scene.asker("127.0.0.1", HOST_PORT) as asker:
        assert asker.ask() == 200
        with node.scene.probe() as probe:
            assert asker.ask() == 200
            until(lambda: node.scene.flow(probe, asker.way).verdict is Verdict.DIRECT, "it is claimed")


# Who may spoil the proof


def test_pods_own_traffic_and_rules_are_counted_apart_and_spoil_nothing(node: Node) -> None:
    netns = node.client_pod.netns
    redirect = f"nat OUTPUT -p tcp --dport {HOST_PORT} -j REDIRECT --to-ports 9999"
    with (
        watched(node, DIRECT_URL) as (probe, agent),
        forwarder(node, PROXY, node.far[0].service, netns=netns),
        rules(netns, redirect),
    ):
        until(lambda: agent.metric(PROVED) == 1, "the canary's proof")
        before = agent.counted("shorthaul_local_flows_total")
        for host in ("127.0.0.1", node.scene.node.address):
            for _ in range(10):
                with node.scene.asker(host, HOST_PORT, netns=netns) as asker:
                    assert asker.ask() in (200, 404)
        until(lambda: probe.tail.health.foreign >= 20, "they are counted apart")
        assert agent.metric(PROVED) == 1
        new = agent.counted("shorthaul_local_flows_total") - before
        assert set(new) <= {("hostport", "DIRECT")}, "canaries"
        document = agent.api("/api/flows")
        assert document["foreign"] >= 20
        assert not [one for one in document["flows"] if one["client"].startswith(node.client_pod.address)]
    assert not [one for one in probe.tail.history if str(one.client).startswith(node.client_pod.address)]


@pytest.mark.parametrize("to", ["itself", "node", "node port"])
def test_flood_from_a_pod_costs_the_node_no_evidence(node: Node, to: str) -> None:
    """Neither an event nor room in the ring buffer: the smallest one is enough."""
    pod, address = node.client_pod, node.scene.node.address
    host, port = {
        "itself": ("127.0.0.1", HOST_PORT),
        "node": (address, HOST_PORT),
        "node port": (address, NODE_PORT),
    }[to]
    with (
        node.scene.probe(ring_bytes=65536) as probe,
        node.scene.rules(Mode.IPTABLES, node.scene.service(node.pod)),
        contextlib.ExitStack() as stack,
    ):
        if to == "itself":
            stack.enter_context(forwarder(node, f"127.0.0.1:{HOST_PORT}", "127.0.0.1:1", netns=pod.netns))
        told = probe.metric("shorthaul_probe_events_total")
        command = ["/usr/bin/python3", "-c", _FLOOD, host, str(port)]
        flooding = node.scene.run(command, "a flood", ready=lambda: True, netns=pod.netns)
        try:
            until(lambda: probe.tail.health.foreign > 2000, "a flood")
            judged = node.scene.pull(node.containerd, DIRECT_URL, probe)
            until(lambda: probe.tail.health.foreign > 4000, "more of it")
        finally:
            flooding.kill()
        assert verdicts(judged) == {Verdict.DIRECT}
        if to != "node port":  # there the node itself is the client, in the eyes of the endpoint
            assert probe.metric("shorthaul_probe_lost_total", what="events") == 0
            assert probe.metric("shorthaul_probe_lost_total", what="ends") == 0
            assert probe.metric("shorthaul_probe_events_total") - told < 1000


_FLOOD = """
import socket, sys
while True:
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as client:
            client.sendall(b"?")
    except OSError:
        pass
"""


def test_other_users_of_the_node_can_not_spoil_the_proof(node: Node) -> None:
    """With a listener of their own at the HostPort's number, odd sources, resets and refusals."""
    own = f"127.0.0.5:{HOST_PORT}"
    mine = f"nat OUTPUT -p tcp -m owner --uid-owner {USER} --dport {HOST_PORT} -j REDIRECT --to-ports 9999"
    with (
        watched(node, DIRECT_URL) as (probe, agent),
        forwarder(node, own, node.far[0].service, uid=USER),
        forwarder(node, PROXY, node.far[0].service, uid=USER),
        rules(node.scene.node.netns, mine),
    ):
        until(lambda: agent.metric(PROVED) == 1, "the canary's proof")
        as_user(node, "127.0.0.5", HOST_PORT)  # its own listener
        as_user(node, "127.0.0.1", HOST_PORT)  # the rule for this user only
        as_user(node, "127.0.0.9", HOST_PORT)  # the rule again, or nobody

        def seen() -> set[Verdict]:
            return {flow.verdict for flow in probe.tail.all() if not flow.by_containerd and not flow.canary}

        until(lambda: Verdict.PROXIED in seen(), "they are judged")
        judged = node.pull(DIRECT_URL, instead=agent)
        assert verdicts(judged) == {Verdict.DIRECT}
        assert all(one.flow.by_containerd for one in judged)
        assert agent.metric(PROVED) == 1


_AS_USER = """
import socket, struct, sys
client = socket.socket()
client.bind(("127.0.0.77", 0))
client.settimeout(5)
client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
try:
    client.connect((sys.argv[1], int(sys.argv[2])))
    client.sendall(b"GET /v2/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    client.recv(1)
except OSError:
    pass
client.close()
"""


def as_user(node: Node, host: str, port: int) -> None:
    """A request and a reset by another user, from an odd source."""
    become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "/usr/bin/python3"]
    with node.scene.seated():
        run([*become, "-c", _AS_USER, host, str(port)], netns=node.scene.node.netns)


# verify agrees with the agent


def test_verify_says_what_the_agent_says_of_a_rule_for_containerds_group_alone(node: Node) -> None:
    """The canary is direct, and containerd's connections are not."""
    group = 4242
    netns = node.scene.node.netns
    which, to = f"--gid-owner {group} --dport {HOST_PORT}", f"{node.scene.node.address}:{AGENT_PORT}"
    rule = f"nat OUTPUT -p tcp -m owner {which} -j DNAT --to {to}"
    with (
        watched(node, DIRECT_URL, interval_s=300) as (probe, agent),
        node.scene.containerd_of_group(group) as containerd,
        rules(netns, rule),
    ):
        until(lambda: agent.metric(PROVED) == 1, "the canary's proof")
        judged = node.pull(DIRECT_URL, instead=agent, containerd=containerd)
        assert verdicts(judged) == {Verdict.KUBE_PROXY}
        until(lambda: agent.metric(PROVED) == 0, "the agent says so")
        status, found = node.scene.verify(config=probe.config)
        assert (status, found["proved"]) == (1, False)
        assert found["canaries"][0]["verdict"] == "DIRECT"
        assert found["agent"]["why"] in found["why"]
        assert found["asked"] == "running probe"


def test_verify_in_another_namespace_than_containerds_is_a_failure_with_a_hint(node: Node) -> None:
    for config in (None, node.scene.config()):  # beside the probe, and where none runs
        status, found = node.scene.verify(netns=node.client_pod.netns, config=config)
        assert (status, found["proved"]) == (1, False)
        assert "network namespace" in found["why"]
        assert "hostNetwork: true" in found["why"]
        assert found["canaries"] == []
    assert node.host.follows_a_probe()


def test_verify_without_an_agent_that_can_be_asked_proves_nothing(node: Node) -> None:
    config = node.scene.config(listen={"admin": "127.0.0.1:9"}, socket=str(node.scene.folder / "probe.sock"))
    status, found = node.scene.verify(config=config)
    assert (status, found["proved"]) == (1, False)
    assert "can't be asked" in found["why"]


@pytest.mark.parametrize(
    ("text", "proved"),
    [
        (f'[host."http://127.0.0.1:{HOST_PORT}"]\n', True),
        ('[host."http://127.0.0.1:8000"]\n', False),
        (f'[host."http://192.0.2.77:{HOST_PORT}"]\n', False),
        (None, False),
    ],
)
def test_verify_proves_what_containerd_is_told_to_use_and_nothing_else(
    node: Node, text: str | None, proved: bool
) -> None:
    with node.host.away():  # what earlier tests disproved is forgotten
        pass
    hosts = node.scene.folder / f"certs-{abs(hash(text))}"
    (hosts / "_default").mkdir(parents=True)
    if text is not None:
        (hosts / "_default/hosts.toml").write_text(text)
    config = node.scene.config(
        socket=str(node.scene.folder / "probe.sock"), endpoints=[], hosts_dir=str(hosts)
    )
    status, found = node.scene.verify(config=config)
    assert (status, found["proved"]) == (0 if proved else 1, proved), found["why"]
    assert proved or "containerd" in found["why"]
