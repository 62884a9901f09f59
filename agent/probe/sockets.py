"""What the kernel knows about a socket: its cookie, its network namespace, and who is at the other end."""

import socket
import struct
from collections.abc import Callable
from pathlib import Path

_SO_COOKIE = 57
_SO_NETNS_COOKIE = 71
_OPTMEM_DEFAULT = 20_480  # the least that any kernel starts with


def socket_cookie(sock: socket.socket) -> int:
    """The number that identifies a socket, also in eBPF programs (SO_COOKIE)."""
    cookie: int = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))[0]
    return cookie


def netns_cookie() -> int:
    """The number that identifies this process's network namespace (SO_NETNS_COOKIE, Linux 5.14)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return socket_netns(probe)


def own_netns(ask: Callable[[], int] = netns_cookie) -> int:
    """The number of this process's network namespace. 0: this kernel has none."""
    try:
        return ask()
    except OSError:
        return 0


def socket_netns(sock: socket.socket) -> int:
    """The number that identifies a socket's network namespace (SO_NETNS_COOKIE, Linux 5.14)."""
    cookie: int = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0]
    return cookie


def peer_uid(sock: socket.socket) -> int:
    """The user id of the process at the other end of a Unix socket (SO_PEERCRED)."""
    uid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    return uid


def options_memory() -> int:
    """How many bytes a socket may use for its options and its storage (net.core.optmem_max)."""
    try:
        return int(Path("/proc/sys/net/core/optmem_max").read_text())
    except (OSError, ValueError):
        return _OPTMEM_DEFAULT
