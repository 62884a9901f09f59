"""Nodes with pods, like Kubernetes nodes with the plain bridge CNI, for tests of address translation.

A node's host namespace has ``eth0`` to the other nodes, a bridge ``cni0`` with one pod per port,
forwarding, and routes to the other nodes' pods. It has no rules. The package kubeproxy and portmap.py add
those.
"""

import contextlib
import functools
import os
import selectors
import socket
import threading
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Self

from benchmarks.lab.network import inside, sweep
from benchmarks.lab.process import LabError, run, undisturbed

_PREFIX = "shlab"
_GATEWAY, _GATEWAY6 = "192.168.60.254", "fd00:60::fe"  # drops everything
# Without duplicate address detection an IPv6 address is usable at once and not after a second.
_NO_DAD = {"net/ipv6/conf/all/accept_dad": "0", "net/ipv6/conf/default/accept_dad": "0"}
_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    # The pods' answers to each other must pass conntrack too. Every installer of Kubernetes sets this.
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/bridge/bridge-nf-call-ip6tables": "1",
    # A new namespace inherits the machine's values of these.
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/route_localnet": "0",
    "net/ipv4/conf/default/route_localnet": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod: a namespace with an ``eth0`` on its node's bridge. ``address6``: None unless dual-stack."""

    name: str
    netns: str
    address: str
    address6: str | None


class NatNode:
    """A node: its host namespace and its pods. ``address6``: None unless dual-stack."""

    def __init__(self, network: "PodNetwork", number: int) -> None:
        self.name = f"node{number}"
        self.address = f"192.168.60.{number}"
        self.address6 = f"fd00:60::{number:x}" if network.dual_stack else None
        self.pod_cidr = f"10.244.{number - 1}.0/24"
        self.pod_cidr6 = str(ip_network(f"fd00:10:244:{number - 1:x}::/64")) if network.dual_stack else None
        self.bridge = "cni0"
        self.pods: list[Pod] = []
        self._network = network
        self.netns = network.make_namespace(self.name)
        _set_sysctls(self.netns, _SYSCTLS)
        if network.bridge_first:
            _ip(self.netns, "link", "add", self.bridge, "type", "bridge", "mcast_snooping", "0")
        network.plug_in(self.netns, self.name)
        if not network.bridge_first:
            _ip(self.netns, "link", "add", self.bridge, "type", "bridge", "mcast_snooping", "0")
        _give(self.netns, "eth0", f"{self.address}/24", self.address6)
        _give(self.netns, self.bridge, f"{self.pod_address(1)}/24", self.pod_address6(1))
        # Without a route to a ClusterIP there would be no packet to translate.
        _ip(self.netns, "route", "add", "default", "via", _GATEWAY)
        if network.dual_stack:
            _ip(self.netns, "route", "add", "default", "via", _GATEWAY6)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its own addresses, in the form for `NodeAddresses`."""
        return (self.address,) if self.address6 is None else (self.address, self.address6)

    def pod_address(self, number: int) -> str:
        """An address in its pod network. 1 is the bridge."""
        return self.pod_cidr.replace("0/24", str(number))

    def pod_address6(self, number: int) -> str | None:
        """The same for IPv6."""
        return self.pod_cidr6.replace("/64", f"{number:x}") if self.pod_cidr6 else None

    def add_pod(self) -> Pod:
        """Add a pod: 10.244.x.2, 10.244.x.3, …"""
        number = len(self.pods) + 2
        name = f"{self.name}-pod{number}"
        pod = Pod(
            name=name,
            netns=self._network.make_namespace(name),
            address=self.pod_address(number),
            address6=self.pod_address6(number),
        )
        port = f"veth{number}"
        _ip(
            self.netns,
            *("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", pod.netns),
        )
        _ip(self.netns, "link", "set", port, "master", self.bridge, "up")
        # For a pod that asks a Service and is sent to itself.
        _ip(self.netns, "link", "set", port, "type", "bridge_slave", "hairpin", "on")
        _give(pod.netns, "eth0", f"{pod.address}/24", pod.address6)
        _ip(pod.netns, "route", "add", "default", "via", self.pod_address(1))
        if pod.address6 is not None:
            _ip(pod.netns, "route", "add", "default", "via", f"{self.pod_address6(1)}")
        self.pods.append(pod)
        return pod

    def add_routes_to(self, other: "NatNode") -> None:
        """Make the other node's pods reachable from this one and its pods."""
        _ip(self.netns, "route", "add", other.pod_cidr, "via", other.address)
        if other.address6 is not None:
            _ip(self.netns, "route", "add", f"{other.pod_cidr6}", "via", other.address6)


