"""Services as kube-proxy sees them, and what becomes of their traffic, whichever back-end writes it."""

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
    """What kube-proxy's ``/proxyMode`` says."""

    IPTABLES = "iptables"
    NFTABLES = "nftables"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A ready endpoint; ``local``: on the node whose rules are written."""

    ip: str
    port: int
    local: bool

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One TCP port of a Service, of the address family of its ``cluster_ip``.

    A dual-stack Service is two of these of the same name. ``node_port`` None: type ClusterIP.
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
    """The node that the rules are for.

    ``addresses``: its primary address of each family. ``pod_cidrs``: the cluster's (``--cluster-cidr``), one
    of each family. ``localhost_node_ports``: ``--iptables-localhost-nodeports``, which acts in iptables mode
    and on IPv4 only.
    """

    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    localhost_node_ports: bool = True

    def address(self, family: Family) -> str | None:
        """Its address of this family."""
        return next((one for one in self.addresses if ip_address(one).version == family), None)

    def pod_cidr(self, family: Family) -> str:
        """The pods' network of this family. Raises `LabError` without one."""
        for one in self.pod_cidrs:
            if ip_network(one).version == family:
                return one
        raise LabError(f"no pod CIDR of IPv{family}: give one in pod_cidrs")


class Fate(enum.Enum):
    """What happens to a connection."""

    SERVED = enum.auto()
    REJECTED = enum.auto()  # no endpoints anywhere
    DROPPED = enum.auto()  # policy Local, and none here


class Plan:
    """What becomes of a Service's traffic, whichever back-end writes it."""

    def __init__(self, service: Service) -> None:
        every = tuple(sorted(service.endpoints, key=str))
        local = tuple(endpoint for endpoint in every if endpoint.local)
        internal_local = service.internal_policy == "Local"
        external_local = service.external_policy == "Local"
        has_node_port = service.node_port is not None
        # Also with policy Local: from the node and from its pods, a NodePort goes to all endpoints.
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
    """In the order in which their rules are written."""
    return sorted((one for one in services if one.family == family), key=str)
