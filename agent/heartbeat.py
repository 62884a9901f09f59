"""Heartbeats: how this node notices that the peer of a standing connection vanished without closing it.

The kernel sends the heartbeats (TCP keepalive). That costs this process nothing. It also works on latency
connections, on which the accepting side must not send data. The peer's kernel answers, even if the peer's
process hangs. Idle limits and the deadlines of questions are for that case. Source: tcp(7).
"""

import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """When the kernel sends heartbeats, and when it ends the connection.

    ``idle_s``: the first heartbeat is sent after this time without traffic. ``interval_s``: the next ones
    follow at this interval. ``lost_max``: the connection ends after this many heartbeats without an answer.
    The defaults end a connection within 30 s. That is soon enough to keep the old connections of restarted
    peers few. It is long enough for a network to reroute. The kernel takes whole seconds.
    """

    idle_s: int = 15
    interval_s: int = 5
    lost_max: int = 3

    @property
    def limit_s(self) -> int:
        """The connection to a vanished peer ends after this time, or up to one interval later."""
        return self.idle_s + self.interval_s * self.lost_max


def start_heartbeat(sock: Any, heartbeat: Heartbeat) -> None:
    """Let the kernel check that the peer is there. Does nothing if the connection has ended already.

    ``sock``: a socket, or what a transport's ``get_extra_info("socket")`` gives. If the peer vanishes, the
    connection fails with ETIMEDOUT. TCP_USER_TIMEOUT is for data that the peer does not acknowledge: the
    kernel sends no heartbeat while it retransmits, and would retransmit for a quarter of an hour.
    """
    if sock is None:
        return
    with suppress(OSError, ValueError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, heartbeat.idle_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, heartbeat.interval_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, heartbeat.lost_max)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, heartbeat.limit_s * 1000)
