"""Checks whether the kernel and this process's rights allow the probe's programs.

Source of the kernel versions: the commits of the BPF helpers. bpf_get_netns_cookie came to sock_ops in 5.15
(6cf1770d63dd) and to cgroup_skb in 6.15 (c221d3744ad3). Everything else that the programs use is older.
"""

import re
from pathlib import Path

from agent.preflight.check import Check, PreflightTarget, bad, good, listed, shown, warn
from agent.preflight.reading import read_file
from bpf import cgroups
from bpf.errors import BpfError

NETWORK_NAMESPACE = "network namespace"
"""The check that says whether a proof from here is about containerd."""

_NEEDED = (5, 15)
_NETNS_OF_PACKETS = (6, 15)
_NET_ADMIN, _SYS_ADMIN, _BPF = 1 << 12, 1 << 21, 1 << 39  # linux/capability.h
_IN_A_POD = "in a pod: a hostPath volume of /sys/fs/cgroup"
_SECURITY_CONTEXT = "securityContext.capabilities.add: [BPF, NET_ADMIN]"


def kernel(target: PreflightTarget) -> Check:
    """Check the kernel's release, and say what an old one lacks."""
    found = read_file(target.proc / "sys/kernel/osrelease")
    release = shown(found.text, 60)
    version = kernel_version(found.text)
    if version is None:
        problem = found.problem or f"no version in {release!r}"
        return warn(
            "kernel",
            f"release not known: {problem}",
            hint="needs Linux 5.15 or newer: compare `uname -r`",
        )
    if version < _NEEDED:
        return bad(
            "kernel",
            f"{release}: before 5.15 sock_ops can't tell a flow's network namespace",
            hint="update to Linux 5.15 or newer (a vendor's kernel may have newer eBPF: try the probe)",
        )
    if version < _NETNS_OF_PACKETS:
        return warn(
            "kernel",
            f"{release}: before 6.15 packets don't tell their network namespace, so flows "
            "older than the probe stay UNKNOWN",
            hint="start the probe before containerd's connections, or update to Linux 6.15 or newer",
        )
    return good("kernel", release)


def kernel_version(release: str) -> tuple[int, int] | None:
    """Major and minor number of a release such as ``6.1.0-18-amd64``."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})(?!\d)", release)
    return (int(match[1]), int(match[2])) if match else None


def btf(target: PreflightTarget) -> Check:
    """Check for the kernel's own type information."""
    if (target.sys / "kernel/btf/vmlinux").exists():
        return good("BTF", "the kernel has its type information")
    return warn(
        "BTF",
        "no kernel/btf/vmlinux: the programs read no kernel structures, but their per-socket "
        "storage may be refused",
        hint="use a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions have; in a container: mount /sys",
    )


def cgroup2(target: PreflightTarget) -> tuple[Check, Path | None]:
    """Find the root of cgroup v2, where the programs are attached. Also returns that directory, if any."""
    name = "cgroup v2"
    try:
        root = target.cgroup or cgroups.find_root(target.proc)
    except BpfError as error:
        return bad(name, str(error), hint=error.hint), None
    if not (root / "cgroup.procs").exists():
        detail = f"{shown(str(root))} is not a cgroup v2 directory, or can't be read"
        hint = f"mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified; {_IN_A_POD}"
        return bad(name, detail, hint=hint), None
    # Only the root of the whole hierarchy lacks this file (Documentation/admin-guide/cgroup-v2.rst).
    if (root / "cgroup.events").exists():
        check = warn(
            name,
            f"{shown(str(root))} is not the root of the hierarchy: connections from outside it are not seen",
            hint=_IN_A_POD,
        )
        return check, root
    return good(name, shown(str(root))), root


def containerd_cgroup(target: PreflightTarget, root: Path | None) -> Check:
    """Find containerd's own cgroup. Its programs run before those of the root."""
    name = "containerd's cgroup"
    if target.containerd_cgroup is not None:
        found: tuple[Path, ...] = (target.containerd_cgroup,)
        if not (target.containerd_cgroup / "cgroup.procs").exists():
            return warn(
                name,
                f"{shown(str(found[0]))} is not a cgroup v2 directory: connect() is read at the root, "
                "after other programs there",
                hint="name the cgroup of containerd's unit, or leave the setting out to search for it",
            )
    else:
        try:
            found = cgroups.find_containerds(root, target.proc) if root else ()
        except (OSError, ValueError):
            found = ()
    if not found:
        return warn(
            name,
            "not found: which connections are containerd's is guessed by their user (root), and before Linux "
            "6.15 connect() is read after other programs",
            hint="set probe.containerd_cgroup to the cgroup of containerd's unit, or run containerd in a "
            f"cgroup of its own, as its systemd unit does; {_IN_A_POD}",
        )
    if len(found) > 1:
        return warn(
            name,
            f"several containerds: {listed(map(str, found))}; the connections of all of them count",
            hint="set probe.containerd_cgroup to the one that pulls for Kubernetes",
        )
    return good(name, shown(str(found[0])))


