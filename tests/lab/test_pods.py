"""Connections through real rules between real namespaces, and what the oracle says of each."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab import portmap
from benchmarks.lab.conntrack import Flow, Kind, Translation, Watcher, entries, lookup, turn_on
from benchmarks.lab.kubeproxy import Endpoint, Mode, NodeAddresses, Rules, Service, install, remove, rules
from benchmarks.lab.network import inside, sweep
from benchmarks.lab.pods import NatNode, Pod, PodNetwork
from benchmarks.lab.portmap import HostPort
from benchmarks.lab.process import LabError, run

pytestmark = pytest.mark.e2e

VIP, VIP6 = "10.96.0.50", "fd00:10:96::50"
SERVICE_PORT, NODE_PORT, POD_PORT, HOST_PORT = 30020, 30021, 30022, 30025
SILENT_S = 0.2  # over IPv4 nothing that refuses takes that long
# Over IPv6 the ICMP answer to the first SYN does not end connect(); that to the second does, a second later.
REFUSED_S = 10.0
MANY = 40  # so many tosses of a coin are never all heads

# Run as another process, which is then killed: a network, and word of it.
_MAKER = """
import time
from benchmarks.lab.pods import PodNetwork
with PodNetwork() as network:
    network.serve(network.node.add_pod(), 30022)
    print("made", flush=True)
    time.sleep(600)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a client saw: its own two addresses, and who answered and saw it come from where."""

    flow: Flow
    name: str
    seen: tuple[str, int]


class Lab:
    """A node with two pods, a remote node with one; servers in all but the second pod."""

    def __init__(self, network: PodNetwork) -> None:
        self.network = network
        self.node, self.remote_node = network.node, network.remotes[0]
        self.local, self.client = self.node.add_pod(), self.node.add_pod()
        self.remote = self.remote_node.add_pod()
        for where in (self.local, self.remote, self.node):
            network.serve(where, POD_PORT)

    def endpoint(self, where: Pod | NatNode, *, ipv6: bool = False) -> Endpoint:
        """A pod, or a process in the node's host namespace, as an endpoint."""
        ip = where.address6 if ipv6 else where.address
        return Endpoint(ip=f"{ip}", port=POD_PORT, local=where not in (self.remote, self.remote_node))

    def rules(self, mode: Mode, *endpoints: Pod | NatNode, **policies: Any) -> Rules:
        """A dual-stack Service with these endpoints."""
        basics = {"namespace": "shorthaul", "name": "shorthaul", "port_name": "http", **policies}
        services = [
            Service(
                **basics,
                cluster_ip=vip,
                port=SERVICE_PORT,
                node_port=NODE_PORT,
                endpoints=tuple(self.endpoint(where, ipv6=ipv6) for where in endpoints),
            )
            for vip, ipv6 in ((VIP, False), (VIP6, True))
        ]
        node = NodeAddresses(addresses=self.node.addresses, pod_cidrs=self.network.pod_cidrs)
        return rules(mode, services, node)

    def install(self, mode: Mode, *endpoints: Pod | NatNode, **policies: Any) -> None:
        """Put the Service into the node."""
        install(self.node.netns, self.rules(mode, *endpoints, **policies))

    def told(self, flow: Flow) -> Translation:
        """What the node's conntrack says of a flow that there was."""
        found = lookup(self.node.netns, flow)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def whole_lab() -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces: run `make test` as root")
    with PodNetwork(dual_stack=True, name="test") as network:
        yield Lab(network)


@pytest.fixture
def lab(whole_lab: Lab) -> Iterator[Lab]:
    yield whole_lab
    remove(whole_lab.node.netns)


def connect(netns: str, address: str, port: int, *, at_most_s: float = 20.0) -> socket.socket:
    """A connection from a namespace."""
    return inside(netns, lambda: socket.create_connection((address, port), timeout=at_most_s))


