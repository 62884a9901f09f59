"""Opens listening sockets. If a port is taken, the error names the process that has it."""

import errno
import socket

from agent.config import Endpoint

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


def _explain(name: str, endpoint: Endpoint, error: OSError) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return ListenError(
            f"listen.{name}: {endpoint} is taken by {_owner(endpoint)}",
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


def _owner(endpoint: Endpoint) -> str:
    """The process that listens there, as ``NAME (pid N)``."""
    import psutil

    wildcards = {"0.0.0.0", "::"}
    # A bound socket that does not listen yet takes the port as well.
    taking = (psutil.CONN_LISTEN, psutil.CONN_NONE, psutil.CONN_CLOSE)
    try:
        for connection in psutil.net_connections(kind="tcp"):
            taken = connection.laddr
            if not taken or taken.port != endpoint.port or connection.status not in taking:
                continue
            host = taken.ip.removeprefix("::ffff:")
            meets = host == endpoint.host or host in wildcards or endpoint.host in wildcards
            if meets and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {connection.pid}: {' '.join(process.cmdline())[:120]})"
    except psutil.Error:
        pass
    return "a process that this user can't see (as root: ss -ltnp)"
