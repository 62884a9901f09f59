"""Whose trouble it is that a peer can't be dialled, with real firewalls, routes and interfaces."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from agent.members.member import Peer
from agent.peering.dial import CutOff, Dialer, OwnFault, Unreachable
from benchmarks.lab.network import inside, sweep
from benchmarks.lab.process import LabError, run
from tests.unit.twins import CREDENTIALS
from topology.placement import NodeName, Placement

pytestmark = pytest.mark.e2e

_PREFIX = "shunreach"
_PORT = 5000
_ROUTER = {"4": "10.8.1.1", "6": "fd08:1::1"}
_PEER = {"4": "10.8.2.2", "6": "fd08:2::2"}
_LINKS = (
    ("own", "own", "10.8.1.2/24", "fd08:1::2/64"),
    ("router", "near", "10.8.1.1/24", "fd08:1::1/64"),
    ("router", "far", "10.8.2.1/24", "fd08:2::1/64"),
    ("peer", "peer", "10.8.2.2/24", "fd08:2::2/64"),
)


class Net:
    """This node, a router and a peer, each in a namespace. Nobody listens; ``dialer`` is this node's."""

    def __init__(self) -> None:
        self._name = f"{_PREFIX}-{os.getpid()}"
        self.dialer = Dialer(credentials=CREDENTIALS, connect_s=20.0)

    def netns(self, host: str) -> str:
        """The namespace of a host."""
        return f"{self._name}-{host}"

    def make(self) -> None:
        """Make it all."""
        for host in ("own", "router", "peer"):
            run(["ip", "netns", "add", self.netns(host)])
            run(["ip", "-n", self.netns(host), "link", "set", "lo", "up"])
            for key in ("net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"):
                run(["sysctl", "-qw", key], netns=self.netns(host))
        for here, there, host in (("own", "near", "own"), ("peer", "far", "peer")):
            pair = ["type", "veth", "peer", "name", there, "netns", self.netns("router")]
            run(["ip", "link", "add", here, "netns", self.netns(host), *pair])
        for host, device, ipv4, ipv6 in _LINKS:
            self.ip(host, "addr", "add", ipv4, "dev", device)
            self.ip(host, "addr", "add", ipv6, "dev", device, "nodad")
            self.ip(host, "link", "set", device, "up")
        for key in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
            run(["sysctl", "-qw", key], netns=self.netns("router"))
        self.add_routes()
        self.ip("peer", "route", "add", "default", "via", "10.8.2.1")
        self.ip("peer", "route", "add", "default", "via", "fd08:2::1")

    def add_routes(self) -> None:
        """This node's ways to everybody."""
        for router in _ROUTER.values():
            self.ip("own", "route", "add", "default", "via", router)

    def ip(self, host: str, *words: str) -> None:
        """An ip command on a host; of the family of the addresses in it."""
        family = ["-6"] if any("fd08:" in word for word in words) else []
        run(["ip", "-n", self.netns(host), *family, *words])

    @contextmanager
    def rejecting(self, host: str, hook: str, how: str) -> Iterator[None]:
        """A firewall on a host that refuses connections to the peer."""
        nft = ["nft", "-f", "-"]
        chain = f"type filter hook {hook} priority 0;"
        rule = f"meta l4proto tcp tcp dport {_PORT} {how}"
        run(nft, netns=self.netns(host), text=f"table inet t {{\nchain c {{\n{chain}\n{rule}\n}}\n}}\n")
        try:
            yield
        finally:
            run(["nft", "delete", "table", "inet", "t"], netns=self.netns(host))

    def dial(self, address: str, name: str = "") -> Unreachable | OwnFault:
        """What this node's dialer says of a peer at an address."""
        peer = Peer(name=NodeName(name or address), address=address, port=_PORT, placement=Placement())

        async def connect() -> Unreachable | OwnFault:
            try:
                (await self.dialer.connect(peer)).close()
            except (Unreachable, OwnFault) as error:
                return error
            raise AssertionError("somebody listens")

        return inside(self.netns("own"), lambda: asyncio.run(connect()))

    def reach(self, name: str) -> None:
        """Open a connection to a peer of this name."""

        async def connect() -> None:
            async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1") as server:
                port = server.sockets[0].getsockname()[1]
                peer = Peer(name=NodeName(name), address="127.0.0.1", port=port, placement=Placement())
                (await self.dialer.connect(peer)).close()

        inside(self.netns("own"), lambda: asyncio.run(connect()))