def greeted(connection: socket.socket) -> Greeting:
    """What the server says first."""
    with connection.makefile() as stream:
        name, address, port = stream.readline().split()
    return Greeting(flow=Flow.of(connection), name=name, seen=(address, int(port)))


def ask(netns: str, address: str, port: int) -> Greeting:
    """Connect, be greeted, and leave."""
    with connect(netns, address, port) as connection:
        return greeted(connection)


def names(netns: str, address: str, port: int) -> set[str]:
    """Who answers when one asks often."""
    return {ask(netns, address, port).name for _ in range(MANY)}


def fail(netns: str, address: str, port: int, *, at_most_s: float = REFUSED_S) -> tuple[Flow, type[OSError]]:
    """Connect in vain: the flow that was tried, and how it ended."""

    def attempt() -> tuple[Flow, type[OSError]]:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
            # A datagram socket's connect tells the source address without sending anything.
            with socket.socket(client.family, socket.SOCK_DGRAM) as guide:
                guide.connect((address, port))
                client.bind((guide.getsockname()[0], 0))
            src, src_port = client.getsockname()[:2]
            client.settimeout(at_most_s)
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the caller asks which
                client.connect((address, port))
            return Flow(src=src, src_port=src_port, dst=address, dst_port=port), type(caught.value)

    return inside(netns, attempt)


def namespaces() -> set[str]:
    """The namespaces of this process's networks, other than the module's."""
    mine = f"shlab-{os.getpid()}-"
    there = {entry.name for entry in Path("/run/netns").iterdir() if entry.name.startswith(mine)}
    return {name for name in there if not name.startswith(f"{mine}test-")}


# From the node, through kube-proxy's rules

WAYS = {
    "127.0.0.1": (NODE_PORT, (Mode.IPTABLES,)),
    "192.168.60.1": (NODE_PORT, tuple(Mode)),
    "fd00:60::1": (NODE_PORT, tuple(Mode)),
    VIP: (SERVICE_PORT, tuple(Mode)),
    VIP6: (SERVICE_PORT, tuple(Mode)),
}


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("where", ["local", "remote", "node"])
def test_every_way_to_a_service_ends_at_its_endpoint_translated_and_masqueraded(
    lab: Lab, mode: Mode, where: str
) -> None:
    target: Pod | NatNode = getattr(lab, where)
    lab.install(mode, target)
    with Watcher(lab.node.netns) as watcher:
        for address, (port, modes) in WAYS.items():
            if mode not in modes:
                continue
            greeting = ask(lab.node.netns, address, port)
            assert greeting.name == target.name
            found = watcher.find(greeting.flow)
            assert found == lab.told(greeting.flow)
            endpoint = lab.endpoint(target, ipv6=":" in address)
            assert (found.kind, found.wire) == (Kind.DNAT, (endpoint.ip, endpoint.port))
            assert found.snat
            assert found.wire_source == greeting.seen
        assert watcher.overruns == 0


@pytest.mark.parametrize("policies", [{}, {"external_policy": "Local"}, {"internal_policy": "Local"}])
@pytest.mark.parametrize("mode", Mode)
def test_node_port_from_the_node_spreads_over_all_endpoints_whatever_the_policy(
    lab: Lab, mode: Mode, policies: dict[str, str]
) -> None:
    lab.install(mode, lab.local, lab.remote, **policies)
    everyone = {lab.local.name, lab.remote.name}
    assert names(lab.node.netns, lab.node.address, NODE_PORT) == everyone
    localised = "internal_policy" in policies
    assert names(lab.node.netns, VIP, SERVICE_PORT) == ({lab.local.name} if localised else everyone)


@pytest.mark.parametrize("mode", Mode)
def test_internal_policy_local_without_a_local_endpoint_is_silent_but_the_node_port_works(
    lab: Lab, mode: Mode
) -> None:
    lab.install(mode, lab.remote, internal_policy="Local")
    flow, error = fail(lab.node.netns, VIP, SERVICE_PORT, at_most_s=SILENT_S)
    assert error is TimeoutError
    assert lookup(lab.node.netns, flow) is None
    assert ask(lab.node.netns, lab.node.address, NODE_PORT).name == lab.remote.name


