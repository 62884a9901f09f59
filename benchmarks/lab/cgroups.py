"""cgroups (v2) for the lab. Each node's processes have their own, so that a node's probe sees only them."""

import contextlib
import os
import time
from pathlib import Path

from benchmarks.lab.makers import is_left_behind
from bpf.cgroups import find_root


def make_cgroup(name: str, *, below: Path | None = None) -> Path:
    """Make a cgroup. At the root, its name has its maker's pid (``PREFIX-PID-…``), for `sweep_cgroups`."""
    cgroup = (below or find_root()) / name
    cgroup.mkdir()
    return cgroup


def remove_cgroup(cgroup: Path) -> None:
    """Remove a cgroup and all below it. Its processes must have ended. The kernel may notice that late."""
    for folder in sorted(cgroup.rglob("*"), reverse=True):
        if folder.is_dir():
            _remove(folder)
    _remove(cgroup)


def sweep_cgroups(prefix: str) -> None:
    """Remove those whose maker is gone, ending what still runs in them.

    Several processes may sweep at once. What can't be removed yet is left for the next sweep.
    """
    for cgroup in find_root().glob(f"{prefix}-*"):
        if is_left_behind(cgroup, prefix):
            with contextlib.suppress(OSError):
                _kill_all(cgroup)
                remove_cgroup(cgroup)


def _kill_all(cgroup: Path) -> None:
    for procs in cgroup.rglob("cgroup.procs"):
        for pid in procs.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)


def _remove(folder: Path, *, at_most_s: float = 30.0) -> None:
    until_s = time.monotonic() + at_most_s
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.01)
        else:
            return
