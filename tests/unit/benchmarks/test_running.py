"""A benchmark from its command line to its report, whatever happens on the way."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reporting.compare import YARDSTICK
from benchmarks.reporting.format import Report, from_json
from tests.unit.twins import REPOSITORY_ROOT

_BENCHMARK = """
import sys, time
from benchmarks.arguments import make_parser
from benchmarks.running import BenchmarkFailed, run

def measure(report, arguments):
    print("runs", flush=True)
    report.begin("first")
    for value in (10.0, 10.1, 10.2, 10.3, 10.4):
        report.value("f", "ms", value)
    print("measured", flush=True)
    {then}

sys.exit(run(make_parser("benchmarks.test", None), measure))
"""


def _command(then: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", _BENCHMARK.format(then=then), *arguments]


def _run(then: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        _command(then, *arguments),
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def _report(path: Path) -> Report:
    return from_json(path.read_bytes(), str(path))


def _values(report: Report) -> tuple[float | None, ...]:
    section = report.section("first")
    assert section is not None
    return section.figures[0].series[0].values


def test_good_run_has_its_figures_the_machine_and_a_yardstick_before_and_after(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    ended = _run("pass", "--json", str(path), "--html", str(tmp_path / "report.html"))
    assert ended.returncode == 0, ended.stderr
    report = _report(path)
    assert (report.name, report.complete, report.problems) == ("test", True, ())
    assert report.machine.processors >= 1
    assert report.product.version
    yardstick = report.section(YARDSTICK)
    assert yardstick is not None
    assert {len(each.series[0].values) for each in yardstick.figures} == {10}
    assert "<h1>" in (tmp_path / "report.html").read_text()


_DIED = "raise BenchmarkFailed('the agent of a1 died', 'look at its log')"


@pytest.mark.parametrize(
    ("then", "says", "traceback"),
    [
        (_DIED, "the agent of a1 died; look at its log", False),
        ("report.problem('no peers')", "no peers", False),
        ("{}['absent']", "it broke off: KeyError: 'absent'", True),
    ],
)
def test_run_that_fails_keeps_what_it_measured_and_says_why(
    then: str, says: str, traceback: bool, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    ended = _run(then, "--json", str(path))
    assert ended.returncode == 1
    assert f"problem: {says}" in ended.stderr
    assert ("Traceback" in ended.stderr) is traceback
    report = _report(path)
    assert not report.complete
    assert report.problems == (says,)
    assert len(_values(report)) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_that_is_ended_by_a_signal_writes_what_it_has(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    command = _command("time.sleep(600)", "--json", str(path))
    with subprocess.Popen(
        command, cwd=REPOSITORY_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line == "measured\n":
                break
        child.send_signal(number)
        _, errors = child.communicate(timeout=100)
    assert child.returncode == 128 + number
    assert "before it was done" in errors
    assert "Traceback" not in errors
    assert len(_values(_report(path))) == 5


def test_full_disk_is_said_and_leaves_the_older_report(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], check=True)
    try:
        (folder / "report.json").write_text("older")
        (folder / "rest").write_bytes(b"x" * 4096 * 3)
        ended = _run("pass", "--json", str(folder / "report.json"))
        assert ended.returncode == 1
        assert "cannot write" in ended.stderr
        assert "make room there" in ended.stderr
        assert "f: 10" in ended.stdout  # the figures are printed all the same
        assert (folder / "report.json").read_text() == "older"
        assert sorted(each.name for each in folder.iterdir()) == ["report.json", "rest"]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_report_of_another_format_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"kind": "shorthaul-benchmark", "format": 99}))
    ended = _run("pass", "--compare", str(old))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "has format 99, and this is format 1" in ended.stderr


def test_comparison_with_a_report_of_something_else_says_so_and_keeps_the_run(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    assert _run("pass", "--json", str(old)).returncode == 0
    old.write_text(old.read_text().replace('"first"', '"another"'))
    ended = _run("pass", "--compare", str(old), "--json", str(new))
    assert ended.returncode == 1
    assert "have no figure in common" in ended.stderr
    assert len(_values(_report(new))) == 5


def test_comparison_of_equal_runs_finds_nothing(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    assert _run("pass", "--json", str(old)).returncode == 0
    ended = _run("pass", "--compare", str(old))
    assert ended.returncode == 0, ended.stderr
    assert "0 of 1 figures changed by more than noise." in ended.stdout
