"""What the kernel knows of a TCP connection's round trips: ``getsockopt(TCP_INFO)``.

The kernel's figure has none of this process's delays. It has none of the peer's either, because the peer's
*kernel* acknowledges. Source: ``struct tcp_info`` in the kernel's include/uapi/linux/tcp.h (the layout only
ever grows); the smoothing is RFC 6298's, in net/ipv4/tcp_input.c, tcp_rtt_estimator().
"""

import socket
import struct
from dataclasses import dataclass
from typing import Any

_SIZE = 256
_WANTED = {"rtt_us": 68, "rttvar_us": 72, "retransmits": 100, "min_rtt_us": 148, "delivered": 192}
_ENOUGH = max(_WANTED.values()) + 4  # tcpi_delivered came with Linux 4.18
_NEVER = 0xFFFFFFFF  # tcpi_min_rtt before the first sample
_PRECISION_US = 7  # the kernel keeps eighths of the smoothed value, and tells whole microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpInfo:
    """Round trips of one connection in microseconds, and segments counted since it was made.

    ``rtt_us`` is smoothed over about eight samples. ``min_rtt_us`` is the least of the last 300 s. Use it on
    young connections only: for 300 s after the route became longer it is still the old value.
    """

    rtt_us: int
    rttvar_us: int
    min_rtt_us: int
    delivered: int
    retransmits: int

    @property
    def handshake_us(self) -> int | None:
        """The round trip of the handshake, kernel to kernel. Only on a connection that was just made.

        None if a segment of the handshake was sent again: the kernel then measures in milliseconds only.
        """
        return None if self.retransmits else self.min_rtt_us


def read_tcp_info(sock: Any) -> TcpInfo | None:
    """The kernel's figures. None if there is no open TCP connection, or no sample yet.

    ``sock``: a socket, or what a transport's ``get_extra_info("socket")`` gives.
    """
    if sock is None:
        return None
    try:
        data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except (OSError, ValueError, AttributeError):  # closed meanwhile
        return None
    if len(data) < _ENOUGH:
        return None
    info = TcpInfo(**{name: struct.unpack_from("=I", data, offset)[0] for name, offset in _WANTED.items()})
    return None if info.min_rtt_us == _NEVER or info.rtt_us == 0 else info


def newest_sample_us(before: TcpInfo, after: TcpInfo) -> float | None:
    """The round trip that the kernel measured between two readings. None if nothing was acknowledged.

    One acknowledged segment is one sample m. It follows from the smoothing: 8·after = 8·before - before + m.
    If there were several segments, or one was sent again (Karn's algorithm), it is the smoothed value.
    """
    arrived = after.delivered - before.delivered
    if arrived <= 0:
        return None
    if arrived > 1 or after.retransmits != before.retransmits:
        return float(after.rtt_us)
    sample_us = 8 * (after.rtt_us - before.rtt_us) + before.rtt_us
    return float(max(sample_us, min(after.min_rtt_us, after.rtt_us), _PRECISION_US))
