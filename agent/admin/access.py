"""Who may ask the admin port for what, by the way on which the request came.

Its own Unix socket: everything, and only there what changes something. Loopback: what only reads. From
elsewhere: health and metrics, and with the cluster's admin token what only reads.
"""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from aiohttp import web

from agent.listen.tokens import token_refusal
from agent.observe.refusals import Reason
from agent.probe.sockets import peer_uid

OPEN = frozenset({"/livez", "/readyz", "/metrics"})
"""What the kubelet and Prometheus ask for. Of ``/readyz`` not what it says at length."""


class Way(Enum):
    """The way on which a request came."""

    SOCKET = "socket"  # the agent's own Unix socket, by root or by the agent's user
    LOOPBACK = "loopback"
    ELSEWHERE = "elsewhere"


def way_of(request: web.BaseRequest) -> Way:
    """The way of a request. The Unix socket is for root and for this process's user.

    Both ends have to be loopback addresses: with route_localnet, packets for them may come in from outside.
    """
    transport = request.transport
    if transport is None:
        return Way.ELSEWHERE  # it has left
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        return Way.SOCKET if _uid(connection) in {0, os.geteuid()} else Way.LOOPBACK
    ends = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    return Way.LOOPBACK if all(end and _is_loopback(end[0]) for end in ends) else Way.ELSEWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Turns away who comes from elsewhere without the token. ``tokens``: those that are valid now.

    ``refused``: is told of each who is turned away. ``is_lost``: whether an agent, which proves that it is
    one, asks what only the peer listener answers: it is told so.
    """

    tokens: Callable[[], Sequence[str]] = tuple
    refused: Callable[[Reason], None] = lambda _: None
    is_lost: Callable[[web.BaseRequest], bool] = lambda _: False

    def refusal(self, request: web.BaseRequest, way: Way) -> Reason | None:
        """Why this request is turned away. None: it is not."""
        if way is not Way.ELSEWHERE or (request.path in OPEN and not request.query_string):
            return None
        if self.is_lost(request):
            return None
        reason = token_refusal(request.headers, self.tokens())
        if reason is not None:
            self.refused(reason)
        return reason


def _uid(connection: socket.socket) -> int:
    try:
        return peer_uid(connection)
    except OSError:
        return -1


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
