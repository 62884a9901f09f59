"""What says nothing while it works is shown to be at work, and its output and its status come through."""

import os
import re
import subprocess
import sys

from agent.cli.progress import PROGRESS_VARIABLE
from tests.unit.twins import REPOSITORY_ROOT


def test_silent_command_is_shown_in_a_pipe_and_its_output_and_status_are_its_own() -> None:
    command = ["sh", "-c", "read line; echo out; echo err >&2; exit 3"]
    with subprocess.Popen(
        [sys.executable, "-m", "tools.shown", "lint", "20", *command],
        cwd=REPOSITORY_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, PROGRESS_VARIABLE: ""},
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        out, err = process.communicate("go\n")
    assert line.startswith("lint, ")
    assert "left" in line
    assert (out, err, process.returncode) == ("out\nerr\n", "", 3)


def test_wrong_usage_says_how() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.shown", "lint", "soon"],
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "NAME SECONDS COMMAND" in done.stderr


_SAY_THEMSELVES = (
    "benchmarks",
    "benchmarks.demo",
    "benchmarks.simulator",
    "pytest",
    "tools.again",
    "tools.image",
)
_SHORT = ("tools.audit", "grpc_tools.protoc")


def test_whatever_make_runs_shows_that_it_is_at_work_or_is_done_in_a_moment() -> None:
    recipes = re.findall(r"^\t@(.*)$", (REPOSITORY_ROOT / "Makefile").read_text(), re.MULTILINE)
    silent = [
        module
        for line in recipes
        for before, module in re.findall(r"(.*?)\$\(PYTHON\) -m ([\w.]+)", line)
        if "$(SHOWN)" not in before and module not in (*_SAY_THEMSELVES, *_SHORT)
    ]
    assert recipes
    assert silent == []
