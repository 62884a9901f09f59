"""Which reports are published without being asked twice."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.publish import unfit
from benchmarks.reporting.format import to_json
from tests.unit.benchmarks.reporting.reports import MACHINE, make_report


def test_complete_report_of_a_quiet_machine_is_fit() -> None:
    assert unfit(make_report(machine=replace(MACHINE, load_before=1.9))) == ""
    assert unfit(make_report()) == ""  # of a machine that doesn't say


def test_report_of_a_machine_that_was_busy_before_is_unfit() -> None:
    assert "a load of 2.5 on 2 processors" in unfit(make_report(machine=replace(MACHINE, load_before=2.5)))


def test_report_that_lacks_something_is_unfit_and_every_reason_is_said() -> None:
    busy = replace(MACHINE, load_before=9.0)
    words = unfit(make_report(machine=busy, complete=False, problems=("the agent died",)))
    assert words.startswith("It lacks something: the agent died. The machine was busy")


def test_publish_refuses_an_unfit_report_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(to_json(make_report(machine=replace(MACHINE, load_before=9.0))))
    command = [sys.executable, "-m", "benchmarks", "publish", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 2
    assert "a load of 9 on 2 processors; make bench again" in ran.stderr
    assert "--incomplete" in ran.stderr