@pytest.fixture(scope="module")
def made() -> Iterator[Net]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces: run `make test` as root")
    sweep(_PREFIX)
    net = Net()
    try:
        net.make()
        yield net
    finally:
        for host in ("own", "router", "peer"):
            with suppress(LabError):  # it was not made
                run(["ip", "netns", "del", net.netns(host)])


@pytest.fixture
def net(made: Net) -> Net:
    """The same network, and a dialer that knows nothing yet."""
    made.dialer = Dialer(credentials=CREDENTIALS, connect_s=20.0)
    return made


@pytest.mark.parametrize(
    ("family", "how", "words"),
    [
        ("4", "icmp type net-unreachable", "the network answered: network is unreachable"),
        ("4", "icmp type host-unreachable", "no route to host"),
        ("4", "icmp type admin-prohibited", "no route to host"),
        ("4", "icmp type net-prohibited", "the network answered: network is unreachable"),
        ("4", "icmp type port-unreachable", "connection refused"),
        ("4", "icmp type prot-unreachable", "protocol not available"),
        ("4", "tcp reset", "connection refused"),
        ("6", "icmpv6 type no-route", "the network answered: network is unreachable"),
        ("6", "icmpv6 type addr-unreachable", "no route to host"),
        ("6", "icmpv6 type admin-prohibited", "the network answered: permission denied"),
        ("6", "icmpv6 type port-unreachable", "connection refused"),
        ("6", "tcp reset", "connection refused"),
    ],
)
@pytest.mark.parametrize(("host", "hook"), [("peer", "input"), ("router", "forward")])
def test_firewall_that_rejects_is_the_peers_problem_whatever_it_answers(
    net: Net, host: str, hook: str, family: str, how: str, words: str
) -> None:
    with net.rejecting(host, hook, f"meta nfproto ipv{family} reject with {how}"):
        found = net.dial(_PEER[family])
    assert (type(found), str(found)) == (Unreachable, words)


@pytest.mark.parametrize("kind", ["unreachable", "prohibit"])
def test_router_without_a_way_is_the_peers_problem(net: Net, kind: str) -> None:
    net.ip("router", "route", "add", kind, "10.8.2.2/32")
    try:
        assert type(net.dial(_PEER["4"])) is Unreachable
    finally:
        net.ip("router", "route", "del", kind, "10.8.2.2/32")


@pytest.mark.parametrize("family", ["4", "6"])
def test_node_whose_interface_is_down_blames_nobody(net: Net, family: str) -> None:
    net.ip("own", "link", "set", "own", "down")
    try:
        for _ in range(2):
            for name in ("a", "b", "c"):
                found = net.dial(_PEER[family], name)
                assert (type(found), str(found)) == (CutOff, "network is unreachable")
    finally:
        net.ip("own", "link", "set", "own", "up")
        net.ip("own", "addr", "replace", "fd08:1::2/64", "dev", "own", "nodad")  # it went with the interface
        net.add_routes()


@pytest.mark.parametrize("kind", ["unreachable", "prohibit", "blackhole"])
@pytest.mark.parametrize("family", ["4", "6"])
def test_own_route_that_forbids_one_peer_is_that_peers_problem_once_others_are_reached(
    net: Net, kind: str, family: str
) -> None:
    route = {"4": "10.8.2.2/32", "6": "fd08:2::2/128"}[family]
    net.ip("own", "route", "add", kind, route)
    try:
        assert type(net.dial(_PEER[family])) is CutOff, "perhaps it has no way to anybody"
        net.reach("another")
        found = net.dial(_PEER[family])
        assert type(found) is Unreachable
        assert str(found).startswith("no way from here to this peer alone: ")
    finally:
        net.ip("own", "route", "del", kind, route)
