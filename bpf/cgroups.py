"""Where cgroup v2 is, and which cgroup containerd's sockets belong to.

A socket belongs to the cgroup that its maker was in when it made it (cgroups(7)).
"""

from pathlib import Path

from bpf.errors import BpfMissing

# systemd's units whose process is containerd, or has it inside.
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
    """The mount point of cgroup v2; in hybrid mode it is not /sys/fs/cgroup. Raises `BpfMissing`."""
    try:
        mounts = (proc / "mounts").read_text(errors="replace").splitlines()
    except OSError:
        mounts = []
    for line in mounts:
        fields = line.split()
        if len(fields) > 2 and fields[2] == "cgroup2":
            return Path(fields[1].replace("\\040", " "))
    raise BpfMissing(
        "cgroup v2 is not mounted",
        hint="mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified; in a pod: a hostPath volume of /sys/fs/cgroup",
    )


def find_containerd(root: Path, proc: Path = Path("/proc")) -> Path | None:
    """containerd's own cgroup below the root: of its process if that can be seen, else of its unit."""
    for entry in _processes(proc):
        try:
            if (entry / "comm").read_text().strip() != "containerd":
                continue
            path = _cgroup_of(entry)
        except OSError:
            continue  # it ended meanwhile
        if path and path != "/" and (root / path.lstrip("/")).is_dir():
            return root / path.lstrip("/")
    return next((found for unit in _UNITS for found in sorted(root.glob(f"*/{unit}"))), None)


def _processes(proc: Path) -> list[Path]:
    try:
        return [entry for entry in proc.iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def _cgroup_of(process: Path) -> str | None:
    for line in (process / "cgroup").read_text(errors="replace").splitlines():
        if line.startswith("0::"):
            return line[3:].removesuffix(" (deleted)")
    return None
