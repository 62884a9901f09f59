"""Flows as the kernel's programs tell of them: builders of addresses, events and evidence for the tests."""

from dataclasses import dataclass
from typing import Any

from agent.flows.node import KnownAgent, NodeView
from agent.flows.table import Flow, FlowTable
from agent.flows.verdicts import Accepted, EndpointName, Evidence, Location, Taker, Verdict
from bpf.events import LAYOUT, VERSION, Address, Event, Flag, Kind, Owner, Tuple, pack_ip

HOST, POD_NETNS = 7, 8  # cookies of network namespaces
NODE_IP, BRIDGE_IP, POD_IP, REMOTE_IP = "192.168.60.1", "10.244.1.254", "10.244.1.1", "10.244.2.1"
OTHER_POD_IP = "10.244.3.3"  # nobody knows where
VIP = "10.96.0.30:80"
HOST_PORT, NODE_PORT = 30020, 30021
CONTAINERD, USERS = 70, 71  # cgroups
NOWHERE = Address(b"\0" * 16, 0)


def address(text: str) -> Address:
    """``1.2.3.4:5`` or ``[::1]:5``."""
    host, _, port = text.rpartition(":")
    return Address(pack_ip(host.strip("[]")), int(port))


def way(source: str, destination: str) -> Tuple:
    """Two ends, as the source sees them."""
    return Tuple(address(source), address(destination))


def known_agent(*listeners: str, **changes: Any) -> KnownAgent:
    """An agent that listens at the HostPort's number on every address, and that told all its sockets."""
    places = listeners or (f"0.0.0.0:{HOST_PORT}",)
    values: dict[str, Any] = {"marked_ns": 0, "complete": True}
    return KnownAgent(listeners=tuple(map(address, places)), **values | changes)


def node(**changes: Any) -> NodeView:
    """A node with a HostPort, a NodePort, one Service, an address of its own besides loopback, and an agent
    that told its sockets.
    """
    defaults: dict[str, Any] = {
        "netns": HOST,
        "host_port": HOST_PORT,
        "node_port": NODE_PORT,
        "services": frozenset({address(VIP)}),
        "own_ips": frozenset({pack_ip(NODE_IP), pack_ip(BRIDGE_IP), pack_ip("fd00::1")}),
        "clients": frozenset({CONTAINERD}),
        "agents": {"agent": known_agent()},
    }
    view = NodeView(**defaults | changes)
    view.set_location(pack_ip(POD_IP), Location.POD)
    view.set_location(pack_ip(REMOTE_IP), Location.REMOTE)
    return view


def event(**changes: Any) -> Event:
    """An event with nothing known but what is said here."""
    nothing = Tuple(NOWHERE, NOWHERE)
    values: dict[str, Any] = {
        "kind": Kind.FLOW,
        "flags": 0,
        "state": 1,
        "time_ns": 0,
        "connect_ns": 0,
        "cookie": 1,
        "netns": HOST,
        "bytes_received": 0,
        "bytes_acked": 0,
        "pid": 0,
        "mark": 0,
        "rtt_us": 0,
        "comm": "",
        "intent": NOWHERE,
        "socket": nothing,
        "wire": nothing,
    }
    return Event(**values | changes)


