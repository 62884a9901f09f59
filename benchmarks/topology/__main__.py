"""Figures of the topology: what it costs, how well it measures, how well it predicts and chooses.

Measures pure costs at 5,000 nodes; real agents in namespaces between which frames take time (needs
root); the zone matrix against Vivaldi coordinates on the same simulated samples; agreement with an
oracle that knows every true delay. ``--quick`` leaves the lab out and takes everything small.
"""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.report import Report
from benchmarks.topology.contest import report_contest
from benchmarks.topology.costs import Costs
from benchmarks.topology.lab import report_lab
from benchmarks.topology.oracle import report_oracle
from benchmarks.topology.stated import report_stated

_COLUMNS = 150  # of a table that goes to a file


def main() -> int:
    """Measure, print a table, and write all figures as JSON with ``--json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.topology", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="everything small, without the lab")
    arguments = parser.parse_args()
    if not arguments.quick and os.geteuid() != 0:
        parser.error("the lab needs root, for network namespaces; --quick goes without")
    report = Report(Console(width=None if sys.stdout.isatty() else _COLUMNS))
    if arguments.quick:
        _run_quick(report)
    else:
        _run_all(report)
    report.console.print(report.table())
    if arguments.json:
        arguments.json.write_text(report.as_json())
    return 0


def _run_quick(report: Report) -> None:
    Costs(report, nodes=1000, repetitions=50).run()
    report_stated(report)
    report_contest(report, nodes=90, turns=2, by_zones=False)
    report_oracle(report, clusters=100)


def _run_all(report: Report) -> None:
    Costs(report, nodes=5000, repetitions=300).run()
    report_lab(report)
    report_stated(report)
    report_contest(report, nodes=500, turns=4, by_zones=False)
    report_contest(report, nodes=300, turns=4, by_zones=True)
    report_oracle(report, clusters=1000)


if __name__ == "__main__":
    sys.exit(main())
