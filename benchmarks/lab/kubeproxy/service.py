"""Services as kube-proxy sees them, and how their traffic is handled, independent of the back-end."""

import base64
import enum
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Literal

from benchmarks.lab.process import LabError

Family = Literal[4, 6]
Policy = Literal["Cluster", "Local"]


class Mode(enum.Enum):
    """kube-proxy's mode, as its ``/proxyMode`` reports it."""

    IPTABLES = "iptables"
    NFTABLES = "nftables"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A ready endpoint. ``local``: it is on the node whose rules are written."""

    ip: str
    port: int
    local: bool

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One TCP port of a Service, in the address family of its ``cluster_ip``.

    A dual-stack Service is two of these with the same name. ``node_port`` None: the type is ClusterIP.
    """

    namespace: str
    name: str
    port_name: str
    cluster_ip: str
    port: int
    node_port: int | None = None
    endpoints: tuple[Endpoint, ...] = ()
    external_policy: Policy = "Cluster"
    internal_policy: Policy = "Cluster"

    @property
    def family(self) -> Family:
        """The IP version."""
        return 6 if ":" in self.cluster_ip else 4

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" + (f":{self.port_name}" if self.port_name else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddresses:
    """The node for which the rules are written.

    ``addresses``: its primary address of each family. ``pod_cidrs``: the cluster's pod networks
    (``--cluster-cidr``), one per family. ``localhost_node_ports``: ``--iptables-localhost-nodeports``, which
    works in iptables mode and for IPv4 only.
    """

    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    localhost_node_ports: bool = True

    def address(self, family: Family) -> str | None:
        """The node's address of this family."""
        return next((one for one in self.addresses if ip_address(one).version == family), None)

    def pod_cidr(self, family: Family) -> str:
        """The pod network of this family. Raises `LabError` if there is none."""
        for one in self.pod_cidrs:
            if ip_network(one).version == family:
                return one
        raise LabError(f"no pod CIDR of IPv{family}: give one in pod_cidrs")


class Fate(enum.Enum):
    """What happens to a connection."""

    SERVED = enum.auto()
    REJECTED = enum.auto()  # there are no endpoints
    DROPPED = enum.auto()  # the policy is Local, and no endpoint is on this node


class Plan:
    """How a Service's traffic is handled, independent of the back-end."""

    def __init__(self, service: Service) -> None:
        every = tuple(sorted(service.endpoints, key=str))
        local = tuple(endpoint for endpoint in every if endpoint.local)
        internal_local = service.internal_policy == "Local"
        external_local = service.external_policy == "Local"
        has_node_port = service.node_port is not None
        # Also with the policy Local: a NodePort leads to all endpoints for the node and its pods.
        self.cluster = every if not internal_local or has_node_port else ()
        self.local = local if internal_local or (external_local and has_node_port) else ()
        self.reachable = self.cluster or self.local
        self.has_external = has_node_port and bool(every)
        self.internal = self._fate(every, local if internal_local else every)
        self.external = self._fate(every, local if external_local else every)

    @staticmethod
    def _fate(every: Sequence[Endpoint], usable: Sequence[Endpoint]) -> Fate:
        if usable:
            return Fate.SERVED
        return Fate.DROPPED if every else Fate.REJECTED


def hashed(text: str, length: int) -> str:
    """The suffix of a chain's name."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:length]


def of_family(services: Iterable[Service], family: Family) -> list[Service]:
    """The Services of a family, in the order in which their rules are written."""
    return sorted((one for one in services if one.family == family), key=str)