def packed(one: Event) -> bytes:
    """An event as the kernel's programs write it."""
    ends = (one.intent, *one.socket, *one.wire)
    return LAYOUT.pack(
        VERSION, LAYOUT.size, one.kind, one.flags, one.state, one.owner,
        one.time_ns, one.connect_ns, one.cookie, one.netns, one.cgroup, one.bytes_received, one.bytes_acked,
        one.pid, one.mark, one.rtt_us, one.comm.encode(),
        *(field for end in ends for field in (end.ip, end.port, 0)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One connection, in truth: what each of its events says follows from it.

    ``wire``: the client's packets, if they were translated. ``taken``: the server's own socket, as it sees
    it, if it is on this node; ``answer``: its packets, if they were translated. ``old``: connect() was
    before the probe. ``connect_ns``: when; events follow it. ``ours``: the agent's own listener took it.
    ``cgroup``: the client's.
    """

    socket: Tuple
    cookie: int = 1
    intent: Address | None = None
    wire: Tuple | None = None
    taken: Tuple | None = None
    answer: Tuple | None = None
    netns: int = HOST
    server_netns: int = HOST
    mark: int = 0
    old: bool = False
    first: bool = False
    connect_ns: int = 1000
    ours: bool = True
    cgroup: int = CONTAINERD

    @property
    def packets(self) -> Tuple:
        """The client's, on the wire."""
        return self.wire or self.socket

    def client(self, *, time_ns: int = 0, rtt_us: int = 200) -> Event:
        """A packet of the client's, after the handshake."""
        return self._client(Kind.FLOW, Flag.WIRE | Flag.ESTABLISHED, time_ns, rtt_us=rtt_us)

    def closed(self, *, time_ns: int = 0, received: int = 0, sent: int = 0) -> Event:
        """The client's socket closed, after it worked."""
        return self._client(
            Kind.CLOSED,
            Flag.WIRE | Flag.ESTABLISHED,
            time_ns,
            bytes_received=received,
            bytes_acked=sent,
            state=7,
        )

    def failed(self, *, time_ns: int = 0, packet: bool = True) -> Event:
        """The client's socket closed without ever having worked; ``packet``: it sent a SYN."""
        return self._client(Kind.CLOSED, Flag.WIRE if packet else Flag(0), time_ns, state=7)

    def rewritten(self, *, time_ns: int = 0) -> Event:
        """The handshake was completed with a port that is not watched: no packet is looked at."""
        return self._client(Kind.FLOW, Flag.ESTABLISHED, time_ns)

    def server(self, *, time_ns: int = 0, cookie: int = 0) -> Event:
        """A packet of the server's; its cookie is the client's + 1000 unless given."""
        taken = self.taken or self.packets.mirrored
        return event(
            flags=Flag.WIRE | Flag.ESTABLISHED,
            owner=Owner.AGENT if self.ours else 0,
            time_ns=time_ns or self.connect_ns + 20,
            cookie=cookie or self.cookie + 1000,
            netns=self.server_netns,
            socket=taken,
            wire=self.answer or taken,
        )

    def _client(self, kind: Kind, flags: Flag, time_ns: int, **more: Any) -> Event:
        seen = bool(flags & Flag.WIRE)
        intent = self.intent or self.socket.destination
        flags |= Flag.CLIENT
        if not self.old:
            flags |= Flag.INTENT | (Flag.FIRST if self.first else Flag(0))
        if seen and self.packets != self.socket:
            flags |= Flag.TRANSLATED
        return event(
            kind=kind,
            flags=flags,
            time_ns=time_ns or self.connect_ns + 10,
            connect_ns=0 if self.old else self.connect_ns,
            cookie=self.cookie,
            netns=self.netns,
            pid=0 if self.old else 42,
            comm="" if self.old else "containerd",
            cgroup=self.cgroup,
            mark=self.mark if seen else 0,
            intent=NOWHERE if self.old else intent,
            socket=self.socket,
            wire=self.packets if seen else Tuple(NOWHERE, NOWHERE),
            **more,
        )


def direct(port: int = 40000, **changes: Any) -> Scene:
    """hostNetwork, 127.0.0.1:HostPort."""
    values: dict[str, Any] = {"socket": way(f"127.0.0.1:{port}", f"127.0.0.1:{HOST_PORT}")}
    return Scene(**values | changes)


def portmap(port: int = 40000, **changes: Any) -> Scene:
    """CNI's port map of the HostPort, by 127.0.0.1."""
    values: dict[str, Any] = {
        "socket": way(f"127.0.0.1:{port}", f"127.0.0.1:{HOST_PORT}"),
        "wire": way(f"{BRIDGE_IP}:{port}", f"{POD_IP}:5000"),
        "server_netns": POD_NETNS,
        "mark": 0x2000,
    }
    return Scene(**values | changes)


def node_port(port: int = 40000, *, to: str = POD_IP, masqueraded: int = 28941, **changes: Any) -> Scene:
    """kube-proxy's NodePort to an endpoint in a pod, of this node or another."""
    values: dict[str, Any] = {
        "socket": way(f"{NODE_IP}:{port}", f"{NODE_IP}:{NODE_PORT}"),
        "wire": way(f"{BRIDGE_IP}:{masqueraded}", f"{to}:5000"),
        "server_netns": POD_NETNS,
    }
    return Scene(**values | changes)


def node_port_to_host(port: int = 40000, *, masqueraded: int = 28941, **changes: Any) -> Scene:
    """kube-proxy's NodePort to a host-network agent of this node: the agent's answer is translated back."""
    socket = way(f"127.0.0.1:{port}", f"127.0.0.1:{NODE_PORT}")
    wire = way(f"{BRIDGE_IP}:{masqueraded}", f"{NODE_IP}:{HOST_PORT}")
    values: dict[str, Any] = {"socket": socket, "wire": wire, "answer": socket.mirrored}
    return Scene(**values | changes)


def balanced(port: int = 40000, *, asked: str = f"{NODE_IP}:{NODE_PORT}", **changes: Any) -> Scene:
    """connect() rewritten by another program to a host-network agent of this node."""
    values: dict[str, Any] = {
        "socket": way(f"{NODE_IP}:{port}", f"{NODE_IP}:{HOST_PORT}"),
        "intent": address(asked),
    }
    return Scene(**values | changes)


def play(table: FlowTable, *events: Event, now_s: float = 0.0) -> list[Flow]:
    """Give a table events; what it says of them."""
    for one in events:
        table.add_event(one, now_s)
    return table.changes(now_s)


def verdicts(flows: list[Flow]) -> list[Verdict]:
    """Of flows, in their order."""
    return [flow.verdict for flow in flows]


def evidence(**changes: Any) -> Evidence:
    """All that DIRECT needs."""
    scene = direct()
    values: dict[str, Any] = {
        "endpoint": EndpointName.HOSTPORT,
        "same_netns": True,
        "intent": scene.socket.destination,
        "sure_of_intent": True,
        "socket": scene.socket,
        "wire": scene.socket,
        "established": True,
        "closed": False,
        "accepted": Accepted(1001, HOST, scene.socket.mirrored, scene.socket.mirrored),
        "location": Location.HOST,
        "taker": Taker.AGENT,
    }
    return Evidence(**values | changes)


def table(view: NodeView | None = None, **options: Any) -> FlowTable:
    """A table of the usual node."""
    return FlowTable(node() if view is None else view, **options)