class PodNetwork:
    """A node to test, and remote nodes. A context manager that removes everything at its end.

    ``node`` is 192.168.60.1 with pods 10.244.0.0/24. ``remotes`` are 192.168.60.2 with 10.244.1.0/24, and
    so on. A packet to any other address, for example an untranslated ClusterIP, leaves the node and is
    lost. With ``dual_stack`` there are also fd00:60::1 with fd00:10:244::/64, and so on. ``pod_cidrs``: the
    cluster's. ``bridge_first``: the bridge is older than eth0, so a connection that is masqueraded on its
    way to the node itself comes from the bridge's address, not from the node's. ``name``: distinguishes
    networks of one process.
    """

    def __init__(
        self, *, remotes: int = 1, dual_stack: bool = False, bridge_first: bool = False, name: str = "pods"
    ) -> None:
        self.bridge_first = bridge_first
        self.dual_stack = dual_stack
        self.pod_cidrs = ("10.244.0.0/16", *(("fd00:10:244::/48",) if dual_stack else ()))
        self._prefix = f"{_PREFIX}-{os.getpid()}-{name}"
        self._remotes = remotes
        self._namespaces: list[str] = []
        self._servers: list[Echo] = []
        self.nodes: list[NatNode] = []

    def __enter__(self) -> Self:
        sweep(_PREFIX)
        try:
            self._hub = self.make_namespace("hub")
            _ip(self._hub, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
            _give(self._hub, "br0", f"{_GATEWAY}/24", _GATEWAY6 if self.dual_stack else None)
            _set_sysctls(self._hub, {"net/ipv4/ip_forward": "0"})
            for number in range(1, self._remotes + 2):
                self.nodes.append(NatNode(self, number))
            for one in self.nodes:
                for other in self.nodes:
                    if one is not other:
                        one.add_routes_to(other)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def node(self) -> NatNode:
        """The node to test."""
        return self.nodes[0]

    @property
    def remotes(self) -> list[NatNode]:
        """The remote nodes."""
        return self.nodes[1:]

    def serve(self, where: Pod | NatNode, port: int) -> "Echo":
        """Start an `Echo` in a pod or in a node's host namespace. It ends with the network."""
        server = Echo(where.netns, port, name=where.name, dual_stack=self.dual_stack)
        self._servers.append(server)
        return server

    def close(self) -> None:
        """Stop the servers, and remove every namespace with its interfaces, rules and conntrack."""
        with undisturbed():
            for server in self._servers:
                server.close()
            for netns in reversed(self._namespaces):
                run(["ip", "netns", "del", netns])
            self._servers.clear()
            self._namespaces.clear()
            self.nodes.clear()

    def make_namespace(self, name: str) -> str:
        """Make a namespace of this network with its loopback up. Returns its full name."""
        netns = f"{self._prefix}-{name}"
        run(["ip", "netns", "add", netns])
        self._namespaces.append(netns)
        _set_sysctls(netns, _NO_DAD)
        _ip(netns, "link", "set", "lo", "up")
        return netns

    def plug_in(self, netns: str, port: str) -> None:
        """Give a namespace an ``eth0`` on the network between the nodes, without an address."""
        _ip(
            self._hub,
            *("link", "add", port, "master", "br0", "type", "veth", "peer", "name", "eth0", "netns", netns),
        )
        _ip(self._hub, "link", "set", port, "up")


class Echo:
    """A TCP server. It sends the line ``NAME ADDRESS PORT``, with its own name and the client's address and
    port, and then echoes. ``listener``: its socket.
    """

    def __init__(self, netns: str, port: int, *, name: str, dual_stack: bool = False) -> None:
        self.name = name
        listen = functools.partial(
            socket.create_server,
            ("", port),
            family=socket.AF_INET6 if dual_stack else socket.AF_INET,
            dualstack_ipv6=dual_stack,
            backlog=128,
        )
        self.listener = inside(netns, listen)
        self.listener.setblocking(False)
        self._end, self._stop = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.listener, selectors.EVENT_READ)
        self._selector.register(self._stop, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._work, name=f"echo in {netns}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and close every connection. A second call does nothing."""
        self._end.close()
        self._thread.join()

    def _work(self) -> None:
        with self._selector:
            while True:
                for key, _ in self._selector.select():
                    one = key.fileobj
                    assert isinstance(one, socket.socket)
                    if one is self._stop:
                        for key in list(self._selector.get_map().values()):
                            assert isinstance(key.fileobj, socket.socket)
                            key.fileobj.close()
                        return
                    if one is self.listener:
                        self._welcome()
                    elif not self._answer(one):
                        self._selector.unregister(one)
                        one.close()

    def _welcome(self) -> None:
        try:
            connection, peer = self.listener.accept()
        except OSError:  # the client is gone already
            return
        self._selector.register(connection, selectors.EVENT_READ)
        with contextlib.suppress(OSError):
            connection.sendall(f"{self.name} {peer[0].removeprefix('::ffff:')} {peer[1]}\n".encode())

    @staticmethod
    def _answer(connection: socket.socket) -> bool:
        try:
            said = connection.recv(65536)
            connection.sendall(said)
        except OSError:
            return False
        return bool(said)


def _set_sysctls(netns: str, values: dict[str, str]) -> None:
    def write() -> None:
        for name, value in values.items():
            try:
                Path("/proc/sys", name).write_text(value)
            except FileNotFoundError as error:
                hint = "run: modprobe br_netfilter" if "bridge" in name else "is IPv6 off?"
                raise LabError(f"this kernel has no /proc/sys/{name}: {hint}") from error

    inside(netns, write)


def _give(netns: str, device: str, address: str, address6: str | None) -> None:
    _ip(netns, "addr", "add", address, "dev", device)
    if address6 is not None:
        # Without waiting for duplicate address detection.
        _ip(netns, "addr", "add", f"{address6}/64", "dev", device, "nodad")
    _ip(netns, "link", "set", device, "up")


def _ip(netns: str, *words: str) -> None:
    run(["ip", "-n", netns, *words])
