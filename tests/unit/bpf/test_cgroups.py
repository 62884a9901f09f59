"""Finding cgroup v2 and containerd's own cgroup in all sorts of /proc."""

import os
from pathlib import Path

import pytest

from bpf.cgroups import (
    containerd_processes,
    find_containerds,
    find_root,
    is_whole,
    own_cgroup,
    trusted_containerds,
)
from bpf.errors import BpfMissing

V2_ONLY = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n"
HYBRID = """\
proc /proc proc rw 0 0
tmpfs /sys/fs/cgroup tmpfs ro,mode=755 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
V1_ONLY = "tmpfs /sys/fs/cgroup tmpfs ro 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    made = tmp_path / "proc"
    made.mkdir()
    (made / "uptime").write_text("1 1")  # not all there is a process
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "cgroup"
    made.mkdir()
    return made


def process(proc: Path, pid: int, comm: str, cgroup: str | None) -> None:
    """``cgroup``: the contents of its file; None for a process that is just ending."""
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "comm").write_text(f"{comm}\n")
    if cgroup is not None:
        (folder / "cgroup").write_text(cgroup)


def cgroup(root: Path, path: str) -> Path:
    made = root / path.lstrip("/")
    made.mkdir(parents=True)
    return made


# The root


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        (V2_ONLY, "/sys/fs/cgroup"),
        (HYBRID, "/sys/fs/cgroup/unified"),
        ("none /run/my\\040own\\040cgroups cgroup2 rw 0 0\n", "/run/my own cgroups"),
        ("none /run/tab\\011and\\012line cgroup2 rw 0 0\n", "/run/tab\tand\nline"),
        ("none /run/back\\134slash\\043 cgroup2 rw 0 0\n", "/run/back\\slash#"),
        ("none /run/back\\134040slash cgroup2 rw 0 0\n", "/run/back\\040slash"),
        ("cgroup2 /sys/fs/cgroup tmpfs rw 0 0\n" + V2_ONLY, "/sys/fs/cgroup"),
        ("\nbroken\n\udcff\n" + V2_ONLY, "/sys/fs/cgroup"),
    ],
)
def test_root_is_where_cgroup2_is_mounted(proc: Path, mounts: str, found: str) -> None:
    (proc / "mounts").write_bytes(mounts.encode(errors="surrogateescape"))
    assert find_root(proc) == Path(found)


@pytest.mark.parametrize("whole_first", [True, False])
def test_nodes_whole_tree_is_taken_rather_than_a_containers_own_part(
    proc: Path, root: Path, whole_first: bool
) -> None:
    part = cgroup(root, "/kubepods/pod1")
    for folder in (root, part):
        (folder / "cgroup.procs").touch()
    (part / "cgroup.events").touch()
    order = [root, part] if whole_first else [part, root]
    (proc / "mounts").write_text("".join(f"cgroup2 {folder} cgroup2 ro 0 0\n" for folder in order))
    assert find_root(proc) == root
    assert (is_whole(root), is_whole(part), is_whole(root / "nowhere")) == (True, False, False)


def test_containers_own_part_is_taken_where_there_is_nothing_else(proc: Path, root: Path) -> None:
    (root / "cgroup.procs").touch()
    (root / "cgroup.events").touch()
    (proc / "mounts").write_text(f"cgroup2 {root} cgroup2 ro 0 0\n")
    assert find_root(proc) == root


@pytest.mark.parametrize("mounts", [V1_ONLY, "", "cgroup2 /tmp/cgroup2 tmpfs rw 0 0\n", None])
def test_without_cgroup_v2_the_error_says_how_to_mount_it(proc: Path, mounts: str | None) -> None:
    if mounts is not None:
        (proc / "mounts").write_text(mounts)
    with pytest.raises(BpfMissing, match="cgroup v2 is not mounted") as raised:
        find_root(proc)
    assert "mount -t cgroup2" in raised.value.hint


def test_root_of_this_machine_has_cgroup_v2s_own_files() -> None:
    assert (find_root() / "cgroup.controllers").is_file()


# containerd's own


def test_containerd_is_found_by_its_process(proc: Path, root: Path) -> None:
    own = cgroup(root, "/system.slice/containerd.service")
    process(proc, 1, "systemd", "0::/init.scope\n")
    process(proc, 7, "containerd-shim", "0::/kubepods/pod1\n")
    process(proc, 8, "containerd", "12:cpu:/elsewhere\n0::/system.slice/containerd.service\n")
    assert find_containerds(root, proc) == (own,)


def test_containerd_is_found_by_its_unit_when_processes_are_out_of_sight(proc: Path, root: Path) -> None:
    own = cgroup(root, "/system.slice/containerd.service")
    process(proc, 1, "shorthaul", "0::/\n")
    assert find_containerds(root, proc) == (own,)


@pytest.mark.parametrize(
    "unit",
    ["k3s.service", "k3s-agent.service", "rke2-agent.service", "snap.microk8s.daemon-containerd.service"],
)
def test_units_that_have_containerd_inside_are_known(proc: Path, root: Path, unit: str) -> None:
    assert find_containerds(root, proc) == ()
    own = cgroup(root, f"/system.slice/{unit}")
    assert find_containerds(root, proc) == (own,)


def test_every_unit_that_may_have_a_containerd_is_taken_its_own_first(proc: Path, root: Path) -> None:
    other = cgroup(root, "/system.slice/k3s.service")
    own = cgroup(root, "/system.slice/containerd.service")
    assert find_containerds(root, proc) == (own, other)


def test_of_several_containerds_none_is_chosen_silently(proc: Path, root: Path) -> None:
    first = cgroup(root, "/system.slice/docker.service")
    second = cgroup(root, "/system.slice/k3s.service")
    process(proc, 7, "containerd", "0::/system.slice/docker.service\n")
    process(proc, 8, "containerd", "0::/system.slice/k3s.service\n")
    process(proc, 9, "containerd", "0::/system.slice/k3s.service\n")
    assert sorted(find_containerds(root, proc)) == [first, second]
    assert len(containerd_processes(proc)) == len(containerd_processes(proc, below=root)) == 3


def test_process_is_believed_rather_than_a_units_name(proc: Path, root: Path) -> None:
    cgroup(root, "/system.slice/containerd.service")
    own = cgroup(root, "/podruntime.slice/runtime")
    process(proc, 8, "containerd", "0::/podruntime.slice/runtime\n")
    assert find_containerds(root, proc) == (own,)


def test_process_that_ends_meanwhile_is_passed_over(proc: Path, root: Path) -> None:
    own = cgroup(root, "/system.slice/k3s.service")
    process(proc, 7, "containerd", None)
    (proc / "9").mkdir()
    process(proc, 8, "containerd", "0::/system.slice/k3s.service\n")
    assert find_containerds(root, proc) == (own,)


def test_of_several_one_with_a_cgroup_of_its_own_is_taken(proc: Path, root: Path) -> None:
    own = cgroup(root, "/system.slice/docker.service")
    process(proc, 7, "containerd", "0::/\n")
    process(proc, 8, "containerd", "0::/gone\n")
    process(proc, 9, "containerd", "0::/system.slice/docker.service\n")
    process(proc, 10, "containerd", "5:cpu:/system.slice/docker.service\n")
    assert find_containerds(root, proc) == (own,)


def test_cgroup_that_was_deleted_is_found_under_its_name_if_made_again(proc: Path, root: Path) -> None:
    process(proc, 8, "containerd", "0::/system.slice/containerd.service (deleted)\n")
    assert find_containerds(root, proc) == ()
    own = cgroup(root, "/system.slice/containerd.service")
    assert find_containerds(root, proc) == (own,)


@pytest.mark.parametrize("path", ["/..", "/../..", "/../beside", "/a/../../beside"])
def test_cgroup_outside_of_what_this_namespace_sees_is_not_taken(proc: Path, root: Path, path: str) -> None:
    """A process further up shows as /.. (cgroup_namespaces(7)); that is a folder, but no cgroup."""
    (root.parent / "beside").mkdir()
    cgroup(root, "/a")
    process(proc, 8, "containerd", f"0::{path}\n")
    assert find_containerds(root, proc) == ()


def test_without_proc_nothing_is_found(tmp_path: Path, root: Path) -> None:
    assert find_containerds(root, tmp_path / "nowhere") == ()


# Our own


def test_own_cgroup_is_that_of_this_process(proc: Path, root: Path) -> None:
    own = cgroup(root, "/user.slice/me")
    (proc / "self").mkdir()
    (proc / "self" / "cgroup").write_text("0::/user.slice/me\n")
    assert own_cgroup(root, proc) == own


@pytest.mark.parametrize("text", ["0::/gone\n", "5:cpu:/\n", "", "0::/../..\n", None])
def test_own_cgroup_that_can_not_be_seen_is_none(proc: Path, root: Path, text: str | None) -> None:
    if text is not None:
        (proc / "self").mkdir()
        (proc / "self" / "cgroup").write_text(text)
    assert own_cgroup(root, proc) is None


def test_own_cgroup_of_this_process_is_below_the_root() -> None:
    root = find_root()
    own = own_cgroup(root)
    assert own is not None
    assert own.is_relative_to(root)


# The cgroups that are trusted to be containerd's


def test_units_are_trusted_and_processes_of_the_right_users(proc: Path, root: Path) -> None:
    unit, own = cgroup(root, "system.slice/containerd.service"), cgroup(root, "lab")
    process(proc, 7, "containerd", "0::/lab\n")
    assert trusted_containerds(root, {os.getuid()}, proc) == (unit, own)
    assert trusted_containerds(root, {os.getuid() + 1}, proc) == (unit,)


@pytest.mark.parametrize(
    "place",
    [
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-5.scope",
        "kubepods/besteffort/pod1/5",
        "system.slice/docker-5.scope",
        "docker/5",
        "machine.slice/libpod-5.scope",
        "default/web",
    ],
)
def test_a_container_that_calls_its_process_containerd_is_not_trusted(
    proc: Path, root: Path, place: str
) -> None:
    cgroup(root, place)
    process(proc, 7, "containerd", f"0::/{place}\n")
    assert find_containerds(root, proc)
    assert trusted_containerds(root, {os.getuid()}, proc) == ()


def test_a_unit_of_a_user_s_own_is_not_trusted(proc: Path, root: Path) -> None:
    cgroup(root, "user.slice/user-1000.slice/containerd.service")
    assert trusted_containerds(root, {0}, proc) == ()
