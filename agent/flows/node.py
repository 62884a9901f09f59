"""What the probe knows about its node: its addresses, and which of them lead to the agent. Pure."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from agent.flows.verdicts import ANY, Accepted, EndpointName, Location, Taker
from bpf.events import Address, is_loopback

_LOCATIONS_MAX = 4096
UNSEEN_OWNER = "a process that can't be seen from here"
BETWEEN = "something in between (TPROXY rules, an sk_lookup program, or a second listener with SO_REUSEPORT)"


@dataclass(slots=True, kw_only=True)
class KnownAgent:
    """An agent of this node that told the probe its sockets.

    ``listeners``: where it listens. ``marked_ns``: since when the kernel marks what they take; None if it
    can't. ``claimed``: the cookies of sockets that they took before. ``complete``: there are no others.
    """

    listeners: tuple[Address, ...] = ()
    marked_ns: int | None = None
    claimed: frozenset[int] = frozenset()
    complete: bool = False

    def listens_at(self, to: Address) -> bool:
        """Whether one of its listeners takes connections to this address."""
        return any(one.port == to.port and (one.ip == to.ip or one.ip in ANY) for one in self.listeners)

    def would_know(self, connect_ns: int) -> bool:
        """Whether a connection that began then would be known as this agent's if it were."""
        return self.marked_ns is not None and (self.complete or connect_ns > self.marked_ns)


@dataclass(slots=True, kw_only=True)
class NodeView:
    """What the probe keeps up to date.

    ``netns``: the cookie of the node's own network namespace. ``services``: the addresses and ports of
    Services that lead to agents (ClusterIPs). ``sure_of_intent``: no other program can rewrite any process's
    connect() before it is read. ``sure_of_intent_near``: the same for containerd's connect() only.
    ``alone_on_connect``: no other tool's program runs on connect() at all. ``clients``: the cgroups of this
    node's containerds; empty if they are not known. ``agents``: by the connection over which each is known.
    """

    netns: int
    host_port: int
    node_port: int
    services: frozenset[Address] = frozenset()
    own_ips: frozenset[bytes] = frozenset()
    sure_of_intent: bool = True
    sure_of_intent_near: bool = True
    alone_on_connect: bool = True
    clients: frozenset[int] = frozenset()
    agents: dict[Hashable, KnownAgent] = field(default_factory=dict)
    _owners: dict[Address, str] = field(default_factory=dict)
    _owners_known: bool = False
    _locations: dict[bytes, Location] = field(default_factory=dict)

    def endpoint(self, asked: Address) -> EndpointName | None:
        """The endpoint of this node's agent that this address is. None for any other address, such as another
        node's agent.
        """
        if asked in self.services:
            return EndpointName.CLUSTERIP
        if asked.port not in (self.host_port, self.node_port) or not self.is_own(asked.ip):
            return None
        return EndpointName.HOSTPORT if asked.port == self.host_port else EndpointName.NODEPORT

    def is_own(self, ip: bytes) -> bool:
        """Whether a connection to this address stays on this node, unless something translates it."""
        return is_loopback(ip) or ip in self.own_ips or ip in ANY

    def taker(self, end: Accepted, connect_ns: int) -> Taker:
        """Whose socket took a connection that began at ``connect_ns``. ``end``: that socket."""
        agents = self.agents.values()
        if not agents:
            return Taker.NOBODY
        if end.ours or any(end.cookie in one.claimed for one in agents):
            return Taker.AGENT
        return Taker.OTHER if all(one.would_know(connect_ns) for one in agents) else Taker.UNSURE

    def taker_at(self, to: Address) -> Taker:
        """Whose socket takes what was translated to this address, if that socket was not seen.

        A port to which a rule redirects is not watched. If no agent listens there, another process does.
        """
        agents = self.agents.values()
        elsewhere = agents and self.is_own(to.ip) and not any(one.listens_at(to) for one in agents)
        return Taker.OTHER if elsewhere else Taker.UNSURE

    def is_clients(self, cgroup: int, root: bool) -> bool:
        """Whether a connection of this cgroup is containerd's. If its cgroup is not known, any of root's may
        be: other users' never are.
        """
        return cgroup in self.clients if self.clients else root

    def owner(self, where: Address) -> str | None:
        """The process that listens at an address, in words. None if it was not looked up yet."""
        if any(agent.listens_at(where) for agent in self.agents.values()):
            return BETWEEN
        if not self._owners_known:
            return None
        at_any = (Address(ip, where.port) for ip in ANY)
        return next((self._owners[one] for one in (where, *at_any) if one in self._owners), UNSEEN_OWNER)

    def set_owners(self, owners: Mapping[Address, str]) -> None:
        """Remember which processes listen where."""
        self._owners, self._owners_known = dict(owners), True

    def forget_owners(self) -> None:
        """Forget which processes listen where, because processes come and go."""
        self._owners, self._owners_known = {}, False

    def location(self, ip: bytes) -> Location | None:
        """Where an address is. None if not known yet."""
        return Location.HOST if self.is_own(ip) else self._locations.get(ip)

    def set_location(self, ip: bytes, location: Location) -> None:
        """Remember where an address is."""
        if len(self._locations) >= _LOCATIONS_MAX:
            self._locations.clear()  # real endpoints are few: so many come from a scan
        self._locations[ip] = location

    def forget_locations(self) -> None:
        """Forget all locations, because routes and pods change."""
        self._locations.clear()
