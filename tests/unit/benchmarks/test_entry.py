"""The one entry to all benchmarks."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.catalogue import CATALOGUE
from tests.unit.twins import REPOSITORY_ROOT

_FOLDER = REPOSITORY_ROOT / "benchmarks"
_NO_BENCHMARKS = {"demo", "bare", "screenshots"}
"""The demo has its own command, `make demo`; bare servers are what `versions` measures beside agents; the
docs' pictures measure nothing."""


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_without_a_name_all_are_listed_with_what_they_answer() -> None:
    ended = _run()
    assert ended.returncode == 0
    for name, entry in CATALOGUE.items():
        assert f"\n  {name} " in ended.stdout
        assert entry.question in ended.stdout


def test_name_that_is_none_is_an_error_that_suggests_one() -> None:
    ended = _run("latncy")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("there is no benchmark latncy; did you mean latency?\n")


def test_every_benchmark_in_the_folder_is_in_the_list() -> None:
    packages = {each.parent.name for each in _FOLDER.glob("*/__main__.py")}
    scripts = {each.stem for each in _FOLDER.glob("*.py") if 'if __name__ == "__main__"' in each.read_text()}
    tools = {"__main__", "compare", "page", "publish"}
    assert packages | scripts - tools == {*CATALOGUE} | _NO_BENCHMARKS


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_benchmark_writes_the_one_report(name: str) -> None:
    """By what its source calls: to run them all takes hours."""
    spec = find_spec(f"benchmarks.{name}")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin)
    main = path.with_name("__main__.py") if path.name == "__init__.py" else path
    text = main.read_text()
    assert f'"benchmarks.{name}"' in text, "its parser has another name"
    assert "benchmarks.running import" in text


def test_name_with_its_options_is_the_same_as_its_module() -> None:
    by_name = _run("topology", "--help")
    by_module = subprocess.run(
        [sys.executable, "-m", "benchmarks.topology", "--help"],
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert by_name.stdout == by_module.stdout
    assert "--compare OLD.json" in by_name.stdout


def test_no_benchmark_computes_with_a_clock_that_may_jump() -> None:
    for folder in ("reporting", "latency", "pull", "path", "node", "cluster"):
        for path in (_FOLDER / folder).glob("*.py"):
            assert "time.time(" not in path.read_text(), path
    for name in ("running.py", "short.py"):
        assert "time.time(" not in (_FOLDER / name).read_text()
