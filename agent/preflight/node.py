"""Whether the kernel and this process's rights allow the probe's programs.

Kernel versions: the BPF helpers' own commits. bpf_get_netns_cookie came to sock_ops with 5.15 (6cf1770d63dd)
and to cgroup_skb with 6.15 (c221d3744ad3); everything else that the programs use is older.
"""

import re
from pathlib import Path

from agent.preflight.check import Check, Subject, bad, good, shown, warn
from agent.preflight.reading import read_file
from bpf import cgroups
from bpf.errors import BpfError

_NEEDED = (5, 15)
_NETNS_OF_PACKETS = (6, 15)
_FIRST_OF_ALL = (6, 15)  # BPF_F_PREORDER
_NET_ADMIN, _SYS_ADMIN, _BPF = 1 << 12, 1 << 21, 1 << 39  # linux/capability.h
_IN_A_POD = "in a pod: a hostPath volume of /sys/fs/cgroup"
_SECURITY_CONTEXT = "securityContext.capabilities.add: [BPF, NET_ADMIN]"


def kernel(subject: Subject) -> Check:
    """The release, and what is missing in an old one."""
    found = read_file(subject.proc / "sys/kernel/osrelease")
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
            f"{release}: older than 5.15, where sock_ops can't tell a flow's network namespace",
            hint="update to Linux 5.15 or newer (a vendor's kernel may have later eBPF: try the probe)",
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


def btf(subject: Subject) -> Check:
    """The kernel's own type information."""
    if (subject.sys / "kernel/btf/vmlinux").exists():
        return good("BTF", "the kernel has its type information")
    return warn(
        "BTF",
        "no kernel/btf/vmlinux: the programs read no kernel structures, but their per-socket "
        "storage may be refused",
        hint="a kernel with CONFIG_DEBUG_INFO_BTF=y, as the distributions' are; in a container: mount /sys",
    )


def cgroup2(subject: Subject) -> tuple[Check, Path | None]:
    """Where cgroup v2 is: the programs are attached at its root. Also that directory, if there is one."""
    name = "cgroup v2"
    try:
        root = subject.cgroup or cgroups.find_root(subject.proc)
    except BpfError as error:
        return bad(name, str(error), hint=error.hint), None
    if not (root / "cgroup.procs").exists():
        detail = f"{shown(str(root))} is no directory of cgroup v2, or can't be read"
        hint = f"mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified; {_IN_A_POD}"
        return bad(name, detail, hint=hint), None
    # Only the root of the whole hierarchy lacks this file (Documentation/admin-guide/cgroup-v2.rst).
    if (root / "cgroup.events").exists():
        check = warn(
            name,
            f"{shown(str(root))} is not the root of the hierarchy: what is outside of it is not seen",
            hint=_IN_A_POD,
        )
        return check, root
    return good(name, shown(str(root))), root


def containerd_cgroup(subject: Subject, root: Path | None) -> Check:
    """containerd's own cgroup, whose programs run before those of the root."""
    name = "containerd's cgroup"
    if subject.containerd_cgroup is not None:
        found: Path | None = subject.containerd_cgroup
        if not (subject.containerd_cgroup / "cgroup.procs").exists():
            return warn(
                name,
                f"{shown(str(found))} is no directory of cgroup v2: intent is read at the root, "
                "behind other programs there",
                hint="give the cgroup of containerd's unit, or none to have it searched for",
            )
    else:
        try:
            found = cgroups.find_containerd(root, subject.proc) if root else None
        except (OSError, ValueError):
            found = None
    if found is None:
        version = kernel_version(read_file(subject.proc / "sys/kernel/osrelease").text)
        if version is not None and version >= _FIRST_OF_ALL:
            return good(name, "not found, and not needed: this kernel puts a program before all others")
        return warn(
            name,
            "not found: intent is read at the root, behind other programs there",
            hint=f"run containerd in a cgroup of its own, as its systemd unit does; {_IN_A_POD}",
        )
    return good(name, shown(str(found)))


