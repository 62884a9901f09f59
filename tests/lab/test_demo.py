"""However the demo ends, nothing of it is left: at once, or after the next run's beginning."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.lab.cgroups import sweep_cgroups
from benchmarks.lab.folders import sweep_folders
from benchmarks.lab.network import sweep
from bpf.cgroups import find_root
from tests.unit.agent.cli.terminal import CTRL_C, PYTHON, terminal

pytestmark = pytest.mark.e2e

_DEMO = [PYTHON, "-m", "benchmarks.demo"]
_AT_MOST_S = 240.0


def left(pid: int) -> list[str]:
    """What is there of the demo with this process number, but for the process itself."""
    mark = f"shlab-{pid}"
    folders = [Path("/run/netns"), Path("/tmp"), find_root()]
    found = [str(path) for folder in folders if folder.is_dir() for path in folder.glob(f"{mark}-*")]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"/{mark}-" in line]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != pid and any(mark in word for word in process.cmdline()):
                found.append(" ".join(process.cmdline()))
    return found


def wait_until_nothing_is_left(pid: int, again: Callable[[], None] = lambda: None) -> None:
    until_s = time.monotonic() + 60.0
    while there := left(pid):
        assert time.monotonic() < until_s, there
        again()
        time.sleep(0.2)


@pytest.mark.parametrize("when", ["Building an image", "Starting the agents"])
def test_ctrl_c_ends_it_with_130_and_removes_everything(when: str) -> None:
    with terminal(_DEMO, columns=80) as opened:
        opened.wait_for(when, at_most_s=_AT_MOST_S)
        opened.press(CTRL_C)
        assert opened.exit_status() == 130, opened.shown
        assert "Traceback" not in opened.shown
        assert "Stopped; everything is cleaned up." in opened.shown
        wait_until_nothing_is_left(opened.pid)


def test_terminal_that_is_closed_ends_it_and_removes_everything() -> None:
    with terminal(_DEMO, columns=80) as opened:
        opened.wait_for("Starting the agents", at_most_s=_AT_MOST_S)
        assert left(opened.pid), "the test looks at the wrong places"
        opened.hang_up()
        assert opened.exit_status() == 128 + signal.SIGHUP
        wait_until_nothing_is_left(opened.pid)


def test_what_a_killed_demo_leaves_is_removed_by_the_next_run() -> None:
    with terminal(_DEMO, columns=80) as opened:
        opened.wait_for("Each node pulls", at_most_s=_AT_MOST_S)
        opened.wait_for("…")  # the first one does
        os.kill(opened.pid, signal.SIGKILL)
        assert opened.exit_status() == -signal.SIGKILL

        def begin_of_the_next_run() -> None:
            sweep_folders("shlab")
            sweep("shlab")
            sweep_cgroups("shlab")

        wait_until_nothing_is_left(opened.pid, begin_of_the_next_run)


def test_reader_that_closes_early_ends_it_and_removes_everything() -> None:
    command = ["/bin/bash", "-c", f"{PYTHON} -m benchmarks.demo | head -n 2; echo status ${{PIPESTATUS[0]}}"]
    with terminal(command) as opened:
        opened.wait_for("status 141", at_most_s=_AT_MOST_S)
        assert opened.exit_status() == 0
    assert "Traceback" not in opened.shown


def test_half_made_namespace_does_not_keep_the_next_run_from_beginning() -> None:
    half = Path("/run/netns/shlab-4000000000-half")
    half.touch()
    sweep("shlab")
    assert not half.exists()
