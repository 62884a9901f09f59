"""containerd's socket and version."""

import errno
import os
from pathlib import Path

import pytest

from agent.preflight.check import Status
from agent.preflight.daemon import NAME, SocketFacts, daemon, look_at_socket, mount_of
from agent.preflight.gather import Unknown
from agent.unixsocket import UnixListener

PATH = Path("/run/containerd/containerd.sock")
MOUNTS = """\
30 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
31 30 0:26 {root} {point} rw,nosuid - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("root", "point", "found"),
    [
        ("/containerd", "/run/containerd", (False, False)),
        ("/containerd/containerd.sock", str(PATH), (True, False)),
        ("/containerd/containerd.sock//deleted", str(PATH), (True, True)),
        ("/x", "/run/a\\040b", (False, False)),
    ],
)
def test_a_mounted_socket_file_is_seen_and_one_that_was_replaced(
    root: str, point: str, found: tuple[bool, bool]
) -> None:
    assert mount_of(MOUNTS.format(root=root, point=point), PATH) == found


def test_blanks_in_paths_of_mounts_are_read() -> None:
    assert mount_of(MOUNTS.format(root="/x", point="/a\\040b"), Path("/a b")) == (True, False)


@pytest.mark.parametrize(
    ("facts", "status", "words"),
    [
        ({}, Status.GOOD, str(PATH)),
        ({"mounted": True}, Status.WARN, "stale once containerd restarts"),
        ({"mounted": True, "error": errno.ECONNREFUSED}, Status.BAD, "is a stale mount"),
        ({"mounted": True, "replaced": True}, Status.BAD, "is a stale mount"),
        ({"error": errno.ECONNREFUSED}, Status.BAD, "is dead"),
        ({"error": errno.ENOENT}, Status.BAD, "there is no"),
        ({"error": errno.EACCES}, Status.BAD, "closed to this user"),
        ({"error": errno.ETIMEDOUT}, Status.BAD, "ETIMEDOUT"),
    ],
)
def test_what_is_wrong_with_the_socket_is_said_apart(
    facts: dict[str, int], status: Status, words: str
) -> None:
    check = daemon(SocketFacts(path=PATH, version="2.1.4", **facts))[0]  # type: ignore[arg-type]
    assert (check.name, check.status) == (NAME, status)
    assert words in check.detail
    assert bool(check.hint) is (status is not Status.GOOD)


@pytest.mark.parametrize(
    ("version", "status", "release"),
    [
        ("2.1.9+unknown", Status.GOOD, "2.x"),
        ("1.7.24~ds1", Status.GOOD, "1.x"),
        ("1.5.0", Status.WARN, "1.x"),
        ("odd", Status.WARN, ""),
    ],
)
def test_old_and_odd_versions_are_told(version: str, status: Status, release: str) -> None:
    facts = SocketFacts(path=PATH, version=version)
    assert daemon(facts)[1].status is status
    assert facts.release == release


def test_a_daemon_that_accepts_and_does_not_answer_is_bad() -> None:
    checks = daemon(SocketFacts(path=PATH, silence="no reply"))
    assert [check.status for check in checks] == [Status.GOOD, Status.BAD]
    assert daemon(Unknown(why="x"))[0].status is Status.BAD


def test_a_socket_is_looked_at_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "containerd.sock"
    assert look_at_socket(path, "k8s.io").error == errno.ENOENT
    listener = UnixListener(path)
    kept = tmp_path / "kept.sock"
    os.link(path, kept)
    listener.close()
    assert look_at_socket(kept, "k8s.io").error == errno.ECONNREFUSED
