"""Which process listens where, for the reason of a verdict. It proves nothing: names can be anything."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from agent.flows.node import UNSEEN_OWNER
from agent.probe.unseen import unseen_owners
from bpf.events import Address, pack_ip

_NAME_MAX = 40
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"


def find_owners() -> dict[Address, str]:
    """The processes that listen in this network namespace, by address: ``NAME (pid N)``.

    Blocks for as long as it takes to read every process's descriptors: some 50 ms on a busy node. Keeps
    listeners only: a flood leaves tens of thousands of other lines, and a list of them took 18 MiB.
    """
    listening = dict(_listening())
    pids = _pids(set(listening))
    unseen = {} if len(pids) == len(listening) else unseen_owners()
    return {
        where: _name(pids[inode]) if inode in pids else unseen.get(int(inode), UNSEEN_OWNER)
        for inode, where in listening.items()
    }


def _listening() -> Iterator[tuple[str, Address]]:
    """Where each listening socket is, by its inode."""
    for table in _TABLES:
        with suppress(OSError), table.open(encoding="ascii") as lines:  # without IPv6 there is only one
            for line in lines:
                words = line.split(maxsplit=10)
                if words[3] == _LISTEN:
                    yield words[9], _address(words[1])


def _address(shown: str) -> Address:
    """``0100007F:7544``: the address is 32-bit numbers of this machine's byte order."""
    ip, _, port = shown.partition(":")
    numbers = (int(ip[start : start + 8], 16) for start in range(0, len(ip), 8))
    packed = b"".join(one.to_bytes(4, sys.byteorder) for one in numbers)
    return Address(pack_ip(str(ip_address(packed))), int(port, 16))


def _pids(inodes: set[str]) -> dict[str, int]:
    """The first process that has each of these sockets, of the processes that can be seen."""
    found: dict[str, int] = {}
    left = {f"socket:[{inode}]": inode for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            for link in _descriptors(process):
                if link in left:
                    found[left.pop(link)] = int(process.name)
        if not left:
            break
    return found


def _descriptors(process: Path) -> Iterator[str]:
    """What a process's descriptors are. None if they can't be read, or it ended."""
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                yield str(descriptor.readlink())


def _name(pid: int) -> str:
    import psutil

    try:
        name = psutil.Process(pid).name()
    except psutil.Error:
        return UNSEEN_OWNER
    shown = "".join(one if one.isprintable() else "?" for one in name[:_NAME_MAX])
    return f"{shown} (pid {pid})"