@pytest.mark.parametrize("mode", Mode)
def test_without_endpoints_a_node_port_goes_out_untranslated_and_a_cluster_ip_not_at_all(
    lab: Lab, mode: Mode
) -> None:
    lab.install(mode)
    ways = [("127.0.0.1", NODE_PORT), *((address, NODE_PORT) for address in lab.node.addresses)]
    ways += [(VIP, SERVICE_PORT), (VIP6, SERVICE_PORT)]
    with Watcher(lab.node.netns) as watcher, ThreadPoolExecutor() as pool:
        for flow, error in pool.map(lambda way: fail(lab.node.netns, *way), ways):
            assert error is ConnectionRefusedError
            if flow.dst_port == NODE_PORT:
                assert watcher.find(flow) == Translation(original=flow, reply=flow.reverse)
            else:
                assert lookup(lab.node.netns, flow) is None
        assert {found.original.dst for found in watcher.all()} == {"127.0.0.1", *lab.node.addresses}


def test_nftables_mode_leaves_localhost_to_whoever_listens_there(lab: Lab) -> None:
    lab.install(Mode.NFTABLES, lab.local)
    with Watcher(lab.node.netns) as watcher:
        flow, error = fail(lab.node.netns, "127.0.0.1", NODE_PORT)
        assert error is ConnectionRefusedError
        assert watcher.find(flow).kind is Kind.NONE
    server = lab.network.serve(lab.node, NODE_PORT)
    try:
        assert ask(lab.node.netns, "127.0.0.1", NODE_PORT).name == lab.node.name
        assert ask(lab.node.netns, lab.node.address, NODE_PORT).name == lab.local.name
    finally:
        server.close()


@pytest.mark.parametrize("mode", Mode)
def test_ipv6_localhost_is_refused_in_every_mode(lab: Lab, mode: Mode) -> None:
    lab.install(mode, lab.local)
    with Watcher(lab.node.netns) as watcher:
        flow, error = fail(lab.node.netns, "::1", NODE_PORT)
        assert error is ConnectionRefusedError
        assert watcher.find(flow).kind is Kind.NONE


@pytest.mark.parametrize("mode", Mode)
def test_swapped_endpoint_takes_new_connections_and_old_ones_stay_where_they_are(
    lab: Lab, mode: Mode
) -> None:
    lab.install(mode, lab.local)
    with connect(lab.node.netns, lab.node.address, NODE_PORT) as kept:
        before = greeted(kept)
        told = lab.told(before.flow)
        lab.install(mode, lab.remote)
        assert ask(lab.node.netns, lab.node.address, NODE_PORT).name == lab.remote.name
        kept.sendall(b"still there?")
        assert kept.recv(100) == b"still there?"
        assert (before.name, lab.told(before.flow)) == (lab.local.name, told)


def test_host_network_endpoint_sees_the_oldest_interface_as_its_peer(lab: Lab) -> None:
    lab.install(Mode.IPTABLES, lab.node)
    assert ask(lab.node.netns, "127.0.0.1", NODE_PORT).seen[0] == lab.node.address
    with PodNetwork(remotes=0, bridge_first=True, name="other") as network:
        network.serve(network.node, POD_PORT)
        only_ipv4 = lab.rules(Mode.IPTABLES, lab.node)
        install(network.node.netns, replace(only_ipv4, text={4: only_ipv4.text[4]}))
        assert ask(network.node.netns, "127.0.0.1", NODE_PORT).seen[0] == network.node.pod_address(1)


# From elsewhere, through the node


