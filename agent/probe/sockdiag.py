"""Whose socket listens where, for a process that can't see the others: one in a pod, without hostPID.

The kernel tells of each socket its user, its inode and its cgroup (sock_diag(7), INET_DIAG_CGROUP_ID, Linux
5.9). A cgroup's id is its directory's inode, and its path has the systemd unit or the pod. It proves nothing:
a socket keeps the cgroup that its maker was in.
"""

import os
import re
import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from bpf.cgroups import find_root
from bpf.errors import BpfMissing

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST, _DUMP = 1, 0x300
_DONE, _ERROR = 3, 2
_LISTEN = 1 << 10  # TCP_LISTEN as a bit
_CGROUP_ID = 21
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_QUESTION = struct.Struct("=BBBxI48x")  # inet_diag_req_v2
_ANSWER = struct.Struct("=BBBB2s2s16s16sI8xIIIII")  # inet_diag_msg
_ATTRIBUTE = struct.Struct("=HH")
_PART_BYTES = 1 << 16
_TIMEOUT_S = 2.0
_CGROUPS_MAX = 20_000
_POD = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningSocket:
    """A listening TCP socket of this network namespace. ``cgroup``: 0 if the kernel does not tell."""

    host: str
    port: int
    uid: int
    inode: int
    cgroup: int = 0


def listening_sockets() -> list[ListeningSocket]:
    """All of them. Raises OSError if the kernel does not answer."""
    return [*_dump(socket.AF_INET), *_dump(socket.AF_INET6)]


def unseen_owners() -> dict[int, str]:
    """Who owns each listening socket, in words, by the socket's inode. Empty if the kernel does not tell."""
    try:
        found = listening_sockets()
    except OSError:
        return {}
    places = cgroup_paths({one.cgroup for one in found})
    return {one.inode: unseen(one, places) for one in found}


def unseen_listeners(port: int) -> dict[str, str]:
    """Who listens on a port, in words, by the address. Raises OSError if the kernel does not tell."""
    found = [one for one in listening_sockets() if one.port == port]
    places = cgroup_paths({one.cgroup for one in found})
    return {one.host.removeprefix("::ffff:"): unseen(one, places) for one in found}


def unseen(one: ListeningSocket, places: dict[int, str]) -> str:
    """A socket's owner in words. ``places``: the paths of cgroups, by their ids."""
    who = f"a process of user {one.uid} that can't be seen from here"
    if not one.cgroup:
        return who
    place = places.get(one.cgroup)
    if place is None:
        return f"{who}, in the cgroup that `find /sys/fs/cgroup -inum {one.cgroup}` shows on the node"
    pod = _POD.search(place)
    if pod is not None:
        return f"{who}, in the pod with the uid {pod[1].replace('_', '-')}"
    return f"{who}, in {place or 'the root cgroup'}"


def cgroup_paths(ids: Collection[int], root: Path | None = None) -> dict[int, str]:
    """The paths below the root of the cgroups with these ids, as far as they can be seen from here."""
    try:
        root = root or find_root()
    except BpfMissing:
        return {}
    left, found = {*ids} - {0}, {}
    for number, folder in enumerate(_folders(root)):
        if not left or number >= _CGROUPS_MAX:
            break
        with suppress(OSError):
            inode = folder.stat().st_ino
            if inode in left:
                left.discard(inode)
                shown = str(folder.relative_to(root))
                found[inode] = "" if shown == "." else shown[:200]
    return found


def _folders(root: Path) -> Iterator[Path]:
    yield root
    for parent, names, _ in os.walk(root):
        for name in names:
            yield Path(parent, name)


def _dump(family: int) -> Iterator[ListeningSocket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_TIMEOUT_S)
        question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, _LISTEN)
        header = _HEADER.pack(_HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, _REQUEST | _DUMP, 1, 0)
        netlink.send(header + question)
        while True:
            part = netlink.recv(_PART_BYTES)
            while part:
                length, kind, *_ = _HEADER.unpack_from(part)
                if kind == _DONE:
                    return
                if kind == _ERROR or length < _HEADER.size:
                    raise OSError(f"sock_diag: error {part[16:20].hex()}")
                yield _read(part[_HEADER.size : length])
                part = part[(length + 3) & ~3 :]


def _read(message: bytes) -> ListeningSocket:
    family, _, _, _, port, _, source, *_rest, uid, inode = _ANSWER.unpack_from(message)
    ip = source[:4] if family == socket.AF_INET else source
    cgroup, at = 0, _ANSWER.size
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _CGROUP_ID and length >= _ATTRIBUTE.size + 8:
            cgroup = struct.unpack_from("=Q", message, at + _ATTRIBUTE.size)[0]
        at += max((length + 3) & ~3, _ATTRIBUTE.size)
    return ListeningSocket(
        host=str(ip_address(ip)), port=int.from_bytes(port, "big"), uid=uid, inode=inode, cgroup=cgroup
    )
