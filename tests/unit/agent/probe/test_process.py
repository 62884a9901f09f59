"""The probe at work on events that are replayed: what is judged, told and counted, and its canaries."""

import asyncio
import contextlib
import os
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from agent.config import Endpoint
from agent.config.load import make_settings
from agent.flows.messages import (
    FLOWS_MAX,
    NODE_HEADER,
    SOCKET_HEADER,
    Canary,
    Flows,
    Health,
    Hello,
    Introduced,
    Introduction,
    Message,
    SendCanaries,
)
from agent.flows.table import Flow
from agent.flows.verdicts import EndpointName, Verdict
from agent.observe.probe_metrics import ProbeMetrics
from agent.probe.process import Probe, WatchedNode, own_ips, watched_node, watched_ports
from agent.probe.sockets import netns_cookie, socket_cookie
from benchmarks.lab.network import inside
from benchmarks.lab.process import run
from bpf.events import (
    LAYOUT,
    VERSION,
    Address,
    Event,
    Flag,
    Kind,
    Owner,
    Tuple,
    format_ip,
    is_loopback,
    pack_ip,
)
from bpf.source import ConnectOrder, EventSource, LossCounts, ReplaySource
from tests.unit.agent.flows.scenes import (
    CONTAINERD,
    USERS,
    direct,
    event,
    node,
    node_port,
    packed,
    portmap,
    way,
)

OWN = "node-1"
HOST = "127.0.0.1"


def watched(*endpoints: Endpoint, port: int = 30020) -> WatchedNode:
    view = node(own_ips=own_ips(), host_port=port)
    return WatchedNode(name=OWN, address=HOST, view=view, endpoints=lambda: endpoints)


class Heard:
    """A sink."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.second_health = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        if sum(isinstance(each, Health) for each in self.messages) == 2:
            self.second_health.set()

    @property
    def flows(self) -> list[Flow]:
        return [flow for message in self.messages if isinstance(message, Flows) for flow in message.flows]


def working(source: EventSource, *endpoints: Endpoint, port: int = 30020) -> tuple[Probe, Heard]:
    probe, heard = (
        Probe(watched(*endpoints, port=port), source, canary_interval_s=1.0, programs=(7,)),
        Heard(),
    )
    probe.sinks.append(heard)
    return probe, heard


def both_ends(number: int) -> list[bytes]:
    """A direct connection's two events."""
    scene = direct(10000 + number, cookie=number + 1, connect_ns=1000 + number)
    return [packed(scene.client()), packed(scene.server(cookie=100_000 + number))]


# Events


async def test_flows_are_judged_and_told() -> None:
    probe, heard = working(ReplaySource([raw for number in range(5) for raw in both_ends(number)]))
    await probe.drain()
    assert [(flow.endpoint, flow.verdict) for flow in heard.flows] == [
        (EndpointName.HOSTPORT, Verdict.DIRECT)
    ] * 5


async def test_corrupted_and_truncated_records_are_counted_and_the_rest_goes_on() -> None:
    good = both_ends(1)
    other = bytearray(good[0])
    struct.pack_into("=H", other, 0, VERSION + 1)
    strange = bytearray(good[0])
    strange[4] = 99  # a kind that there is none of
    bad = [b"", b"\0", good[0][:-1], bytes(LAYOUT.size), bytes(other), bytes(strange), b"\xff" * 500]
    probe, heard = working(ReplaySource([*bad[:4], good[0], *bad[4:], good[1]]))
    await probe.drain()
    assert probe.health().invalid_events == len(bad)
    assert [flow.verdict for flow in heard.flows] == [Verdict.DIRECT]


