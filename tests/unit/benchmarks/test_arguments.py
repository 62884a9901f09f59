"""What the benchmarks' command lines share."""

import subprocess
import sys
from pathlib import Path

from benchmarks.arguments import place_problem
from tests.unit.twins import REPOSITORY_ROOT


def simulated(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.simulator", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY_ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_file_that_cant_be_written_is_noticed_before_anything_runs(tmp_path: Path) -> None:
    ended = simulated("--json", str(tmp_path / "none" / "figures.json"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"--json: there is no folder {tmp_path / 'none'}" in ended.stderr


def test_folder_is_no_place_for_a_report(tmp_path: Path) -> None:
    assert place_problem(tmp_path) == f"{tmp_path} is a folder: name a file in it"
    assert place_problem(Path("/")) == "/ is a folder: name a file in it"
    assert place_problem(tmp_path / "report.json") == ""


def test_number_that_is_none_is_named_in_words() -> None:
    ended = simulated("--nodes", "0")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "argument --nodes: 0 is no whole number above 0" in ended.stderr
