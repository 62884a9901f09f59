"""Ten thousand connections of all kinds: no false DIRECT, no missed translation, every loss counted.

The node's own servers are its agent's in the eyes of the probe. Connections of a pod are counted apart.
"""

import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle

import pytest

from agent.flows.table import Flow
from agent.flows.verdicts import Verdict
from benchmarks.lab import portmap
from benchmarks.lab.conntrack import Flow as Way
from benchmarks.lab.conntrack import Kind, Translation
from benchmarks.lab.kubeproxy import Endpoint, Mode
from benchmarks.lab.network import inside
from benchmarks.lab.pods import NatNode, Pod
from benchmarks.lab.portmap import HostPort
from benchmarks.lab.vouching import Voucher
from tests.e2e.verdicts import (
    AGENT_PORT,
    HOST_PORT,
    NODE_PORT,
    VIP,
    VIP6,
    VIP_PORT,
    RunningProbe,
    Scene,
    Tail,
    end,
    shown,
    until,
)

pytestmark = pytest.mark.e2e

PORTS, AT_ONCE = range(15_000, 25_000), 5
CONNECTIONS = len(PORTS)
NODE_IP = "192.168.60.1"
SWAP_S = 0.3  # so often the Service's endpoints change
AHEAD_MAX = 1000  # their events fit into the ring buffer; a flood and its losses have a test of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a client asks for. ``mapped``: by an IPv6 socket that asks for an IPv4 address."""

    host: str
    port: int
    mapped: bool = False