async def test_noise_never_crashes_it_and_is_never_direct() -> None:
    """Valid heads with random rest: whatever flags and addresses they carry."""
    dice = random.Random(5)
    noise = []
    for _ in range(2000):
        raw = bytearray(dice.randbytes(LAYOUT.size))
        struct.pack_into("=HHB", raw, 0, VERSION, LAYOUT.size, dice.choice([1, 2, 3]))
        noise.append(bytes(raw))
    probe, heard = working(ReplaySource([*noise, *both_ends(1)]))
    await probe.drain()
    assert probe.health().invalid_events == 0
    assert [flow.verdict for flow in heard.flows if flow.verdict is Verdict.DIRECT] == [Verdict.DIRECT]


async def test_more_events_than_are_taken_at_once_are_all_taken_in_one_turn() -> None:
    probe, heard = working(ReplaySource([raw for number in range(1500) for raw in both_ends(number)]))
    await probe.drain()
    assert len(heard.flows) == 1500
    assert all(len(message.flows) <= FLOWS_MAX for message in heard.messages if isinstance(message, Flows))


async def test_order_of_programs_is_looked_at_before_flows_are_judged() -> None:
    order = ConnectOrder(everywhere=False, near=False, alone=False)
    probe, heard = working(ReplaySource(both_ends(1), order=order))
    await probe.drain()
    assert heard.flows == []  # waits for evidence that does not come
    assert not probe.health().sure_of_intent


async def test_round_trips_to_other_nodes_are_told_and_others_are_not() -> None:
    def rtt(to: str, rtt_us: int) -> bytes:
        ends = way("192.168.60.1:40000", to)
        return packed(event(kind=Kind.RTT, flags=Flag.CLIENT | Flag.ESTABLISHED, socket=ends, rtt_us=rtt_us))

    probe, heard = working(ReplaySource([rtt("192.0.2.9:30022", 300), rtt(f"{HOST}:30020", 50)]))
    await probe.drain()
    told = [sample for message in heard.messages if isinstance(message, Flows) for sample in message.rtts]
    assert told == [(pack_ip("192.0.2.9"), 300)]


async def test_new_reader_is_told_hello_then_all_open_flows_then_health() -> None:
    records = [raw for number in range(2500) for raw in both_ends(number)]
    probe, _ = working(ReplaySource(records, clients={CONTAINERD}))
    await probe.drain()
    first = list(probe.initial_messages())
    assert isinstance(first[0], Hello)
    assert (first[0].node, first[0].programs) == (OWN, (7,))
    assert first[-1] == probe.health()
    flows = [message for message in first[1:-1] if isinstance(message, Flows)]
    assert all(len(message.flows) <= FLOWS_MAX for message in flows)
    assert len({flow.cookie for message in flows for flow in message.flows}) == 2500


@pytest.mark.parametrize("ticks", range(5))
async def test_probe_ends_when_it_is_cancelled_as_the_next_canaries_become_due(ticks: int) -> None:
    with socket.create_server((HOST, 0)) as closed:
        endpoint = Endpoint(host=HOST, port=closed.getsockname()[1])
    probe, heard = working(ReplaySource([]), endpoint, port=endpoint.port)
    running = asyncio.create_task(probe.run())
    async with asyncio.timeout(20):
        while not any(isinstance(each, Health) and each.canaries for each in heard.messages):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    probe.requested(None, SendCanaries(), [])
    for _ in range(ticks):
        await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=60)
    assert done


async def test_what_the_programs_lost_is_told_once_a_second() -> None:
    lost = LossCounts(events=3, flows=2, packets=1, ends=5, delivered=9)
    probe, heard = working(ReplaySource([b"junk"], lost=lost))
    task = asyncio.create_task(probe.run())
    async with asyncio.timeout(10):
        await heard.second_health.wait()
    task.cancel()
    await asyncio.wait([task])
    health = [message for message in heard.messages if isinstance(message, Health)][-1]
    assert (health.lost_events, health.lost_flows, health.lost_packets, health.lost_ends) == (3, 2, 1, 5)
    assert health.invalid_events == 1
    assert probe.lost == lost


# Routes


