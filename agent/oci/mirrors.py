"""Tells the name of a registry from an address of the mirror itself.

``ctr pull 127.0.0.1:30020/lab/a:v1`` works, and leaves an image of that name behind. No registry said
anything of it, so it must not count as one more registry that has ``lab/a:v1``. Pure.
"""

import ipaddress
from collections.abc import Callable, Collection

from agent.oci.registry import Registry


class MirrorNames:
    """The names under which clients reach the agents of this cluster.

    ``ports``: of the agents' listeners and of their NodePort. ``services``: (host, port) of Services that
    lead to them. ``hosts``: this node's names and addresses. ``is_member``: whether a host is another node's.
    """

    def __init__(
        self,
        *,
        ports: Collection[int],
        hosts: Collection[str],
        services: Collection[tuple[str, int]] = (),
        is_member: Callable[[str], bool] = lambda host: False,
    ) -> None:
        self._ports = frozenset(ports)
        self._hosts = frozenset(_plain(host) for host in hosts)
        self._services = frozenset((_plain(host), port) for host, port in services)
        self._is_member = is_member

    def has(self, registry: Registry) -> bool:
        """Whether this "registry" is an agent. A name without a port never is: agents have high ports."""
        head, colon, port = registry.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            return False
        host = _plain(head.removeprefix("[").removesuffix("]"))
        if (host, int(port)) in self._services:
            return True
        if int(port) not in self._ports:
            return False
        return is_loopback(host) or host in self._hosts or self._is_member(host)


def _plain(host: str) -> str:
    """One spelling for one address. An IPv4 address in an IPv6 one counts as the IPv4 address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower()
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_loopback(host: str) -> bool:
    """Whether this name or address means the node itself, on every node."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
