"""The short run: what becomes of its parts."""

import io
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.catalogue import CATALOGUE
from benchmarks.reporting.format import to_json
from benchmarks.reporting.recorder import Recorder
from benchmarks.short import PARTS, limit_s, take
from tests.unit.benchmarks.reporting.reports import make_figure, make_report, make_section


def _recorder(steps: list[str]) -> Recorder:
    return Recorder(Console(file=io.StringIO()), step=lambda doing, _: steps.append(doing))


def _take(program: str, path: Path, *, limit_s: float = 100.0) -> tuple[Recorder, list[str]]:
    steps: list[str] = []
    recorder = _recorder(steps)
    take(recorder, "part", [sys.executable, "-c", program, str(path)], path, limit_s=limit_s)
    return recorder, steps


def test_sections_and_problems_of_a_part_are_taken_over_and_its_progress_is_passed_on(tmp_path: Path) -> None:
    report = make_report(
        make_section(make_figure("f", [1.0])),
        make_section(make_figure("g", [1.0]), name="yardstick"),
        complete=False,
        problems=("one round is left out",),
    )
    source = tmp_path / "source.json"
    source.write_text(to_json(report))
    program = (
        f"import shutil, sys; shutil.copy({str(source)!r}, sys.argv[1]);"
        "print('part: layers, 40 %, 12 s so far, about 18 s left', file=sys.stderr)"
    )
    recorder, steps = _take(program, tmp_path / "part.json")
    assert [section.name for section in recorder.sections] == ["s"]
    assert recorder.problems == ["part: one round is left out"]
    assert steps == ["part: layers"]


def test_part_that_dies_costs_its_own_figures_and_says_its_last_words(tmp_path: Path) -> None:
    recorder, _ = _take("import sys; sys.exit('no containerd here')", tmp_path / "part.json")
    assert recorder.sections == ()
    assert recorder.problems == ["part: it ended with 1 and left no report: no containerd here"]


def test_part_that_hangs_is_ended_and_may_still_write_what_it_has(tmp_path: Path) -> None:
    source = tmp_path / "source.json"
    source.write_text(to_json(make_report(make_section(make_figure("f", [1.0])))))
    program = (
        "import shutil, signal, sys, time\n"
        f"signal.signal(15, lambda *_: (shutil.copy({str(source)!r}, sys.argv[1]), sys.exit(143)))\n"
        "time.sleep(600)"
    )
    began_s = time.monotonic()
    recorder, _ = _take(program, tmp_path / "part.json", limit_s=3.0)
    assert time.monotonic() - began_s < 60
    assert recorder.problems == ["part: it was ended, because it took longer than 3 s"]
    assert [section.name for section in recorder.sections] == ["s"]


def test_parts_fit_into_ten_minutes_and_one_that_takes_twice_as_long_is_not_cut_off() -> None:
    usual_s = {part: CATALOGUE[part].quick_s or 0.0 for part in PARTS}
    assert all(usual_s.values())
    assert sum(usual_s.values()) <= 600
    assert all(limit_s(part) >= 2 * usual_s[part] for part in PARTS)