def network_namespace(subject: Subject) -> Check:
    """Whether containerd, as far as it can be seen, is in the network namespace that is looked at."""
    name, own = "network namespace", _netns(subject.proc / "self")
    seen = {_netns(process) for process in _containerds(subject.proc)} - {None}
    if own is None or not seen:
        return good(name, f"{own or 'not known'}; whether it is containerd's can't be seen from here")
    if own in seen:
        return good(name, f"{own}, as containerd's")
    return warn(
        name,
        f"{own}, but containerd's is {', '.join(sorted(str(other) for other in seen))}",
        hint="in a pod: hostNetwork: true. What is proved here says nothing of containerd's connections",
    )


def _containerds(proc: Path) -> list[Path]:
    found = []
    try:
        for process in proc.iterdir():
            comm = process / "comm"
            if process.name.isdigit() and read_file(comm).text.strip() == "containerd":
                found.append(process)
    except OSError:
        pass
    return found


def _netns(process: Path) -> str | None:
    try:
        return str((process / "ns/net").readlink())
    except OSError:
        return None


def tracefs(subject: Subject) -> Check:
    """Whether tracefs is mounted. Nothing needs it: said because other eBPF tools do."""
    fields = [line.split() for line in read_file(subject.proc / "mounts").text.splitlines()]
    places = [words[1] for words in fields if len(words) > 2 and words[2] == "tracefs"]
    where = f"at {shown(places[0], 60)}" if places else "not mounted"
    return good("tracefs", f"{where}; shorthaul needs none")


def capabilities(subject: Subject) -> Check:
    """Whether this process may load and attach the programs."""
    name = "capabilities"
    match = re.search(r"^CapEff:\s*([0-9a-fA-F]{1,16})$", _status(subject), re.MULTILINE)
    if match is None:
        return warn(
            name,
            "this process's capabilities can't be read",
            hint=_SECURITY_CONTEXT,
        )
    effective = int(match[1], 16)
    if not _whole_machine(subject):
        return bad(
            name,
            "this process is in a user namespace, where its capabilities don't count for eBPF",
            hint="run it in the node's user namespace (in a pod: hostUsers: true)",
        )
    if effective & _SYS_ADMIN:
        return good(name, "SYS_ADMIN; BPF and NET_ADMIN would do")
    missing = [word for word, bit in (("BPF", _BPF), ("NET_ADMIN", _NET_ADMIN)) if not effective & bit]
    if not missing:
        return good(name, "BPF, NET_ADMIN")
    uid = re.search(r"^Uid:\s+\d+\s+(\d+)", _status(subject), re.MULTILINE)
    as_root = ""
    if uid is not None and uid[1] != "0":
        as_root = " and runAsUser: 0 (Kubernetes gives other users no effective capabilities)"
    return bad(
        name,
        f"this process lacks {' and '.join(missing)}",
        hint=f"{_SECURITY_CONTEXT}{as_root}; outside of Kubernetes: run it as root",
    )


def _status(subject: Subject) -> str:
    return read_file(subject.proc / "self/status").text


def _whole_machine(subject: Subject) -> bool:
    """Whether this is the first user namespace, which maps every user to itself (user_namespaces(7))."""
    words = read_file(subject.proc / "self/uid_map").text.split()
    return not words or words == ["0", "0", "4294967295"]


def lockdown(subject: Subject) -> Check:
    """The kernel's lockdown. It takes programs' sight of kernel memory, which these don't use."""
    found = read_file(subject.sys / "kernel/security/lockdown")
    match = re.search(r"\[(none|integrity|confidentiality)\]", found.text)
    if match is None:
        detail = "not shown by this kernel (or securityfs is not mounted)"
    elif match[1] == "confidentiality":
        detail = "confidentiality; that forbids to read kernel memory, and the programs read none"
    else:
        detail = match[1]
    return good("lockdown", detail)


def pid_namespace_is_first(subject: Subject) -> bool | None:
    """Whether this process sees every process of the node; None if that can't be told."""
    try:
        # PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h.
        return str((subject.proc / "self/ns/pid").readlink()) == f"pid:[{0xEFFFFFFC}]"
    except OSError:
        return None
