"""Which process has a port, for the error that it is taken. In words, because it proves nothing."""

from collections.abc import Iterator

from agent.config import Endpoint
from agent.probe.unseen import cgroup_paths, unseen
from agent.sockdiag import TcpSocket, listening_sockets

_WILDCARDS = {"0.0.0.0", "::"}
_UNKNOWN = "a process that this user can't see (as root: ss -ltnp)"


def owner_of(endpoint: Endpoint) -> str:
    """The process that has this port, as ``NAME (pid N: COMMAND)``.

    If it can't be seen from here (in a pod without hostPID), its user and its unit or pod.
    """
    return next(_visible(endpoint), None) or next(_hidden(endpoint), None) or _UNKNOWN


def _visible(endpoint: Endpoint) -> Iterator[str]:
    import psutil

    # A bound socket that does not listen yet takes the port as well.
    taking = (psutil.CONN_LISTEN, psutil.CONN_NONE, psutil.CONN_CLOSE)
    try:
        for connection in psutil.net_connections(kind="tcp"):
            taken = connection.laddr
            if not taken or not connection.pid or connection.status not in taking:
                continue
            if _meets(taken.ip, taken.port, endpoint):
                process = psutil.Process(connection.pid)
                yield f"{process.name()} (pid {connection.pid}: {' '.join(process.cmdline())[:120]})"
    except (psutil.Error, OSError):
        return


def _hidden(endpoint: Endpoint) -> Iterator[str]:
    try:
        found: list[TcpSocket] = listening_sockets()
    except OSError:
        return
    for one in found:
        if _meets(one.host, one.port, endpoint):
            yield unseen(one, cgroup_paths({one.cgroup}))


def _meets(host: str, port: int, endpoint: Endpoint) -> bool:
    """Whether a socket at this address keeps others from listening at the endpoint."""
    host = host.removeprefix("::ffff:")
    return port == endpoint.port and (
        host == endpoint.host or host in _WILDCARDS or endpoint.host in _WILDCARDS
    )
