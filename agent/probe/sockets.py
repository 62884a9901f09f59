"""What the kernel knows about a socket: its cookie, its network namespace, and who is at the other end."""

import socket
import struct

_SO_COOKIE = 57
_SO_NETNS_COOKIE = 71


def socket_cookie(sock: socket.socket) -> int:
    """The number that identifies a socket, also in eBPF programs (SO_COOKIE)."""
    cookie: int = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))[0]
    return cookie


def netns_cookie() -> int:
    """The number that identifies this process's network namespace (SO_NETNS_COOKIE, Linux 5.14)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        cookie: int = struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0]
        return cookie


def peer_uid(sock: socket.socket) -> int:
    """The user id of the process at the other end of a Unix socket (SO_PEERCRED)."""
    uid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    return uid