def _moving(netns: str) -> list[str]:
    """The verdicts on two connections. Between them their endpoint moves to another node."""

    async def follow() -> list[str]:
        source = Growing()
        watched = WatchedNode(name=OWN, address="192.168.60.1", view=node(own_ips=own_ips()), endpoints=tuple)
        probe, heard = Probe(watched, source, canary_interval_s=60), Heard()
        probe.sinks.append(heard)
        working = asyncio.create_task(probe.run())
        for cookie in (1, 2):
            source.records.append(packed(node_port(to="10.244.9.9", cookie=cookie).client()))
            while len(heard.flows) < cookie:  # noqa: ASYNC110 - the probe reads when its time comes
                await asyncio.sleep(0.01)
            run(["ip", "-n", netns, "route", "replace", "10.244.9.9/32", "via", "192.168.60.2"])
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        return [flow.verdict.value for flow in heard.flows]

    return asyncio.run(follow())


class Growing(ReplaySource):
    """A source to which a test adds records."""

    def __init__(self) -> None:
        super().__init__([])
        self.records: list[bytes] = []

    def read(self, at_most: int) -> list[bytes]:
        taken, self.records[:at_most] = self.records[:at_most], []
        return taken


def test_an_endpoint_that_moves_to_another_node_is_remote_at_once() -> None:
    netns = f"shprobe-{os.getpid()}-moves"
    run(["ip", "netns", "add", netns])
    try:
        for command in (
            ["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"],
            ["link", "add", "cni0", "type", "bridge"],
            ["addr", "add", "192.168.60.1/24", "dev", "eth0"],
            ["addr", "add", "10.244.9.254/24", "dev", "cni0"],
            *(["link", "set", name, "up"] for name in ("lo", "eth0", "eth1", "cni0")),
        ):
            run(["ip", "-n", netns, *command])
        found = inside(netns, partial(_moving, netns))
        assert found == ["KUBE_PROXY", "KUBE_PROXY_REMOTE"]
    finally:
        run(["ip", "netns", "del", netns])


# Canaries, in a namespace whose cookie the scenes' is not: the kernel's part is replayed


class Kernel:
    """Tells of the connections that a server took, as the programs would; ``seen``: which ends it sees."""

    def __init__(self, *, server: bool = True, client: bool = True, ours: bool = True) -> None:
        self._server, self._client, self._ours = server, client, ours
        self.marked: list[int] = []
        self.known: list[int] = []
        self.clients: frozenset[int] = frozenset()
        self._records: list[bytes] = []

    def saw(self, accepted: socket.socket) -> None:
        """A connection was taken."""
        cookie = client_cookie(accepted)
        to, source = (
            Address(pack_ip(each[0]), each[1]) for each in (accepted.getsockname(), accepted.getpeername())
        )
        ends = Tuple(source, to)
        if self._client:
            flags = Flag.INTENT | Flag.CLIENT | Flag.WIRE | Flag.ESTABLISHED
            one = event(
                flags=flags, time_ns=20, connect_ns=10, cookie=cookie, intent=to, socket=ends, wire=ends
            )
            self._records.append(packed(one._replace(rtt_us=42)))
        if self._server:
            back = ends.mirrored
            flags, owner = Flag.WIRE | Flag.ESTABLISHED, Owner.AGENT if self._ours else Owner(0)
            taken = event(
                flags=flags, time_ns=30, cookie=socket_cookie(accepted), socket=back, wire=back, owner=owner
            )
            self._records.append(packed(taken))

    def read(self, at_most: int) -> list[bytes]:
        taken, self._records = self._records[:at_most], self._records[at_most:]
        return taken

    def lost(self) -> LossCounts:
        return LossCounts()

    def connect_order(self) -> ConnectOrder:
        return ConnectOrder(everywhere=True, near=True, alone=True)

    def follow_containerd(self) -> None:
        pass

    def own_listener(self, fd: int) -> None:
        self.marked.append(fd)

    def know(self, programs: Collection[int]) -> None:
        self.known += programs

    def own_addresses(self, ips: Sequence[bytes]) -> None:
        pass

    def close(self) -> None:
        pass


