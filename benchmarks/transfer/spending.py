"""What processes use: CPU by their cgroups, memory by their own counters."""

import os
from pathlib import Path

_MIB = 1 << 20


def cpu_s(cgroup: Path) -> float:
    """CPU seconds, user and system, of all processes that ever ran in a cgroup."""
    for line in (cgroup / "cpu.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) / 1e6
    raise ValueError(f"{cgroup}: no usage_usec in cpu.stat")


def machine_cpu_s() -> float:
    """CPU seconds of the whole machine, including unrelated work."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def forget_peak(pid: int) -> None:
    """Reset the peak, so that `peak_mib` counts from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mib(pid: int) -> float:
    """The largest resident set since `forget_peak`."""
    return _status_mib(pid, "VmHWM:")


def rss_mib(pid: int) -> float:
    """The resident set now."""
    return _status_mib(pid, "VmRSS:")


def _status_mib(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / _MIB
    raise ValueError(f"{pid}: no {name}")
