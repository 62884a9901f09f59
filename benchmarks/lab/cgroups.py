"""cgroups (v2) of the lab's own: a node's processes in one, so that its probe sees no other node's."""

import contextlib
import os
import time
from pathlib import Path

from bpf.cgroups import find_root


def make_cgroup(name: str, *, below: Path | None = None) -> Path:
    """A new cgroup; at the root its name says who made it (``PREFIX-PID-…``), for `sweep_cgroups`."""
    cgroup = (below or find_root()) / name
    cgroup.mkdir()
    return cgroup


def remove_cgroup(cgroup: Path) -> None:
    """Remove it and all below. Its processes must have ended; the kernel takes a moment to notice."""
    for folder in sorted(cgroup.rglob("*"), reverse=True):
        if folder.is_dir():
            _remove(folder)
    _remove(cgroup)


def sweep_cgroups(prefix: str) -> None:
    """Remove those whose maker is gone, ending what still runs in them."""
    for cgroup in find_root().glob(f"{prefix}-*"):
        maker = cgroup.name.removeprefix(f"{prefix}-").partition("-")[0]
        if maker.isdigit() and not Path(f"/proc/{maker}").exists():
            for procs in cgroup.rglob("cgroup.procs"):
                for pid in procs.read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), 9)
            remove_cgroup(cgroup)


def _remove(folder: Path, *, at_most_s: float = 5.0) -> None:
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
