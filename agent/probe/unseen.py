"""Whose socket listens where, for a process that can't see the others: one in a pod, without hostPID.

The kernel tells of each socket its user, its inode and its cgroup (`agent.sockdiag`). A cgroup's id is its
directory's inode, and its path has the systemd unit or the pod. It proves nothing: a socket keeps the cgroup
that its maker was in.
"""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from agent.sockdiag import TcpSocket, listening_sockets
from bpf.cgroups import find_root
from bpf.errors import BpfMissing

_CGROUPS_MAX = 20_000
_POD = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})")


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


def unseen(one: TcpSocket, places: dict[int, str]) -> str:
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
