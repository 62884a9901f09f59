"""Opens listening sockets. If a port is taken, the error names the process that has it."""

import errno
import socket
import struct
from collections.abc import Iterable
from ipaddress import ip_address

from agent.config import Endpoint
from agent.probe.sockets import netns_cookie, socket_netns

_INFO_BYTES, _UNACKED_AT = 28, 24  # of struct tcp_info (linux/tcp.h)

BACKLOG = 1024
"""How many connections may wait to be accepted. A burst beyond that loses its SYNs, each for a second."""


class ListenError(Exception):
    """A listener can't be opened. ``hint``: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class ListenErrors(Exception):
    """Every listener that can't be opened."""

    def __init__(self, errors: list[ListenError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors

    @property
    def of_agents(self) -> bool:
        """Whether each port may be another agent's, as far as its owner can be seen."""
        words = ("shorthaul", "can't be seen", "can't see")
        return all(any(word in str(error) for word in words) for error in self.errors)


def open_listener(name: str, endpoint: Endpoint) -> socket.socket:
    """A listening, non-blocking TCP socket. Raises `ListenError`.

    An IPv6 socket is v6-only: a listener answers exactly the address that it is configured for.
    """
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((endpoint.host, endpoint.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _explain(name, endpoint, error) from error
    listener.setblocking(False)
    return listener


def listens_at(listener: socket.socket, endpoint: Endpoint) -> bool:
    """Whether a socket that another process gave is a listening TCP socket for just this endpoint, in this
    process's network namespace.
    """
    try:
        is_tcp = listener.family in (socket.AF_INET, socket.AF_INET6) and listener.type == socket.SOCK_STREAM
        if not is_tcp or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        host, port = listener.getsockname()[:2]
        same = ip_address(host) == ip_address(endpoint.host) and port == endpoint.port
        return same and _is_here(listener)
    except (OSError, ValueError):
        return False


def _is_here(listener: socket.socket) -> bool:
    """Whether a socket is of this process's network namespace. True where the kernel does not tell."""
    try:
        return socket_netns(listener) == netns_cookie()
    except OSError:
        return True  # before Linux 5.14


def inherited(sockets: Iterable[socket.socket], endpoint: Endpoint) -> socket.socket | None:
    """The one of these sockets that listens at this endpoint, ready to accept. None if none does."""
    for listener in sockets:
        if listens_at(listener, endpoint):
            listener.setblocking(False)
            listener.listen(BACKLOG)  # another release may have another backlog
            return listener
    return None


def accepted_now(listener: socket.socket) -> list[socket.socket]:
    """Accept all connections that wait. The socket must not block."""
    found: list[socket.socket] = []
    while True:
        try:
            connection, _ = listener.accept()
        except ConnectionAbortedError:
            continue
        except OSError:  # none is left, or no descriptor
            return found
        connection.setblocking(False)
        found.append(connection)


def waiting_connections(listener: socket.socket) -> int:
    """How many connections wait to be accepted (``tcpi_unacked`` of a listening socket, tcp(7)).

    Raises OSError if it does not listen.
    """
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError(errno.EINVAL, "the socket does not listen any more")
    if listener.family == socket.AF_UNIX:
        return 0
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    waiting: int = struct.unpack_from("=I", info, _UNACKED_AT)[0]
    return waiting


def _explain(name: str, endpoint: Endpoint, error: OSError) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        # Few agents ever need it, and it would stay in the memory of all.
        from agent.listen.owners import owner_of

        return ListenError(
            f"listen.{name}: {endpoint} is taken by {owner_of(endpoint)}",
            f"stop that process, or give this listener another port with --set listen.{name}=IP:PORT",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ListenError(
            f"listen.{name}: {endpoint.host} is no address of this machine",
            "set node.address to one that `ip addr` shows",
        )
    if error.errno == errno.EACCES:
        return ListenError(f"listen.{name}: {endpoint}: no permission", "choose a port above 1023")
    return ListenError(f"listen.{name}: {endpoint}: {error.strerror}", "see `ip addr` and `ss -ltnp`")
