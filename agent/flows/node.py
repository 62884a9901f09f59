"""What the probe knows of its node: its addresses, and which connections are the local leg. Pure."""

from dataclasses import dataclass, field

from agent.flows.verdicts import ANY, EndpointName, Location
from bpf.events import Address, is_loopback

_LOCATIONS_MAX = 4096


@dataclass(slots=True, kw_only=True)
class NodeView:
    """Kept up to date by the probe. ``netns``: cookie of the node's own network namespace.

    ``services``: addresses and ports of Services that lead to agents (ClusterIPs). ``sure_of_intent``: no
    other program can have rewritten a connect() before it was read; ``..._near``: of containerd's own.
    ``alone_on_connect``: there is no other program at all.
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
        """Which endpoint of the local leg this is; None for none, such as another node's agent."""
        if asked in self.services:
            return EndpointName.CLUSTERIP
        if asked.port not in (self.host_port, self.node_port) or not self.is_own(asked.ip):
            return None
        return EndpointName.HOSTPORT if asked.port == self.host_port else EndpointName.NODEPORT

    def is_own(self, ip: bytes) -> bool:
        """Whether connections to this address stay on this node unless something translates them."""
        return is_loopback(ip) or ip in self.own_ips or ip in ANY

    def location(self, ip: bytes) -> Location | None:
        """Where an address is; None if nobody found out yet."""
        return Location.HOST if self.is_own(ip) else self._locations.get(ip)

    def locate(self, ip: bytes, location: Location) -> None:
        """Note where an address is."""
        if len(self._locations) >= _LOCATIONS_MAX:
            self._locations.clear()  # endpoints are few; so many are somebody's scan
        self._locations[ip] = location

    def forget_locations(self) -> None:
        """Routes and pods change: find out anew."""
        self._locations.clear()
