"""What the probe knows about its node: its addresses, and which of them lead to the agent. Pure."""

from dataclasses import dataclass, field

from agent.flows.verdicts import ANY, EndpointName, Location
from bpf.events import Address, is_loopback

_LOCATIONS_MAX = 4096


@dataclass(slots=True, kw_only=True)
class NodeView:
    """What the probe keeps up to date.

    ``netns``: the cookie of the node's own network namespace. ``services``: the addresses and ports of
    Services that lead to agents (ClusterIPs). ``sure_of_intent``: no other program can rewrite any process's
    connect() before it is read. ``sure_of_intent_near``: the same for containerd's connect() only.
    ``alone_on_connect``: no other tool's program runs on connect() at all.
    """

    netns: int
    host_port: int
    node_port: int
    services: frozenset[Address] = frozenset()
    own_ips: frozenset[bytes] = frozenset()
    sure_of_intent: bool = True
    sure_of_intent_near: bool = True
    alone_on_connect: bool = True
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
