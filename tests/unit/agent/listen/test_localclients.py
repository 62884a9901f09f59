"""Who made a local client's socket, and whether that admits it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.listen.caller import Maker
from agent.listen.localclients import ContainerdCgroups, LocalClients, unmapped_user
from agent.observe.refusals import Reason
from agent.sockdiag import SocketAsker, SocketUnknown, TcpSocket
from tests.unit.twins import REPOSITORY_ROOT

CLIENT, LISTENER = ("127.0.0.1", 40000), ("127.0.0.1", 30020)
OWN = 990


class Kernel(SocketAsker):
    """A kernel that tells what it is told."""

    def __init__(self, *, uid: int = 0, cgroup: int = 7, fails: SocketUnknown | None = None) -> None:
        super().__init__()
        self.uid, self.cgroup, self.fails, self.asked = uid, cgroup, fails, 0

    def at(self, own: tuple[str, int], other: tuple[str, int]) -> TcpSocket:
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return TcpSocket(host=own[0], port=own[1], uid=self.uid, inode=1, cgroup=self.cgroup)


def clients(
    callers: str,
    kernel: SocketAsker | None = None,
    *,
    cgroups: ContainerdCgroups | None = None,
    nobody: int = -1,
) -> LocalClients:
    found = cgroups or ContainerdCgroups(search=tuple)
    return LocalClients(callers, asker=kernel, cgroups=found, users={0, OWN}, nobody=nobody)


def refusal(known: LocalClients) -> Reason | None:
    """Of a client that connects now."""
    return asyncio.run(known.refusal(known.maker(CLIENT, LISTENER) if known.asks else None))


@pytest.mark.parametrize(
    ("callers", "uid", "refused"),
    [
        ("any", 1000, None),
        ("root", 0, None),
        ("root", OWN, None),
        ("root", 1000, Reason.USER),
        ("root", 65534, Reason.USER),
        ("containerd", 1000, Reason.USER),
    ],
)
def test_the_user_of_the_socket_decides(callers: str, uid: int, refused: Reason | None) -> None:
    assert refusal(clients(callers, Kernel(uid=uid))) is refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "containerd.service"
    made.mkdir()
    return made


def test_only_containerds_cgroup_is_admitted_where_the_settings_say_so(folder: Path) -> None:
    cgroups = ContainerdCgroups(folder)
    assert refusal(clients("containerd", Kernel(cgroup=folder.stat().st_ino), cgroups=cgroups)) is None
    assert refusal(clients("containerd", Kernel(cgroup=5), cgroups=cgroups)) is Reason.CGROUP
    assert refusal(clients("root", Kernel(cgroup=5), cgroups=cgroups)) is None


def test_containerd_that_restarted_in_a_new_cgroup_is_admitted_by_its_first_connection(
    tmp_path: Path,
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    now = [old]
    cgroups = ContainerdCgroups(search=lambda: tuple(now), again_s=0.1)
    kernel = Kernel(cgroup=old.stat().st_ino)
    known = clients("containerd", kernel, cgroups=cgroups)
    assert refusal(known) is None
    now[:] = [new]
    kernel.cgroup = new.stat().st_ino
    assert refusal(known) is None
    kernel.cgroup = old.stat().st_ino
    assert refusal(known) is Reason.CGROUP


def test_a_thousand_strangers_at_once_make_one_search_for_containerd() -> None:
    searches = []
    cgroups = ContainerdCgroups(search=lambda: searches.append(1) or ())  # type: ignore[func-returns-value]
    known = clients("containerd", Kernel(cgroup=5), cgroups=cgroups)

    async def all_of_them() -> list[Reason | None]:
        maker = known.maker(CLIENT, LISTENER)
        return await asyncio.gather(*(known.refusal(maker) for _ in range(1000)))

    assert set(asyncio.run(all_of_them())) == {Reason.CGROUP}
    assert len(searches) == 1


@pytest.mark.parametrize("callers", ["root", "containerd"])
@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (SocketUnknown("it was closed", gone=True), Reason.CLOSED),
        (SocketUnknown("Operation not permitted", gone=False), Reason.UNKNOWN),
    ],
)
def test_whoever_the_kernel_does_not_tell_is_not_admitted(
    callers: str, error: SocketUnknown, refused: Reason
) -> None:
    assert refusal(clients(callers, Kernel(fails=error))) is refused
    assert refusal(clients("any", Kernel(fails=error))) is None


def test_a_client_that_left_is_no_trouble_of_the_agent() -> None:
    known = clients("root", Kernel(fails=SocketUnknown("it was closed", gone=True)))
    known.maker(CLIENT, LISTENER)
    assert known.problem is None


def test_a_kernel_that_tells_nothing_is_reported_with_the_way_out_until_it_tells() -> None:
    kernel = Kernel(fails=SocketUnknown("Operation not permitted", gone=False))
    known = clients("root", kernel)
    known.begin("127.0.0.1")
    assert "Operation not permitted" in (known.problem or "")
    assert "inet_diag" in known.hint
    kernel.fails = None
    known.maker(CLIENT, LISTENER)
    assert known.problem is None


def test_a_kernel_without_cgroups_is_reported_where_they_are_needed(folder: Path) -> None:
    known = clients("containerd", Kernel(cgroup=0), cgroups=ContainerdCgroups(folder))
    known.begin("127.0.0.1")
    assert "does not tell a socket's cgroup" in (known.problem or "")
    assert refusal(known) is Reason.UNKNOWN
    root = clients("root", Kernel(cgroup=0))
    root.begin("127.0.0.1")
    assert root.problem is None


def test_a_node_without_a_containerd_is_reported() -> None:
    known = clients("containerd", Kernel())
    known.begin("127.0.0.1")
    assert "containerd's cgroup was not found" in (known.problem or "")
    assert "probe.containerd_cgroup" in known.hint


@pytest.mark.parametrize("callers", ["root", "containerd"])
def test_in_a_pod_with_a_network_of_its_own_only_the_token_counts(callers: str) -> None:
    known = clients(callers)
    assert not known.asks
    assert refusal(known) is Reason.UNKNOWN
    assert "not on this network namespace" in (known.problem or "")
    assert "--pod-network" in known.hint


def test_a_user_without_a_number_here_is_not_taken_for_the_agents_own() -> None:
    known = LocalClients(
        "root",
        asker=Kernel(uid=65534),
        cgroups=ContainerdCgroups(search=tuple),
        users={0, 65534},
        nobody=65534,
    )
    assert refusal(known) is Reason.UNKNOWN
    known.begin("127.0.0.1")
    assert "user namespace" in (known.problem or "")


def test_the_kernel_is_not_asked_where_all_are_answered() -> None:
    kernel = Kernel()
    known = clients("any", kernel)
    assert not known.asks
    known.begin("127.0.0.1")
    assert (kernel.asked, known.problem) == (0, None)


def test_the_real_kernel_tells_this_process_at_the_start() -> None:
    asker = SocketAsker()
    known = clients("root", asker)
    known.begin("127.0.0.1")
    known.begin("::1")
    assert known.problem is None
    assert known.maker(CLIENT, LISTENER) is Reason.CLOSED  # there is no such socket
    asker.close()


def test_another_user_namespace_shows_its_users_as_nobody() -> None:
    assert unmapped_user() == -1
    shown = "from agent.listen.localclients import unmapped_user; print(unmapped_user())"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", shown],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY_ROOT,
    )
    assert int(done.stdout) == int(Path("/proc/sys/kernel/overflowuid").read_text())


def test_own_user_counts_as_root() -> None:
    known = LocalClients("root", asker=Kernel(uid=os.geteuid()), cgroups=ContainerdCgroups(search=tuple))
    assert refusal(known) is None
    assert isinstance(known.maker(CLIENT, LISTENER), Maker)


def test_strangers_that_spend_the_searches_do_not_have_a_restarted_containerd_refused(tmp_path: Path) -> None:
    found: list[Path] = []
    inode = tmp_path.stat().st_ino
    known = clients(
        "containerd", Kernel(), cgroups=ContainerdCgroups(search=lambda: tuple(found), again_s=0.1)
    )

    async def one_after_the_other() -> tuple[Reason | None, Reason | None]:
        stranger = await known.refusal(Maker(uid=0, cgroup=5))
        found.append(tmp_path)
        return stranger, await known.refusal(Maker(uid=0, cgroup=inode))

    assert asyncio.run(one_after_the_other()) == (Reason.CGROUP, None)