@pytest.mark.parametrize("mode", Mode)
def test_external_policy_local_keeps_an_outsiders_address_and_stays_local(lab: Lab, mode: Mode) -> None:
    lab.install(mode, lab.local, lab.remote, external_policy="Local")
    assert names(lab.remote_node.netns, lab.node.address, NODE_PORT) == {lab.local.name}
    greeting = ask(lab.remote_node.netns, lab.node.address, NODE_PORT)
    assert greeting.seen == (lab.remote_node.address, greeting.flow.src_port)
    found = lab.told(greeting.flow)
    assert (found.kind, found.snat) == (Kind.DNAT, False)
    lab.install(mode, lab.remote, external_policy="Local")
    _, error = fail(lab.remote_node.netns, lab.node.address, NODE_PORT, at_most_s=SILENT_S)
    assert error is TimeoutError


@pytest.mark.parametrize("mode", Mode)
def test_pod_that_asks_a_service_is_translated_in_its_nodes_namespace(lab: Lab, mode: Mode) -> None:
    lab.install(mode, lab.local)
    greeting = ask(lab.client.netns, VIP, SERVICE_PORT)
    assert greeting.seen == (lab.client.address, greeting.flow.src_port)
    found = lab.told(greeting.flow)
    assert (found.kind, found.wire, found.snat) == (Kind.DNAT, (lab.local.address, POD_PORT), False)
    turn_on(lab.client.netns)
    greeting = ask(lab.client.netns, VIP, SERVICE_PORT)
    untouched = lookup(lab.client.netns, greeting.flow)
    assert untouched is not None
    assert (untouched.kind, untouched.snat) == (Kind.NONE, False)


@pytest.mark.parametrize("mode", Mode)
def test_pod_can_be_given_to_itself(lab: Lab, mode: Mode) -> None:
    lab.install(mode, lab.local)
    greeting = ask(lab.local.netns, VIP, SERVICE_PORT)
    assert (greeting.name, greeting.seen[0]) == (lab.local.name, lab.node.pod_address(1))
    assert lab.told(greeting.flow).snat


# HostPorts


@pytest.fixture
def host_port(lab: Lab) -> Iterator[HostPort]:
    port = HostPort(host_port=HOST_PORT, container_port=POD_PORT)
    portmap.add(lab.node, lab.local, port)
    yield port
    portmap.remove(lab.node, lab.local, port)


def test_host_port_keeps_the_source_port_and_masquerades_only_localhost(
    lab: Lab, host_port: HostPort
) -> None:
    bridge = lab.node.pod_address(1)
    for address, source in (("127.0.0.1", bridge), (lab.node.address, lab.node.address)):
        # A port that another connection to the pod has already can't be kept, which is rare.
        asked = (ask(lab.node.netns, address, host_port.host_port) for _ in range(5))
        greeting = next(one for one in asked if one.seen == (source, one.flow.src_port))
        assert greeting.name == lab.local.name
        found = lab.told(greeting.flow)
        assert (found.kind, found.wire) == (Kind.DNAT, (lab.local.address, POD_PORT))
        assert found.snat == (address == "127.0.0.1")
    greeting = ask(lab.node.netns, f"{lab.node.address6}", host_port.host_port)
    assert lab.told(greeting.flow).wire == (lab.local.address6, POD_PORT)
    outside = ask(lab.remote_node.netns, lab.node.address, host_port.host_port)
    assert (outside.name, outside.seen[0]) == (lab.local.name, lab.remote_node.address)


def test_host_port_and_node_port_work_side_by_side(lab: Lab, host_port: HostPort) -> None:
    lab.install(Mode.IPTABLES, lab.remote)
    assert ask(lab.node.netns, "127.0.0.1", host_port.host_port).name == lab.local.name
    assert ask(lab.node.netns, "127.0.0.1", NODE_PORT).name == lab.remote.name


def test_removed_host_port_is_refused_and_leaves_route_localnet_behind(lab: Lab) -> None:
    port = HostPort(host_port=HOST_PORT, container_port=POD_PORT)
    portmap.add(lab.node, lab.local, port)
    for _ in range(2):
        portmap.remove(lab.node, lab.local, port)
    with Watcher(lab.node.netns) as watcher:
        flow, error = fail(lab.node.netns, "127.0.0.1", HOST_PORT)
        assert error is ConnectionRefusedError
        assert watcher.find(flow).kind is Kind.NONE
    left = Path(f"/proc/sys/net/ipv4/conf/{lab.node.bridge}/route_localnet")
    assert inside(lab.node.netns, left.read_text).strip() == "1"


