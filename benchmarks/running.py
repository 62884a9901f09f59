"""Runs a benchmark from its command line to its report, whatever happens on the way.

What was measured before an error, a full disk or Ctrl-C is printed and written: a report that lacks something
says so, and the exit status is not 0 then.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console

from agent.cli.progress import Course, shown
from benchmarks.arguments import make_console, parse
from benchmarks.catalogue import CATALOGUE
from benchmarks.reading import read_report
from benchmarks.reporting.compare import Incomparable, compare
from benchmarks.reporting.format import Fact, Report, to_json
from benchmarks.reporting.machine import MachineWatch, product_facts
from benchmarks.reporting.page import write_page
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
    """Parse this process's arguments, and `carry_out`. Returns the exit status.

    ``check``: looks at the arguments before anything runs, and ends with ``parser.error``.
    """
    arguments = parse(parser, root_for=root_for)
    check(arguments)
    old = read_report(parser, arguments.compare) if arguments.compare else None
    name = parser.prog.rpartition("benchmarks.")[2]
    return carry_out(name, measure, arguments, old, command=f"python -m benchmarks {name}")


def carry_out(
    name: str, measure: Measure, arguments: argparse.Namespace, old: Report | None = None, *, command: str
) -> int:
    """Measure, print, and write what was asked for. Returns the exit status.

    0, 1 if anything went wrong, or 128 and the number of the signal that ended it. ``arguments``: ``json``,
    ``html`` and ``compare`` are used here. ``command``: how it was called, without its options.
    """
    course = Course(name, about_s=_about_s(name, arguments))
    recorder = Recorder(make_console(), step=course.step)
    facts = (Fact(name="command line", value=" ".join([command, *sys.argv[1:]])),)
    with shown(course):
        report, status = _measured(name, measure, recorder, arguments, facts)
    recorder.console.print(figures_table(report.sections))
    return max(status, tell(report, old, recorder.console, arguments))


def _measured(
    name: str,
    measure: Measure,
    recorder: Recorder,
    arguments: argparse.Namespace,
    facts: tuple[Fact, ...],
) -> tuple[Report, int]:
    """Measure, and make a report of it in any case."""
    watch, yardstick = MachineWatch(), Yardstick()
    began, began_s, status = datetime.now(UTC), time.monotonic(), 0
    try:
        yardstick.measure()
        measure(recorder, arguments)
        yardstick.measure()
    except BenchmarkFailed as error:
        recorder.problem(str(error))
    except (SystemExit, KeyboardInterrupt) as ended:  # of a signal: see `parse`
        status = ended.code if isinstance(ended, SystemExit) and isinstance(ended.code, int) else 130
        after_s = time.monotonic() - began_s
        recorder.problems.append(f"it was ended after {after_s:.0f} s, before it was done")
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
        arguments=facts,
        sections=(*recorder.sections, yardstick.section()),
        problems=tuple(recorder.problems),
    )
    return report, status


def tell(report: Report, old: Report | None, console: Console, arguments: argparse.Namespace) -> int:
    """Say what went wrong, compare with ``old``, and write the files. Returns the exit status: 0 or 1."""
    for problem in report.problems:
        print(f"problem: {problem}", file=sys.stderr)
    status, found = int(not report.complete), None
    if old is not None:
        try:
            found = compare(old, report)
            print_comparison(console, found, str(arguments.compare))
        except Incomparable as error:
            print(f"--compare: {error}; {error.hint}", file=sys.stderr)
            status = 1
    try:
        if arguments.json:
            write_whole(arguments.json, to_json(report))
        if arguments.html:
            write_page(report, arguments.html, found)
    except WriteFailed as error:
        print(f"{error}; {error.hint}", file=sys.stderr)
        status = 1
    return status


def _about_s(name: str, arguments: argparse.Namespace) -> float | None:
    entry = CATALOGUE.get(name)
    if entry is None:
        return getattr(arguments, "seconds", None)
    return entry.quick_s if getattr(arguments, "quick", False) else entry.full_s
