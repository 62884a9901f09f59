"""How this node notices that the other end of a standing connection vanished without closing it.

The kernel sends the heartbeats (TCP keepalive). That costs this process nothing, and it works on latency
connections, on which the accepting side must not send data. The peer's kernel answers, so a process that
hangs goes unnoticed here: idle bounds and the deadlines of questions catch that. Source: tcp(7).
"""

import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """When the kernel asks, and when it gives up.

    ``idle_s``: the first heartbeat goes out after this time without traffic. ``interval_s``: the next ones
    follow at this interval. ``lost_max``: the connection ends when so many stayed unanswered. The defaults
    end a connection within 30 s: soon enough that a restarted peer's old connections do not pile up, and
    long enough for a network to recover from a rerouting. The kernel takes whole seconds.
    """

    idle_s: int = 15
    interval_s: int = 5
    lost_max: int = 3

    @property
    def limit_s(self) -> int:
        """A vanished peer's connection ends after this time, up to one interval more."""
        return self.idle_s + self.interval_s * self.lost_max


def start_heartbeat(sock: Any, heartbeat: Heartbeat) -> None:
    """Let the kernel check that the other end is there. Does nothing on a connection that ended already.

    ``sock``: a socket, or what a transport's ``get_extra_info("socket")`` gives. The connection then fails
    with ETIMEDOUT. TCP_USER_TIMEOUT covers data that was sent and is not acknowledged: the kernel sends no
    heartbeat while it retransmits, and would go on retransmitting for a quarter of an hour.
    """
    if sock is None:
        return
    with suppress(OSError, ValueError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, heartbeat.idle_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, heartbeat.interval_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, heartbeat.lost_max)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, heartbeat.limit_s * 1000)