def client_cookie(accepted: socket.socket) -> int:
    """Of the other end of a connection within this process: its descriptors are looked through."""
    for name in Path("/proc/self/fd").iterdir():
        try:
            if not str(name.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=socket.dup(int(name.name))) as sock:
                if sock.family == socket.AF_INET and sock.getsockname() == accepted.getpeername():
                    return socket_cookie(sock)
        except OSError:
            continue
    raise AssertionError("no such socket")


@asynccontextmanager
async def agent(kernel: Kernel, answer: bytes) -> AsyncIterator[Endpoint]:
    """A server that the kernel tells of."""

    async def serve(incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        kernel.saw(outgoing.get_extra_info("socket"))
        await incoming.readuntil(b"\r\n\r\n")
        cookie = socket_cookie(outgoing.get_extra_info("socket"))
        outgoing.write(answer.replace(b"COOKIE", b"%d" % cookie))
        outgoing.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield Endpoint(host=HOST, port=server.sockets[0].getsockname()[1])


def http(node_name: str | None, cookie: str = "COOKIE") -> bytes:
    header = ""
    if node_name is not None:
        header = f"{NODE_HEADER}: {node_name}\r\n{SOCKET_HEADER}: {cookie}\r\n"
    return f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{header}\r\n{{}}".encode()


async def send(kernel: Kernel, answer: bytes) -> Canary:
    async with agent(kernel, answer) as endpoint:
        probe, heard = working(kernel, endpoint, port=endpoint.port)
        (canary,) = await probe.send_canaries()
        (health,) = (message for message in heard.messages if isinstance(message, Health))
        assert health.canaries == (canary,)
        assert canary.address == str(endpoint)
        return canary


async def test_agent_tells_the_programs_of_the_older_pod_s_probe_which_are_no_strangers() -> None:
    kernel = Kernel()
    probe, _ = working(kernel, Endpoint(host=HOST, port=1), port=1)
    assert probe.requested("reader", Introduction(node=OWN, known=(7, 8)), []) == Introduced()
    assert kernel.known == [7, 8]


@pytest.mark.parametrize("cookie", ["1", "0", "", "-1", "x", "9" * 30])
async def test_answer_that_came_by_another_socket_is_nobodys(cookie: str) -> None:
    """Something in between took the connection and asked the agent itself."""
    canary = await send(Kernel(), http(OWN, cookie))
    assert canary.verdict is Verdict.DIRECT
    assert canary.answered_by == ""
    assert "passed it on" in canary.reason


@pytest.mark.parametrize("name", ["[red]n1", "n1[/]", "n\x1b[31m1", "n 1", "<n>"])
async def test_name_that_no_node_can_have_is_not_repeated(name: str) -> None:
    assert (await send(Kernel(), http(name))).answered_by == ""


async def test_canary_that_both_ends_tell_of_is_direct_and_names_who_answered() -> None:
    canary = await send(Kernel(), http(OWN))
    assert (canary.endpoint, canary.verdict) == (EndpointName.HOSTPORT, Verdict.DIRECT)
    assert canary.answered_by == OWN
    assert canary.went == canary.address
    assert canary.rtt_us == 42


async def test_canary_answered_by_something_else_names_nobody() -> None:
    canary = await send(Kernel(), http(None))
    assert (canary.verdict, canary.answered_by) == (Verdict.DIRECT, "")


async def test_canary_answered_by_no_http_says_what_was_wrong() -> None:
    canary = await send(Kernel(), b"SSH-2.0-OpenSSH_9.2\r\n")
    assert canary.answered_by == ""
    assert "not HTTP" in canary.reason


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (Kernel(server=False), "no socket of this node was seen to take it"),
        (Kernel(client=False), "the kernel reported nothing about it"),
        (Kernel(client=False, server=False), "the kernel reported nothing about it"),
    ],
    ids=["client", "server", "neither"],
)
async def test_canary_that_lacks_an_end_is_unknown(kernel: Kernel, reason: str) -> None:
    canary = await send(kernel, http(OWN))
    assert canary.verdict is Verdict.UNKNOWN
    assert reason in canary.reason


