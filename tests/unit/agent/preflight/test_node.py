"""What is said of a node whose /proc and /sys are made up."""

from pathlib import Path

import pytest

from agent.preflight import Check, PreflightTarget, Status
from agent.preflight.check import shown
from agent.preflight.node import (
    btf,
    capabilities,
    cgroup2,
    containerd_cgroup,
    kernel,
    lockdown,
    network_namespace,
    tracefs,
)
from tests.unit.agent.preflight.samples import JUNK, place


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("6.18.44-fc", Status.GOOD),
        ("6.15.0", Status.GOOD),
        ("10.0-rc1", Status.GOOD),
        ("6.12.0-amd64", Status.WARN),
        ("5.15.0-105-generic", Status.WARN),
        ("5.14.0-427.el9.x86_64", Status.BAD),
        ("4.18.0", Status.BAD),
        ("", Status.WARN),
        ("6", Status.WARN),
        (JUNK, Status.WARN),
        (b"9" * 3_000_000, Status.WARN),
    ],
)
def test_old_kernels_are_named(tmp_path: Path, release: str | bytes, status: Status) -> None:
    place(tmp_path, "sys/kernel/osrelease", release)
    check = kernel(PreflightTarget(proc=tmp_path))
    assert check.status is status
    assert (status is Status.GOOD) == (not check.hint)
    assert check.detail.isprintable()
    assert len(check.detail) < 300


def test_btf_may_be_absent(tmp_path: Path) -> None:
    assert btf(PreflightTarget(sys=tmp_path)).status is Status.WARN
    place(tmp_path, "kernel/btf/vmlinux", b"\x9f\xeb")
    assert btf(PreflightTarget(sys=tmp_path)).status is Status.GOOD


def test_cgroup_v2_is_found_in_hybrid_mode_and_missed_with_a_remedy(tmp_path: Path) -> None:
    root = tmp_path / "unified"
    place(root, "cgroup.procs", "")
    place(tmp_path, "mounts", f"cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 {root} cgroup2 rw 0 0\n")
    check, found = cgroup2(PreflightTarget(proc=tmp_path))
    assert (check.status, found) == (Status.GOOD, root)
    place(root, "cgroup.events", "populated 1")
    check, found = cgroup2(PreflightTarget(proc=tmp_path))
    assert (check.status, found) == (Status.WARN, root)
    assert "not the root" in check.detail
    for mounts in (
        "",
        "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n",
        JUNK,
        f"a {tmp_path}/none cgroup2 rw 0 0",
    ):
        place(tmp_path, "mounts", mounts)
        check, found = cgroup2(PreflightTarget(proc=tmp_path))
        assert (check.status, found) == (Status.BAD, None)
        assert "mount -t cgroup2" in check.hint
    assert cgroup2(PreflightTarget(proc=tmp_path / "none"))[0].status is Status.BAD
    assert cgroup2(PreflightTarget(proc=tmp_path, cgroup=tmp_path))[0].status is Status.BAD


