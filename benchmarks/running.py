"""Runs a benchmark from its command line to its report, whatever happens on the way.

What was measured before an error, a full disk or Ctrl-C is printed and written: a report that lacks something
says so, and the exit status is not 0 then.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from agent.cli.progress import Course, shown
from benchmarks.arguments import make_console, parse
from benchmarks.catalogue import CATALOGUE
from benchmarks.reading import read_report
from benchmarks.reporting.compare import Incomparable, compare
from benchmarks.reporting.format import Report, to_json
from benchmarks.reporting.machine import MachineWatch, argument_facts, product_facts
from benchmarks.reporting.recorder import Recorder
from benchmarks.reporting.tables import figures_table, print_comparison
from benchmarks.reporting.writing import WriteFailed, write_whole
from benchmarks.reporting.yardstick import Yardstick

Measure = Callable[[Recorder, argparse.Namespace], object]
"""A benchmark: measures with the recorder, by the arguments. `BenchmarkFailed`: it can't go on."""


class BenchmarkFailed(Exception):
    """It can't go on, for a reason that is told in words. ``hint``: what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.hint = hint


def run(
    parser: argparse.ArgumentParser,
    measure: Measure,
    *,
    root_for: str | None = None,
    check: Callable[[argparse.Namespace], None] = lambda _: None,
) -> int:
    """Parse the arguments, measure, print, and write what was asked for. Returns the exit status.

    ``check``: looks at the arguments before anything runs, and ends with ``parser.error``. The status is 0, 1
    if anything went wrong, or 128 and the number of the signal that ended it.
    """
    arguments = parse(parser, root_for=root_for)
    check(arguments)
    old = read_report(parser, arguments.compare) if arguments.compare else None
    name = parser.prog.rpartition("benchmarks.")[2]
    course = Course(name, about_s=_about_s(name, quick=getattr(arguments, "quick", False)))
    recorder = Recorder(make_console(), step=course.step)
    report, status = _measured(name, measure, recorder, arguments, course)
    recorder.console.print(figures_table(report.sections))
    for problem in report.problems:
        print(f"problem: {problem}", file=sys.stderr)
    return max(status, _told(report, old, recorder, arguments), int(not report.complete))


def _measured(
    name: str, measure: Measure, recorder: Recorder, arguments: argparse.Namespace, course: Course
) -> tuple[Report, int]:
    """Measure, and make a report of it in any case."""
    watch, yardstick = MachineWatch(), Yardstick()
    began, began_s, status = datetime.now(UTC), time.monotonic(), 0
    with shown(course):
        try:
            yardstick.measure()
            measure(recorder, arguments)
            yardstick.measure()
        except BenchmarkFailed as error:
            recorder.problem(str(error))
        except SystemExit as ended:  # of a signal: see `parse`
            status = ended.code if isinstance(ended.code, int) else 1
            recorder.problems.append(
                f"it was ended after {time.monotonic() - began_s:.0f} s, before it was done"
            )
        except Exception as error:  # noqa: BLE001 - the boundary: what was measured is kept
            traceback.print_exc()
            recorder.problem(f"it broke off: {type(error).__name__}: {error}")
    report = Report(
        name=name,
        began=began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        seconds=round(time.monotonic() - began_s, 1),
        complete=not recorder.problems,
        machine=watch.facts(),
        product=product_facts(),
        arguments=argument_facts(),
        sections=recorder.sections,
        problems=tuple(recorder.problems),
    )
    return replace(report, sections=(*report.sections, yardstick.section())), status


def _told(report: Report, old: Report | None, recorder: Recorder, arguments: argparse.Namespace) -> int:
    """Compare and write. Returns the exit status."""
    status, found = 0, None
    if old is not None:
        try:
            found = compare(old, report)
            print_comparison(recorder.console, found, str(arguments.compare))
        except Incomparable as error:
            print(f"--compare: {error}; {error.hint}", file=sys.stderr)
            status = 1
    try:
        if arguments.json:
            write_whole(arguments.json, to_json(report))
        if arguments.html:
            from benchmarks.reporting.page import write_page

            write_page(report, arguments.html, found)
    except WriteFailed as error:
        print(f"{error}; {error.hint}", file=sys.stderr)
        status = 1
    return status


def _about_s(name: str, *, quick: bool) -> float | None:
    entry = CATALOGUE.get(name)
    return None if entry is None else entry.quick_s if quick else entry.full_s