async def test_canary_that_nobody_takes_is_not_proved_and_says_why() -> None:
    with socket.create_server((HOST, 0)) as server:
        endpoint = Endpoint(host=HOST, port=server.getsockname()[1])
    probe, _ = working(ReplaySource([]), endpoint, port=endpoint.port)
    (canary,) = await probe.send_canaries()
    assert canary.verdict in (Verdict.UNKNOWN, Verdict.FAILED)
    assert "Connection refused" in canary.reason


async def test_canary_to_another_node_is_not_sent() -> None:
    probe, _ = working(ReplaySource([]), Endpoint(host="192.0.2.77", port=30021))
    assert await probe.send_canaries() == ()


async def test_round_without_canaries_is_told_too() -> None:
    probe, _ = working(ReplaySource([]), Endpoint(host="192.0.2.77", port=30021))
    assert probe.health().round_s == 0
    began_s = time.monotonic()
    await probe.send_canaries()
    assert probe.health().round_s >= began_s


# What is watched


def test_kernel_is_told_of_the_node_s_address_and_of_loopback_before_all_others() -> None:
    class Ranked(ReplaySource):
        ips: Sequence[bytes] = ()

        def own_addresses(self, ips: Sequence[bytes]) -> None:
            self.ips = ips

    source, address = Ranked([]), max(own_ips())
    watched = WatchedNode(name=OWN, address=format_ip(address), view=node(), endpoints=tuple)
    Probe(watched, source, canary_interval_s=60).refresh_node()
    assert source.ips[0] == address
    others = [is_loopback(ip) for ip in source.ips[1:]]
    assert others == sorted(others, reverse=True)
    assert set(source.ips) == own_ips()


def test_subject_is_this_machine_s_and_has_canaries_without_hosts_toml(tmp_path: Path) -> None:
    settings = make_settings(
        {"node": {"name": OWN, "address": "192.0.2.7"}, "probe": {"hosts_dir": str(tmp_path)}},
        [],
        base=tmp_path,
    )
    made = watched_node(settings)
    assert made.view.netns == netns_cookie() > 0
    assert pack_ip("127.0.0.1") in made.view.own_ips
    assert [str(each) for each in made.endpoints()] == ["127.0.0.1:30020", "192.0.2.7:30021"]
    assert {30020, 30021, 30022} <= set(watched_ports(settings))


def test_subject_takes_its_canaries_from_hosts_toml(tmp_path: Path) -> None:
    (tmp_path / "docker.io").mkdir()
    (tmp_path / "docker.io/hosts.toml").write_text(
        '[host."http://[::1]:30020"]\n[host."http://[::1]:30020".header]\nAuthorization = "Bearer t0k3n"\n'
        '[host."https://registry.test"]\n'
    )
    settings = make_settings(
        {"node": {"name": OWN, "address": "192.0.2.7"}, "probe": {"hosts_dir": str(tmp_path)}},
        [],
        base=tmp_path,
    )
    made, own = watched_node(settings), Endpoint(host="::1", port=30020)
    assert made.endpoints() == (own,)
    assert (made.authorization(own), made.authorization(Endpoint(host="::1", port=1))) == ("Bearer t0k3n", "")


# Metrics


def exposed(metrics: ProbeMetrics) -> dict[str, float]:
    """Every sample of the text."""
    registry = CollectorRegistry()
    registry.register(metrics)
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


