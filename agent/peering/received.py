"""What crossed the network on a connection, as the kernel counts it: ``getsockopt(TCP_INFO)``.

It counts every byte that came, also those that this process never read. Source: ``struct tcp_info`` in the
kernel's include/uapi/linux/tcp.h, which only ever grows.
"""

import socket
import struct

_SIZE = 256
_BYTES_RECEIVED_AT = 128  # tcpi_bytes_received, since Linux 4.1


def received_bytes(own: socket.socket) -> int:
    """How many bytes have come on a connection. 0 if the socket is closed or is no TCP socket."""
    try:
        data = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
        return int(struct.unpack_from("=Q", data, _BYTES_RECEIVED_AT)[0])
    except (OSError, struct.error):
        return 0