FROM_THE_NODE = (
    Target(host="127.0.0.1", port=HOST_PORT),
    Target(host="127.0.0.1", port=HOST_PORT, mapped=True),
    Target(host=NODE_IP, port=HOST_PORT),
    Target(host="fd00:60::1", port=HOST_PORT),  # ::1 by a port map goes nowhere
    Target(host="127.0.0.1", port=NODE_PORT),
    Target(host=NODE_IP, port=NODE_PORT),
    Target(host=NODE_IP, port=NODE_PORT, mapped=True),
    Target(host="fd00:60::1", port=NODE_PORT),
    Target(host="::1", port=NODE_PORT),  # refused: IPv6 has no NodePort on loopback
    Target(host=VIP, port=VIP_PORT),
    Target(host=VIP6, port=VIP_PORT),
)
FROM_A_POD = (
    Target(host=NODE_IP, port=HOST_PORT),
    Target(host=NODE_IP, port=NODE_PORT),
    Target(host=VIP, port=VIP_PORT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """A node with a probe, and servers on it and on others. ``silent``: a pod where nobody listens.

    ``listeners``: of the node's own servers, which are the agent's in the eyes of a probe.
    """

    scene: Scene
    probe: RunningProbe
    mapped: Pod
    silent: Pod
    client: Pod
    servers: tuple[Pod | NatNode, ...]
    listeners: tuple[socket.socket, ...]

    def endpoints(self, *, ipv6: bool, without: int) -> tuple[Endpoint, ...]:
        """All servers but one, and the one that is none."""
        chosen = [one for number, one in enumerate(self.servers) if number != without]
        return tuple(
            Endpoint(
                ip=f"{one.address6 if ipv6 else one.address}",
                port=AGENT_PORT,
                local=self.scene.is_here(one.address),
            )
            for one in (*chosen, self.silent)
        )

    @contextmanager
    def vouched(self, probe: RunningProbe) -> Iterator[None]:
        """The probe knows whose sockets the node's own servers have, and has proved the HostPort."""
        probe.tail.wait(lambda: probe.tail.health.canaries, "the first canary")
        with Voucher(probe.socket, node=self.scene.node.name, listeners=self.listeners):
            probe.tail.wait(lambda: proved(probe.tail), "a canary that the agent took")
            yield

    def swap(self, without: int) -> None:
        """Other endpoints than before."""
        services = (
            self.scene.service(*self.endpoints(ipv6=vip == VIP6, without=without), vip=vip)
            for vip in (VIP, VIP6)
        )
        self.scene.install(Mode.IPTABLES, *services)


def proved(tail: Tail) -> bool:
    """Whether the last canary was direct."""
    return {canary.verdict for canary in tail.health.canaries} == {Verdict.DIRECT}


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and eBPF: run `make test` as root")
    with Scene("mixed", images=0) as scene:
        node, remotes = scene.node, scene.remotes
        local, mapped, silent, client = (node.add_pod() for _ in range(4))
        far = [remote.add_pod() for remote in remotes]
        with scene.seated("agents"):
            own = [scene.network.serve(node, port) for port in (HOST_PORT, AGENT_PORT)]
            for here in (local, mapped):
                scene.network.serve(here, AGENT_PORT)
        for there in far:
            scene.network.serve(there, AGENT_PORT)
        probe = scene.start_probe(endpoints=[f"127.0.0.1:{HOST_PORT}"])
        made = Crowd(
            scene=scene,
            probe=probe,
            mapped=mapped,
            silent=silent,
            client=client,
            servers=(node, local, *far),
            listeners=tuple(server.listener for server in own),
        )
        made.swap(without=0)
        with made.vouched(probe):
            yield made


@contextmanager
def swapping(crowd: Crowd) -> Iterator[None]:
    """The Service's endpoints change all the time."""
    stop = threading.Event()

    def swap() -> int:
        swaps = 0
        while not stop.wait(SWAP_S):
            crowd.swap(without=swaps % len(crowd.servers))
            swaps += 1
        return swaps

    with ThreadPoolExecutor(1) as pool:
        swaps = pool.submit(swap)
        try:
            yield
        finally:
            stop.set()
        assert swaps.result() > 0


def ask(target: Target, source_port: int) -> Way | None:
    """Connect, be greeted, leave; None when nobody answered."""
    family = socket.AF_INET6 if target.mapped or ":" in target.host else socket.AF_INET
    with socket.socket(family) as client:
        client.bind(("", source_port))  # no two connections are the same four numbers
        client.settimeout(20)
        try:
            client.connect((f"::ffff:{target.host}" if target.mapped else target.host, target.port))
        except ConnectionRefusedError:
            return None
        assert client.recv(200).endswith(b"\n")
        return Way.of(client)


class Pace:
    """Keeps the node's clients from running far ahead of what the probe has told."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._asked = len(tail.known)
        self._lock = threading.Lock()

    def ask(self, target: Target, source_port: int) -> Way | None:
        """See `ask`, at its time."""
        with self._lock:
            self._asked += 1
            self._tail.wait(
                lambda: self._asked - len(self._tail.known) < AHEAD_MAX, "the probe keeps up", 120.0
            )
        return ask(target, source_port)


def crowd_in(
    netns: str, ask: Callable[[Target, int], Way | None], targets: tuple[Target, ...], ports: range
) -> list[Way | None]:
    """A connection from each of these ports, one after the other, to one target after the other."""
    return inside(netns, lambda: [ask(target, port) for target, port in zip(cycle(targets), ports)])


def connect_all(crowd: Crowd, ports: range) -> tuple[list[Way], int, list[Way], int]:
    """A connection from each port: those of the node that were made, how many were refused; same of a pod."""
    share, pace = len(ports) // AT_ONCE, Pace(crowd.probe.tail)
    parts = [ports[number * share : (number + 1) * share] for number in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pods = pool.submit(crowd_in, crowd.client.netns, ask, FROM_A_POD, parts.pop())
        nodes = [
            pool.submit(crowd_in, crowd.scene.node.netns, pace.ask, FROM_THE_NODE, part) for part in parts
        ]
        from_node = [way for each in nodes for way in each.result()]
        from_pod = pods.result()
    made, made_by_pods = [way for way in from_node if way], [way for way in from_pod if way]
    return made, len(from_node) - len(made), made_by_pods, len(from_pod) - len(made_by_pods)


def ways(crowd: Crowd) -> dict[Way, Translation]:
    """The clients' connections as conntrack has them: not the canaries, whose ports the kernel chose."""
    all_of_them = crowd.scene.watcher.all()
    return {found.original: found for found in all_of_them if found.original.src_port in PORTS}


def told_since(tail: Tail, before: Collection[int]) -> list[Flow]:
    """All that was told of new flows, but the canaries'."""
    history = list(tail.history)
    canaries = {flow.cookie for flow in history if flow.canary}
    return [flow for flow in history if flow.cookie not in before and flow.cookie not in canaries]


def test_ten_thousand_mixed_connections_are_all_judged_and_none_wrongly(crowd: Crowd) -> None:
    scene, probe, tail = crowd.scene, crowd.probe, crowd.probe.tail
    told_before, foreign_before = tail.cookies(), tail.health.foreign
    with scene.seated(), swapping(crowd):
        made, refused, by_pods, pods_refused = connect_all(crowd, PORTS[: CONNECTIONS * 2 // 3])
        port = HostPort(host_port=HOST_PORT, container_port=AGENT_PORT)
        portmap.add(scene.node, crowd.mapped, port)  # from now on the HostPort is translated as well
        more = connect_all(crowd, PORTS[CONNECTIONS * 2 // 3 :])
    made, refused, by_pods = made + more[0], refused + more[1], by_pods + more[2]
    from_node, from_pod = len(made) + refused, len(by_pods) + pods_refused + more[3]
    assert from_node + from_pod > CONNECTIONS - 2 * AT_ONCE

    # The oracle: complete, and it knows every connection that the clients had.
    for way in (*made, *by_pods):
        scene.watcher.find(way)
    until(lambda: len(ways(crowd)) >= from_node + from_pod, "conntrack's word on the refused ones as well")
    assert scene.watcher.overruns == 0
    truths = ways(crowd)

    # Each connection of the node has been told of, and rightly; also every earlier word about it.
    others = {found.original for found in scene.watcher.all()} - set(truths)
    found = scene.compare_all(probe, since=others)
    assert found.total() == from_node
    assert set(found) == set(Verdict) - {Verdict.SOCKET_LB, Verdict.UNKNOWN, Verdict.PROXIED}
    assert min(found.values()) > CONNECTIONS / 100
    translated = sum(truths[way].kind is Kind.DNAT for way in made)
    assert found[Verdict.FAILED] == refused
    assert found.total() - found[Verdict.DIRECT] - found[Verdict.FAILED] == translated
    until(lambda: len({flow.cookie for flow in told_since(tail, told_before)}) >= from_node, "all are told")
    new = told_since(tail, told_before)
    none_is_falsely_direct(new, truths)

    # The pods' are counted, each once, and nothing else is told of them.
    until(lambda: tail.health.foreign - foreign_before >= from_pod, "the pods' connections are counted")
    assert tail.health.foreign - foreign_before == from_pod
    assert len({flow.cookie for flow in new}) == from_node
    assert not [flow for flow in new if str(flow.client).startswith(crowd.client.address)]

    # Nothing is lost, and nothing is told twice.
    health = tail.health
    assert (health.lost_flows, health.lost_packets, health.forgotten) == (0, 0, 0)
    assert (health.invalid_events, health.contradictions) == (0, 0)
    news = Counter((flow.endpoint.value, flow.verdict.value) for flow in tail.history if flow.verdict_is_new)
    for (endpoint, verdict), number in news.items():
        assert counted(probe, endpoint=endpoint, verdict=verdict) >= number
    assert sum(news.values()) >= from_node
    assert tail.error is None


def counted(probe: RunningProbe, **labels: str) -> float:
    """How many flows the probe counted, whoever made the connections."""
    names = ("shorthaul_probe_flows_total", "shorthaul_probe_other_flows_total")
    return sum(probe.metric(name, **labels) for name in names)


def none_is_falsely_direct(flows: Iterable[Flow], truths: Mapping[Way, Translation]) -> None:
    for flow in flows:
        if flow.verdict is Verdict.DIRECT:
            assert flow.went is not None
            (src, src_port), (dst, dst_port) = end(flow.client), end(flow.went)
            truth = truths[Way(src=src, src_port=src_port, dst=dst, dst_port=dst_port)]
            assert (truth.kind, truth.snat) == (Kind.NONE, False), shown(flow)


def test_what_does_not_fit_into_the_ring_buffer_is_counted_and_makes_nothing_direct(crowd: Crowd) -> None:
    scene = crowd.scene
    with (
        scene.probe(ring_bytes=65536, endpoints=[f"127.0.0.1:{HOST_PORT}"]) as probe,
        crowd.vouched(probe),
    ):
        tail = probe.tail
        told_before, foreign_before = tail.cookies(), tail.health.foreign
        # Its process does not come to read, as on a node that is busy.
        probe.process.signal(signal.SIGSTOP)
        with scene.seated():
            made, refused, by_pods, pods_refused = connect_all(crowd, PORTS[: CONNECTIONS // 5])
        probe.process.signal(signal.SIGCONT)
        for way in (*made, *by_pods):
            scene.watcher.find(way)
        connections, from_pod = len(made) + refused, len(by_pods) + pods_refused

        def told() -> set[int]:
            return {flow.cookie for flow in told_since(tail, told_before)}

        until(
            lambda: (new := told()) and len(new) + tail.health.lost_events >= connections,
            "what is told and what is lost is all there was",
        )
        assert 0 < len(told()) < connections
        assert probe.metric("shorthaul_probe_lost_total", what="events") > 0
        none_is_falsely_direct(told_since(tail, told_before), ways(crowd))
        # The pods' connections are counted all the same: they need no room.
        until(lambda: tail.health.foreign - foreign_before >= from_pod, "the pods' connections are counted")
        assert tail.health.foreign - foreign_before == from_pod
        # It goes on with what comes after that.
        with scene.asker("127.0.0.1", HOST_PORT) as asker:
            flow = scene.flow(probe, asker.way)
        assert scene.compare(flow).verdict is Verdict.DIRECT
