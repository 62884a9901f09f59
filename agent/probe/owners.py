"""Which process listens where, for the reason of a verdict. It proves nothing: names can be anything."""

from agent.flows.node import UNSEEN_OWNER
from bpf.events import Address, pack_ip

_NAME_MAX = 40


def find_owners() -> dict[Address, str]:
    """The processes that listen in this network namespace, by address: ``NAME (pid N)``.

    Blocks for as long as it takes to read every process's descriptors: some 50 ms on a busy node.
    """
    import psutil

    found: dict[Address, str] = {}
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError, RuntimeError):
        return found
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr:
            where = Address(pack_ip(connection.laddr.ip), connection.laddr.port)
            found[where] = UNSEEN_OWNER if connection.pid is None else _name(connection.pid)
    return found


def _name(pid: int) -> str:
    import psutil

    try:
        name = psutil.Process(pid).name()
    except psutil.Error:
        return UNSEEN_OWNER
    shown = "".join(one if one.isprintable() else "?" for one in name[:_NAME_MAX])
    return f"{shown} (pid {pid})"
