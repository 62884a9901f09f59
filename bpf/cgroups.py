"""Where cgroup v2 is mounted, and which cgroup containerd's sockets belong to.

A socket belongs to the cgroup that its process was in when it made the socket (cgroups(7)).
"""

import re
from collections.abc import Collection
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

# Where container runtimes put containers: Kubernetes' pods, Docker's, Podman's, and those of `ctr run`.
_CONTAINERS = re.compile(r"kubepods|(^|/)(docker|crio|cri-containerd|libpod|default)([-/_]|$)")


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


def find_containerds(root: Path, proc: Path = Path("/proc")) -> tuple[Path, ...]:
    """The cgroups below the root in which a containerd runs, each once. By its processes if they are
    visible, else by its systemd units. A node may have several: Docker's beside Kubernetes', for example.
    """
    found: dict[Path, None] = {}
    for entry in containerd_processes(proc):
        try:
            cgroup = _cgroup_of(entry, root)
        except OSError:
            continue  # the process ended meanwhile
        if cgroup is not None and cgroup != root:
            found[cgroup] = None
    if not found:
        found = dict.fromkeys(place for unit in _UNITS for place in sorted(root.glob(f"*/{unit}")))
    return tuple(found)


def trusted_containerds(root: Path, users: Collection[int], proc: Path = Path("/proc")) -> tuple[Path, ...]:
    """The cgroups below the root that are containerd's whoever else names itself so, each once.

    Only the node's root can make a unit's cgroup. A process counts by its name only if one of these users
    runs it, outside of any container: a pod on the host's network may call its process what it likes.
    """
    found = dict.fromkeys(place for unit in _UNITS for place in sorted(root.glob(f"*/{unit}")))
    for entry in containerd_processes(proc):
        try:
            cgroup = _cgroup_of(entry, root) if entry.stat().st_uid in users else None
        except OSError:
            continue  # the process ended meanwhile
        if cgroup is not None and cgroup != root and not _CONTAINERS.search(str(cgroup.relative_to(root))):
            found[cgroup] = None
    return tuple(found)


def containerd_processes(proc: Path = Path("/proc"), *, below: Path | None = None) -> list[Path]:
    """The procfs directories of processes named containerd. ``below``: only of those in this cgroup."""
    found = []
    for entry in _processes(proc):
        try:
            if (entry / "comm").read_text(errors="replace").strip() != "containerd":
                continue
            if below is None or _cgroup_of(entry, below) is not None:
                found.append(entry)
        except OSError:
            continue
    return found


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
