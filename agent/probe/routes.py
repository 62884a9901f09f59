"""Tells when the node's routes, addresses, rules or interfaces change. Source: rtnetlink(7).

Only the kind of change is told: whoever keeps what routes say then asks again.
"""

import logging
import socket
import struct
from typing import NamedTuple

_log = logging.getLogger(__name__)

# linux/rtnetlink.h, RTMGRP_*: links, addresses and routes of both families, and rules.
_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV4_RULE = 0x1, 0x10, 0x40, 0x80
_IPV6_ADDRESS, _IPV6_ROUTE, _IPV6_RULE = 0x100, 0x400, 1 << 18
_GROUPS = _LINK | _IPV4_ADDRESS | _IPV4_ROUTE | _IPV4_RULE | _IPV6_ADDRESS | _IPV6_ROUTE | _IPV6_RULE
_RTM_NEWADDR, _RTM_DELADDR = 20, 21
_BUFFER_BYTES = 1 << 16
_AT_ONCE = 1000  # messages per call; what is left is told by the next call


class Changed(NamedTuple):
    """What changed. ``addresses``: the node's own addresses; ``routes``: anything that routes depend on."""

    routes: bool = False
    addresses: bool = False


class RouteChanges:
    """A netlink socket in this process's network namespace. Close it at the end.

    Raises OSError if the kernel refuses the socket.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.NETLINK_ROUTE,
        )
        try:
            self._socket.bind((0, _GROUPS))
        except OSError:
            self._socket.close()
            raise

    def drain(self) -> Changed:
        """What changed since the last call. Does not wait."""
        addresses = False
        for count in range(_AT_ONCE):
            try:
                message = self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                return Changed(count > 0, addresses)
            except OSError:  # ENOBUFS: there were so many changes that the kernel dropped some
                addresses = True
                continue
            (kind,) = struct.unpack_from("=H", message, 4)  # nlmsghdr.nlmsg_type
            addresses = addresses or kind in (_RTM_NEWADDR, _RTM_DELADDR)
        return Changed(True, addresses)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def route_changes() -> RouteChanges | None:
    """Route changes of this network namespace. None, with a line in the log, if they can't be told."""
    try:
        return RouteChanges()
    except OSError as error:
        _log.warning("route changes are not told, so they are noticed late: %s", error)
        return None
