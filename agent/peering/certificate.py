"""What a certificate says, and whether it is that of a peer. Pure.

A certificate is a node's if one of its subject alternative names is the node's name (a DNS name, or a URI
that ends in ``/node/NAME``) or the node's address. Or it has the one name that all agents share: a Secret of
cert-manager is one certificate for all pods of a DaemonSet. Then it proves that an agent of this cluster is
at the other end, and not which one. Wildcards name nobody, and the common name is not read (RFC 9525, 2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from ssl import cert_time_to_seconds
from typing import Any

from topology.labels import clean_value
from topology.placement import NodeName

_NODE = "/node/"
_NAMES_SHOWN, _NAME_MOST = 3, 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate that was verified, or this node's own.

    ``names``: its DNS names, in lower case, and its URIs. ``addresses``: its IP addresses. ``not_before_s``,
    ``not_after_s``: when it is valid, in seconds since 1970.
    """

    names: frozenset[str]
    addresses: frozenset[IPv4Address | IPv6Address]
    not_before_s: float
    not_after_s: float

    def fits(self, node: str, address: str | None, shared: str | None) -> bool:
        """Whether it is the certificate of this node, at this address.

        ``shared``: the name that the certificates of all agents have, if any.
        """
        if shared is not None and self.has_name(shared):
            return True
        name = node.lower()
        if name in self.names or any(_is_node(each, node) for each in self.names):
            return True
        return address is not None and _address(address) in self.addresses

    def is_of_any(self, peers: Mapping[NodeName, object], shared: str | None) -> bool:
        """Whether it has the name of one of these nodes, or the shared one. Addresses are not looked at."""
        if shared is not None and self.has_name(shared):
            return True
        nodes = {name.rpartition(_NODE)[2] if "://" in name else name for name in self.names}
        # Names of nodes are in lower case, as a rule. DNS names have no case.
        return any(NodeName(name) in peers for name in nodes) or any(peer.lower() in nodes for peer in peers)

    def has_name(self, name: str) -> bool:
        """Whether this DNS name or URI is one of its names."""
        return (name if "://" in name else name.lower()) in self.names

    def time_problem(self, now_s: float) -> str | None:
        """Why it is not valid at this time. None: it is."""
        if now_s > self.not_after_s:
            return f"it expired on {day(self.not_after_s)}"
        if now_s < self.not_before_s:
            return f"it is not valid before {day(self.not_before_s)}"
        return None

    def __str__(self) -> str:
        """Whom it is for, in words."""
        found = [*sorted(self.names), *sorted(map(str, self.addresses))]
        shown = [clean_value(name)[:_NAME_MOST] for name in found[:_NAMES_SHOWN]]
        more = f" and {len(found) - _NAMES_SHOWN} more" if len(found) > _NAMES_SHOWN else ""
        return f"for {', '.join(shown)}{more}" if found else "without a name"


def certificate_of(decoded: Mapping[str, Any]) -> Certificate:
    """The certificate that `ssl.SSLSocket.getpeercert` decoded."""
    names, addresses = set[str](), set[IPv4Address | IPv6Address]()
    for kind, value in decoded.get("subjectAltName", ()):
        if kind == "DNS":
            names.add(value.lower())
        elif kind == "URI":
            names.add(value)
        elif kind == "IP Address" and (address := _address(value)) is not None:
            addresses.add(address)
    return Certificate(
        names=frozenset(names),
        addresses=frozenset(addresses),
        not_before_s=cert_time_to_seconds(decoded["notBefore"]),
        not_after_s=cert_time_to_seconds(decoded["notAfter"]),
    )


def day(unix_s: float) -> str:
    """A time in words, to the minute."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _is_node(name: str, node: str) -> bool:
    return "://" in name and name.endswith(_NODE + node)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.strip())
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