def network_namespace(target: PreflightTarget, root: Path | None) -> Check:
    """Check whether containerd is in this network namespace, if its process is visible. ``root``: of the
    cgroups that are watched.
    """
    name, own = NETWORK_NAMESPACE, _netns(target.proc / "self")
    processes = [] if root is None else cgroups.containerd_processes(target.proc, below=root)
    seen = {_netns(each) for each in processes} - {None}
    if own is None or not seen:
        return good(name, f"{own or 'not known'}; whether it is containerd's can't be seen from here")
    others = ", ".join(sorted(str(other) for other in seen - {own}))
    if own in seen:
        beside = f"; another containerd's is {others}" if others else ""
        return good(name, f"{own}, the same as containerd's{beside}")
    return bad(
        name,
        f"{own}, but containerd's is {others}",
        hint="in a pod: hostNetwork: true; else nsenter --target CONTAINERD_PID --net. A proof from here "
        "says nothing about containerd's connections",
    )


def _netns(process: Path) -> str | None:
    try:
        return str((process / "ns/net").readlink())
    except OSError:
        return None


def tracefs(target: PreflightTarget) -> Check:
    """Say whether tracefs is mounted. shorthaul does not need it, but other eBPF tools do."""
    fields = [line.split() for line in read_file(target.proc / "mounts").text.splitlines()]
    places = [words[1] for words in fields if len(words) > 2 and words[2] == "tracefs"]
    where = f"at {shown(places[0], 60)}" if places else "not mounted"
    return good("tracefs", f"{where}; shorthaul does not need it")


def capabilities(target: PreflightTarget) -> Check:
    """Check whether this process may load and attach the programs."""
    name = "capabilities"
    match = re.search(r"^CapEff:\s*([0-9a-fA-F]{1,16})$", _status(target), re.MULTILINE)
    if match is None:
        return warn(
            name,
            "this process's capabilities can't be read",
            hint=_SECURITY_CONTEXT,
        )
    effective = int(match[1], 16)
    if not _whole_machine(target):
        return bad(
            name,
            "this process is in a user namespace, where its capabilities don't count for eBPF",
            hint="run it in the node's user namespace (in a pod: hostUsers: true)",
        )
    if effective & _SYS_ADMIN:
        return good(name, "SYS_ADMIN; BPF and NET_ADMIN would be enough")
    missing = [word for word, bit in (("BPF", _BPF), ("NET_ADMIN", _NET_ADMIN)) if not effective & bit]
    if not missing:
        return good(name, "BPF, NET_ADMIN")
    uid = re.search(r"^Uid:\s+\d+\s+(\d+)", _status(target), re.MULTILINE)
    as_root = ""
    if uid is not None and uid[1] != "0":
        as_root = " and runAsUser: 0 (Kubernetes gives other users no effective capabilities)"
    return bad(
        name,
        f"this process lacks {' and '.join(missing)}",
        hint=f"{_SECURITY_CONTEXT}{as_root}; outside of Kubernetes: run it as root",
    )


def _status(target: PreflightTarget) -> str:
    return read_file(target.proc / "self/status").text


def _whole_machine(target: PreflightTarget) -> bool:
    """Whether this is the initial user namespace, which maps every user to itself (user_namespaces(7))."""
    words = read_file(target.proc / "self/uid_map").text.split()
    return not words or words == ["0", "0", "4294967295"]


def lockdown(target: PreflightTarget) -> Check:
    """Say which lockdown the kernel has. It forbids programs to read kernel memory, and ours read none."""
    found = read_file(target.sys / "kernel/security/lockdown")
    match = re.search(r"\[(none|integrity|confidentiality)\]", found.text)
    if match is None:
        detail = "not shown by this kernel (or securityfs is not mounted)"
    elif match[1] == "confidentiality":
        detail = "confidentiality; it forbids to read kernel memory, and the programs read none"
    else:
        detail = match[1]
    return good("lockdown", detail)


def pid_namespace_is_first(target: PreflightTarget) -> bool | None:
    """Whether this process sees every process of the node. None if that is not known."""
    try:
        # PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h.
        return str((target.proc / "self/ns/pid").readlink()) == f"pid:[{0xEFFFFFFC}]"
    except OSError:
        return None
