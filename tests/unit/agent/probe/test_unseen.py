"""Whose socket listens where, for a process that can't see the others."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.probe.unseen import cgroup_paths, unseen, unseen_listeners, unseen_owners
from agent.sockdiag import TcpSocket
from benchmarks.lab.cgroups import make_cgroup, remove_cgroup
from bpf.cgroups import find_root

_LISTENS = """
import os, socket, sys
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
os.setuid(65534)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], os.fstat(listener.fileno()).st_ino, flush=True)
sys.stdin.read()
"""


@contextmanager
def stranger(cgroup: Path) -> Iterator[tuple[int, int]]:
    """A listener of another user in a cgroup: its port and its inode."""
    process = subprocess.Popen(
        [sys.executable, "-c", _LISTENS, str(cgroup)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port, inode = process.stdout.readline().split()
        yield int(port), int(inode)
    finally:
        process.communicate("")


def test_the_cgroup_of_a_socket_tells_the_unit_that_made_it() -> None:
    cgroup = make_cgroup(f"shprobe-{os.getpid()}-owner.service")
    try:
        with stranger(cgroup) as (_, inode):
            said = unseen_owners()[inode]
    finally:
        remove_cgroup(cgroup)
    assert said == f"a process of user 65534 that can't be seen from here, in {cgroup.name}"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("system.slice/nginx.service", "in system.slice/nginx.service"),
        ("", "in the root cgroup"),
        (None, "`find /sys/fs/cgroup -inum 7`"),
        (
            "kubepods.slice/kubepods-pod0a1b2c3d_0000_1111_2222_333344445555.slice/cri-containerd-1.scope",
            "in the pod with the uid 0a1b2c3d-0000-1111-2222-333344445555",
        ),
        (
            "kubepods/burstable/pod0a1b2c3d-0000-1111-2222-333344445555/1",
            "in the pod with the uid 0a1b2c3d-0000-1111-2222-333344445555",
        ),
    ],
)
def test_an_owner_in_words_has_its_unit_or_its_pod(place: str | None, said: str) -> None:
    one = TcpSocket(host="127.0.0.1", port=1, uid=33, inode=5, cgroup=7)
    words = unseen(one, {} if place is None else {7: place})
    assert words.startswith("a process of user 33 that can't be seen from here")
    assert said in words


def test_a_kernel_that_tells_no_cgroup_leaves_the_user() -> None:
    one = TcpSocket(host="127.0.0.1", port=1, uid=33, inode=5)
    assert unseen(one, {}) == "a process of user 33 that can't be seen from here"


def test_cgroups_are_found_by_their_ids(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    ids = {(tmp_path / "a" / "b").stat().st_ino, tmp_path.stat().st_ino, 1 << 60}
    found = cgroup_paths(ids, tmp_path)
    assert sorted(found.values()) == ["", "a/b"]
    assert find_root().stat().st_ino in cgroup_paths({find_root().stat().st_ino})


def test_listeners_on_a_port_have_an_owner_in_words_by_their_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = unseen_listeners(server.getsockname()[1])
    assert found.keys() == {"127.0.0.1"}
    assert found["127.0.0.1"].startswith("a process of user ")
