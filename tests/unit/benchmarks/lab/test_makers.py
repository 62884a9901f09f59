"""What is removed: only what a process of the lab made that is gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.lab.folders import sweep_folders
from benchmarks.lab.makers import began_s, is_left_behind


def test_process_began_when_it_did() -> None:
    began = began_s(os.getpid())
    assert began is not None
    assert 0 < began <= time.time() + 2.0
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        later = began_s(child.pid)
        assert later is not None
        assert later >= began
    finally:
        child.communicate(b"\n")
    assert began_s(child.pid) is None


def test_what_a_running_process_made_is_left_alone(tmp_path: Path) -> None:
    made = tmp_path / f"shlab-{os.getpid()}-server"
    made.mkdir()
    assert not is_left_behind(made, "shlab")


def test_what_a_process_made_that_is_gone_is_left_behind(tmp_path: Path) -> None:
    made = tmp_path / "shlab-4000000000-server"
    made.mkdir()
    assert is_left_behind(made, "shlab")


def test_process_that_has_the_makers_number_but_began_later_is_not_the_maker(tmp_path: Path) -> None:
    made = tmp_path / "shlab-77-server"
    made.mkdir()
    now_s = time.time()
    assert is_left_behind(made, "shlab", began=lambda _: now_s + 60.0)
    assert not is_left_behind(made, "shlab", began=lambda _: now_s - 60.0)
    assert not is_left_behind(made, "shlab", began=lambda _: now_s + 1.0)  # clocks differ a little


@pytest.mark.parametrize("name", ["shlab", "shlab-", "shlab-x-1", "shlab--77-x", "other-77-x", "xshlab-77-x"])
def test_what_does_not_say_who_made_it_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert not is_left_behind(tmp_path / name, "shlab", began=lambda _: None)


def test_what_another_process_removes_meanwhile_is_no_error(tmp_path: Path) -> None:
    assert not is_left_behind(tmp_path / "shlab-77-gone", "shlab", began=lambda _: None)


def test_sweep_takes_what_is_left_behind_and_nothing_else() -> None:
    prefix = f"shsweep{os.getpid()}"
    folders = [Path(f"/tmp/{prefix}-{maker}-x") for maker in (4000000000, os.getpid())]
    for folder in folders:
        folder.mkdir()
        (folder / "file").write_text("x")
    try:
        sweep_folders(prefix)
        assert [folder.exists() for folder in folders] == [False, True]
    finally:
        (folders[1] / "file").unlink()
        folders[1].rmdir()
