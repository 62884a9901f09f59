"""Where cgroup v2 is mounted, and which cgroup containerd's sockets belong to.

A socket belongs to the cgroup that its process was in when it made the socket (cgroups(7)).
"""

import re
from pathlib import Path

from bpf.errors import BpfMissing

# The systemd units that run containerd, alone or within another process.
_UNITS = (
    "containerd.service",
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
    "k0sworker.service",
    "k0scontroller.service",
    "snap.microk8s.daemon-containerd.service",
)


def find_root(proc: Path = Path("/proc")) -> Path:
    """The mount point of cgroup v2. In hybrid mode this is not /sys/fs/cgroup. Raises `BpfMissing`.

    In a container, a mount may show the container's own cgroup only. If the node's root cgroup is mounted
    as well, that one is returned.
    """
    try:
        mounts = (proc / "mounts").read_text(errors="replace").splitlines()
    except OSError:
        mounts = []
    found = []
    for line in mounts:
        fields = line.split()
        if len(fields) > 2 and fields[2] == "cgroup2":
            path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
            found.append(Path(path))
    if not found:
        raise BpfMissing(
            "cgroup v2 is not mounted",
            hint="mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified; in a pod: a hostPath of /sys/fs/cgroup",
        )
    return next((path for path in found if is_whole(path)), found[0])


def is_whole(cgroup: Path) -> bool:
    """Whether this is the root of all cgroups. Only the root has no ``cgroup.events`` (cgroup-v2.rst)."""
    return (cgroup / "cgroup.procs").exists() and not (cgroup / "cgroup.events").exists()


def find_containerd(root: Path, proc: Path = Path("/proc")) -> Path | None:
    """containerd's cgroup below the root. By its process if that is visible, else by its systemd unit."""
    for entry in _processes(proc):
        try:
            if (entry / "comm").read_text(errors="replace").strip() != "containerd":
                continue
            found = _cgroup_of(entry, root)
        except OSError:
            continue  # the process ended meanwhile
        if found is not None and found != root:
            return found
    return next((found for unit in _UNITS for found in sorted(root.glob(f"*/{unit}"))), None)


def own_cgroup(root: Path, proc: Path = Path("/proc")) -> Path | None:
    """The cgroup of this process below the root. None if it is not visible from here."""
    try:
        return _cgroup_of(proc / "self", root)
    except OSError:
        return None


def _processes(proc: Path) -> list[Path]:
    try:
        return [entry for entry in proc.iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def _cgroup_of(process: Path, root: Path) -> Path | None:
    """The cgroup of a process below the root. None for a process outside the root: within a cgroup
    namespace its path leads upwards.
    """
    for line in (process / "cgroup").read_text(errors="replace").splitlines():
        if line.startswith("0::/"):
            found = _mount_of(root) / line[4:].removesuffix(" (deleted)")
            inside = ".." not in found.parts and found.is_relative_to(root)
            return found if inside and found.is_dir() else None
    return None


def _mount_of(cgroup: Path) -> Path:
    """The mount point of a cgroup's hierarchy. The paths in /proc/PID/cgroup start there."""
    for folder in (cgroup, *cgroup.parents):
        if not (folder / "cgroup.procs").exists():
            break
        if folder.is_mount():
            return folder
    return cgroup
