"""Folders of the lab's own below the machine's folder for temporary files."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks.lab.makers import is_left_behind
from benchmarks.lab.process import LabError, run


def make_folder(prefix: str, name: str = "") -> Path:
    """A new folder. Its name says who made it (``PREFIX-PID-…``), for `sweep_folders`."""
    return Path(tempfile.mkdtemp(prefix=f"{prefix}-{os.getpid()}-{name}"))


def sweep_folders(prefix: str) -> None:
    """Remove the folders whose maker is gone, and what is still mounted below them.

    Several processes may sweep at once.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}-*-*"):
        if is_left_behind(folder, prefix):
            _unmount_below(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _unmount_below(folder: Path) -> None:
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        mount_point = line.split()[1]
        if mount_point.startswith(f"{folder}/"):
            with contextlib.suppress(LabError):  # another process swept it first
                run(["umount", "--lazy", mount_point])
