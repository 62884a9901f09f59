"""Whose something of the lab is: a name says which process made it (``PREFIX-PID-…``).

What a killed process left is removed by the next one. What belongs to a process that still runs is never
touched. A process number is given again after a while: a process that began after the thing was made did not
make it.
"""

import os
from collections.abc import Callable
from pathlib import Path

_SLACK_S = 5.0  # of the two clocks that are compared


def began_s(pid: int) -> float | None:
    """When a process began, in seconds since 1970. None: there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    ticks = int(stat.rpartition(")")[2].split()[19])  # field 22, starttime: proc_pid_stat(5)
    return _booted_s() + ticks / os.sysconf("SC_CLK_TCK")


def is_left_behind(entry: Path, prefix: str, *, began: Callable[[int], float | None] = began_s) -> bool:
    """Whether a process of the lab made this, and is gone. ``began``: see `began_s`."""
    maker = entry.name.removeprefix(f"{prefix}-").partition("-")[0]
    if not entry.name.startswith(f"{prefix}-") or not maker.isdigit():
        return False
    try:
        changed_s = entry.lstat().st_ctime
    except FileNotFoundError:  # another process removed it
        return False
    maker_began_s = began(int(maker))
    return maker_began_s is None or maker_began_s > changed_s + _SLACK_S


def _booted_s() -> float:
    (line,) = (line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return float(line.split()[1])
