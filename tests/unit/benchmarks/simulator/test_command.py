"""The simulator's command line, as somebody types it."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.reporting.compare import YARDSTICK
from benchmarks.reporting.format import Section, from_json
from benchmarks.simulator.policies import POLICIES
from benchmarks.simulator.workloads import WORKLOADS
from tests.unit.twins import REPOSITORY_ROOT


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks.simulator", *words]
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY_ROOT, env=environment, check=False
    )


def _figures(path: Path) -> tuple[Section, ...]:
    sections = from_json(path.read_bytes(), str(path)).sections
    return tuple(replace(each, seconds=0.0) for each in sections if each.name != YARDSTICK)


def test_two_runs_with_a_seed_write_the_same_figures_in_a_pipe_without_colour(tmp_path: Path) -> None:
    small = (
        "--nodes",
        "12",
        "--image-mb",
        "40",
        "--policy",
        "shorthaul,dht-3",
        "--scope",
        "zone",
        "--seed",
        "7",
    )
    files = [tmp_path / "one.json", tmp_path / "other.json"]
    done = [_run(*small, "--json", str(each)) for each in files]
    assert [each.returncode for each in done] == [0, 0], done[0].stderr
    assert _figures(files[0]) == _figures(files[1])
    assert "1 of 2: everyone, shorthaul, scope zone, 12 nodes …" in done[0].stdout
    assert "\x1b" not in done[0].stdout
    (section,) = _figures(files[0])
    figure = section.figure("p99")
    assert figure is not None
    assert [each.way for each in figure.series] == ["shorthaul, scope zone", "dht-3"]


def test_help_lists_every_workload_and_every_policy_with_its_words() -> None:
    text = _run("--help").stdout
    for name in (*WORKLOADS, *POLICIES):
        assert f"\n  {name} " in text


@pytest.mark.parametrize(
    "words", [("--policy", "best"), ("--workload", "none"), ("--nodes", "0"), ("everything",)]
)
def test_what_there_is_not_is_an_error_in_words(words: tuple[str, ...]) -> None:
    done = _run(*words)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