async def test_metrics_count_flows_by_endpoint_and_verdict_once() -> None:
    by_node_port = node_port(40003, cookie=4, socket=way(f"{HOST}:40003", f"{HOST}:30021"))
    scenes = [direct(cookie=1), direct(40001, cookie=2), portmap(40002, cookie=3), by_node_port]
    records: Iterable[Event] = [one for scene in scenes for one in (scene.client(), scene.server())]
    told = [*map(packed, records), *(packed(scene.closed()) for scene in scenes)]
    other = direct(40009, cookie=9, cgroup=USERS)
    told += [packed(other.client()), packed(other.server())]
    probe, _ = working(ReplaySource(told, clients={CONTAINERD}))
    metrics = ProbeMetrics()
    probe.sinks.append(metrics.on_message)
    await probe.drain()
    found = exposed(metrics)
    assert found['shorthaul_probe_other_flows_total{endpoint="hostport",verdict="DIRECT"}'] == 1
    assert found['shorthaul_probe_flows_total{endpoint="hostport",verdict="DIRECT"}'] == 2
    assert found['shorthaul_probe_flows_total{endpoint="hostport",verdict="HOSTPORT_NAT"}'] == 1
    assert found['shorthaul_probe_flows_total{endpoint="nodeport",verdict="KUBE_PROXY"}'] == 1


def test_metrics_tell_health_as_it_was_told_last() -> None:
    metrics = ProbeMetrics()
    assert exposed(metrics)['shorthaul_probe_lost_total{what="events"}'] == 0
    canary = Canary(
        endpoint=EndpointName.HOSTPORT, address="127.0.0.1:30020", verdict=Verdict.DIRECT, reason="r",
        went="127.0.0.1:30020", answered_by=OWN, rtt_us=250, at_s=1.0,
    )  # fmt: skip
    metrics.on_message(Hello(node=OWN))
    metrics.on_message(
        Health(
            canaries=(canary,), lost_events=1, lost_flows=2, lost_packets=3, lost_ends=11,
            invalid_events=4, forgotten=5, contradictions=6, sure_of_intent=False, foreign=12, held_back=13,
            agents=14,
        )
    )  # fmt: skip
    metrics.delivered, metrics.readers, metrics.refused, metrics.cut_off = 7, 8, 9, 10
    found = exposed(metrics)
    assert {name: value for name, value in found.items() if "_flows_total{" not in name} == {
        'shorthaul_probe_lost_total{what="events"}': 1,
        'shorthaul_probe_lost_total{what="flows"}': 2,
        'shorthaul_probe_lost_total{what="packets"}': 3,
        'shorthaul_probe_lost_total{what="ends"}': 11,
        'shorthaul_probe_lost_total{what="invalid"}': 4,
        'shorthaul_probe_lost_total{what="forgotten"}': 5,
        'shorthaul_probe_lost_total{what="held_back"}': 13,
        "shorthaul_probe_foreign_connections_total": 12,
        "shorthaul_probe_agents": 14,
        'shorthaul_probe_canaries{endpoint="hostport",verdict="DIRECT"}': 1,
        'shorthaul_probe_canary_rtt_seconds{endpoint="hostport"}': 0.00025,
        "shorthaul_probe_events_total": 7,
        "shorthaul_probe_contradictions_total": 6,
        "shorthaul_probe_sure_of_intent": 0,
        "shorthaul_probe_readers": 8,
        "shorthaul_probe_readers_refused_total": 9,
        "shorthaul_probe_readers_cut_off_total": 10,
    }


def test_metrics_of_two_canaries_to_one_endpoint_are_valid() -> None:
    """hosts.toml may name the HostPort by IPv4 and IPv6: a label set must not come twice."""

    def canary(where: str, rtt_us: int) -> Canary:
        return Canary(
            endpoint=EndpointName.HOSTPORT, address=where, verdict=Verdict.DIRECT, reason="", went=where,
            answered_by=OWN, rtt_us=rtt_us, at_s=1.0,
        )  # fmt: skip

    metrics = ProbeMetrics()
    metrics.on_message(Health(canaries=(canary("127.0.0.1:30020", 50), canary("[::1]:30020", 60))))
    registry = CollectorRegistry()
    registry.register(metrics)
    lines = generate_latest(registry).decode().splitlines()
    names = [line.rpartition(" ")[0] for line in lines if line.startswith("shorthaul_probe_canar")]
    assert len(names) == len(set(names)) == 2
