"""The lab of `benchmarks.path`: each way is taken for real, and the probe and conntrack agree on it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.path.measuring import SECTION, Measurement
from benchmarks.path.stage import Stage
from benchmarks.path.ways import BASE, CELLS
from benchmarks.path.ways import Path as Way
from benchmarks.reporting.format import from_json
from benchmarks.reporting.recorder import Recorder
from bpf.cgroups import find_root

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def made() -> Iterator[Stage]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and eBPF: run `make test` as root")
    with Stage(services=3) as found:
        found.start_probe()
        yield found


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_way_is_what_it_is_called_by_the_probe_and_by_conntrack(made: Stage, cell) -> None:  # type: ignore[no-untyped-def]
    with made.standing(cell):
        before = made.verdicts(cell)
        told = made.offer(cell, rate=50, seconds=0.4, fresh=True)
        said = made.verdicts_since(before, cell, told.connections)
        truth = made.translated(cell)
    assert not told.failed
    assert told.answered == 20
    assert said[cell.path.verdict] >= told.connections - 2  # a source port may be taken: then it is not sure
    assert truth is not None
    went = truth.wire[0]
    assert (went == "127.0.0.1") is (cell.path is Way.DIRECT)
    assert went.startswith("10.244.1.") is (cell.path is Way.REMOTE)


def test_agent_that_dies_is_said_and_started_again(made: Stage) -> None:
    report = Recorder(Console(quiet=True))
    report.begin(SECTION)
    made.agents["host"].kill()
    measurement = Measurement(report, made, with_probe=False, rate=50, seconds=0.2)
    measurement._take(BASE)
    measurement._mend(BASE)
    assert any("refused" in problem for problem in report.problems)
    assert any("the agent host ended" in problem for problem in report.problems)
    assert made.offer(BASE, rate=50, seconds=0.2, fresh=True).answered == 10


def test_nothing_is_left_behind() -> None:
    with Stage(services=0, name="brief") as found:
        folder, cgroup, agents = found.folder, found.cgroup, [*found.agents.values()]
        assert _namespaces(os.getpid(), "brief")
    assert not folder.exists()
    assert not cgroup.exists()
    assert not _namespaces(os.getpid(), "brief")
    assert not any(agent.running for agent in agents)


def test_run_that_is_interrupted_removes_everything_and_leaves_its_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks", "path", "--quick", "--services", "3", "--json", str(path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "64 KiB, open connection" in line:  # agents and a probe run
                break
        (cgroup,) = find_root().glob(f"shlab-{run.pid}-path-here")
        assert _namespaces(run.pid, "path")
        run.send_signal(signal.SIGINT)
        run.stdout.read()
        assert run.wait(120) == 128 + signal.SIGINT
    assert not _namespaces(run.pid, "path")
    assert not cgroup.exists()  # with it go its processes, and the eBPF programs that were attached to it
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    report = from_json(path.read_bytes(), path.name)
    assert not report.complete
    assert report.section(SECTION).figures  # type: ignore[union-attr]


def _namespaces(pid: int, name: str) -> list[Path]:
    return [*Path("/run/netns").glob(f"*-{pid}-{name}-*")]