def test_portmaps_words_come_with_the_error(lab: Lab) -> None:
    with pytest.raises(LabError, match="Invalid host port number"):
        portmap.add(lab.node, lab.local, HostPort(host_port=0, container_port=POD_PORT))


# The oracle


def test_conntrack_sees_nothing_until_it_is_turned_on(lab: Lab) -> None:
    netns, address = lab.remote_node.netns, lab.remote.address
    assert lookup(netns, ask(netns, address, POD_PORT).flow) is None
    turn_on(netns)
    greeting = ask(netns, address, POD_PORT)
    found = lookup(netns, greeting.flow)
    assert found == Translation(original=greeting.flow, reply=greeting.flow.reverse)
    assert (found.kind, found.snat) == (Kind.NONE, False)
    assert found in entries(netns)


def test_flow_is_not_found_by_its_answers_addresses(lab: Lab) -> None:
    lab.install(Mode.IPTABLES, lab.local)
    found = lab.told(ask(lab.node.netns, lab.node.address, NODE_PORT).flow)
    assert lookup(lab.node.netns, found.reply) is None


def test_watcher_misses_no_short_connection(lab: Lab) -> None:
    lab.install(Mode.IPTABLES, lab.local)
    with Watcher(lab.node.netns) as watcher:
        flows = [ask(lab.node.netns, "127.0.0.1", NODE_PORT).flow for _ in range(200)]
        assert {watcher.find(flow).wire for flow in flows} == {(lab.local.address, POD_PORT)}
        assert watcher.overruns == 0
        with pytest.raises(LabError, match="never told"):
            watcher.find(flows[0].reverse, at_most_s=0.01)
    assert {found.original for found in watcher.all()} >= set(flows)
    with Watcher(lab.node.netns) as watcher:
        last = ask(lab.node.netns, "127.0.0.1", NODE_PORT).flow
    assert [found.original for found in watcher.all()] == [last]


def test_watcher_says_when_it_missed_something(lab: Lab) -> None:
    turn_on(lab.node.netns)

    def knock() -> None:
        for _ in range(200):
            with socket.socket() as client:
                client.connect_ex(("127.0.0.1", HOST_PORT))  # nobody listens

    with Watcher(lab.node.netns, buffer_bytes=1) as watcher:
        for _ in range(100):
            inside(lab.node.netns, knock)
            if watcher.overruns:
                break
        assert watcher.overruns > 0


# Nothing stays


def test_leaving_removes_everything_also_after_an_error() -> None:
    threads = threading.active_count()

    def use_and_fail() -> None:
        with PodNetwork(name="gone") as network:
            network.serve(network.node.add_pod(), POD_PORT)
            assert len(namespaces()) == 4
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use_and_fail()
    assert namespaces() == set()
    assert threading.active_count() == threads


def test_network_that_cannot_be_made_removes_what_it_made_and_nothing_else() -> None:
    taken = f"shlab-{os.getpid()}-half-node2"
    run(["ip", "netns", "add", taken])
    try:
        with pytest.raises(LabError, match="node2"), PodNetwork(name="half"):
            pytest.fail("it was made")
        assert namespaces() == {taken}
    finally:
        run(["ip", "netns", "del", taken])


def test_what_a_killed_maker_left_is_swept_up() -> None:
    with subprocess.Popen([sys.executable, "-c", _MAKER], stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "made\n"
        maker.kill()

    def left() -> list[str]:
        return [one.name for one in Path("/run/netns").iterdir() if f"shlab-{maker.pid}-" in one.name]

    assert len(left()) == 4
    sweep("shlab")
    assert left() == []