def test_containerds_cgroup_is_found_or_its_want_explained(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    root.mkdir()
    target = PreflightTarget(proc=tmp_path / "proc")
    for where in (None, root):
        check = containerd_cgroup(target, where)
        assert check.status is Status.WARN
        assert "after other programs" in check.detail
    place(root, "system.slice/containerd.service/cgroup.procs", "")
    own = root / "system.slice/containerd.service"
    place(target.proc, "7/comm", "containerd\n")
    place(target.proc, "7/cgroup", "0::/system.slice/containerd.service\n")
    assert containerd_cgroup(target, root) == Check(
        name="containerd's cgroup", status=Status.GOOD, detail=shown(str(own))
    )
    place(target.proc, "7/comm", JUNK)
    containerd_cgroup(target, root)
    assert containerd_cgroup(PreflightTarget(containerd_cgroup=own), root).status is Status.GOOD
    assert containerd_cgroup(PreflightTarget(containerd_cgroup=tmp_path), root).status is Status.WARN


def test_tracefs_is_not_needed(tmp_path: Path) -> None:
    assert "not mounted; shorthaul does not need it" in tracefs(PreflightTarget(proc=tmp_path)).detail
    place(tmp_path, "mounts", "tracefs /sys/kernel/tracing tracefs rw 0 0\n")
    check = tracefs(PreflightTarget(proc=tmp_path))
    assert (check.status, check.detail) == (Status.GOOD, "at /sys/kernel/tracing; shorthaul does not need it")


@pytest.mark.parametrize(
    ("effective", "uid", "status", "words"),
    [
        ("000001ffffffffff", 0, Status.GOOD, "SYS_ADMIN"),
        ("0000000000200000", 0, Status.GOOD, "SYS_ADMIN"),
        ("0000008000001000", 0, Status.GOOD, "BPF, NET_ADMIN"),
        ("0000008000000000", 0, Status.BAD, "lacks NET_ADMIN"),
        ("0000000000001000", 0, Status.BAD, "lacks BPF"),
        ("0000000000000000", 1000, Status.BAD, "lacks BPF and NET_ADMIN"),
        ("nonsense", 0, Status.WARN, "can't be read"),
    ],
)
def test_capabilities(tmp_path: Path, effective: str, uid: int, status: Status, words: str) -> None:
    place(tmp_path, "self/status", f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{effective}\n")
    place(tmp_path, "self/uid_map", "         0          0 4294967295\n")
    check = capabilities(PreflightTarget(proc=tmp_path))
    assert check.status is status
    assert words in check.detail
    if status is Status.BAD:
        assert "securityContext.capabilities.add: [BPF, NET_ADMIN]" in check.hint
        assert ("runAsUser: 0" in check.hint) == (uid != 0)


def test_capabilities_of_a_user_namespace_do_not_count(tmp_path: Path) -> None:
    place(tmp_path, "self/status", "CapEff:\t000001ffffffffff\n")
    place(tmp_path, "self/uid_map", "0 100000 65536\n")
    check = capabilities(PreflightTarget(proc=tmp_path))
    assert check.status is Status.BAD
    assert "user namespace" in check.detail


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]\n", "the programs read none"),
        (JUNK, "not shown"),
        (None, "not shown"),
    ],
)
def test_no_lockdown_stands_in_the_way(tmp_path: Path, text: str | bytes | None, words: str) -> None:
    if text is not None:
        place(tmp_path, "kernel/security/lockdown", text)
    check = lockdown(PreflightTarget(sys=tmp_path))
    assert check.status is Status.GOOD
    assert words in check.detail


# Namespaces


def process(proc: Path, pid: str, comm: str, netns: str, cgroup: str = "0::/runtime\n") -> None:
    place(proc, f"{pid}/comm", f"{comm}\n")
    place(proc, f"{pid}/cgroup", cgroup)
    (proc / pid / "ns").mkdir()
    (proc / pid / "ns/net").symlink_to(netns)


@pytest.mark.parametrize(
    ("containerds", "status", "words"),
    [
        (["net:[1]"], Status.GOOD, "the same as containerd's"),
        (["net:[1]", "net:[2]"], Status.GOOD, "another containerd's is net:[2]"),
        ([], Status.GOOD, "can't be seen"),
        (["net:[2]"], Status.BAD, "containerd's is net:[2]"),
    ],
)
def test_namespace_that_is_not_containerds_is_bad(
    tmp_path: Path, containerds: list[str], status: Status, words: str
) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (root / "runtime").mkdir(parents=True)
    process(proc, "self", "shorthaul", "net:[1]")
    for pid, netns in enumerate(containerds, 10):
        process(proc, str(pid), "containerd", netns)
    check = network_namespace(PreflightTarget(proc=proc), root)
    assert (check.status, words in check.detail) == (status, True)
    assert bool(check.hint) == (status is Status.BAD)


def test_several_containerds_are_all_named(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    for number, name in enumerate(("docker", "k3s"), 10):
        (root / name).mkdir(parents=True)
        process(proc, str(number), "containerd", "net:[1]", f"0::/{name}\n")
    check = containerd_cgroup(PreflightTarget(proc=proc), root)
    assert check.status is Status.WARN
    assert check.detail.startswith("several containerds: ")
    assert len(check.detail.split(", ")) == 2
    assert "probe.containerd_cgroup" in check.hint
