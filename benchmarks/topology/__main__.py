"""Figures of the topology: what it costs, how well it measures, how well it predicts and chooses.

It measures what operations cost at 5,000 nodes, and real agents in namespaces with delays between them (the
lab, which needs root). It compares the zone matrix with Vivaldi coordinates on the same simulated samples,
and counts how often an oracle that knows every true delay agrees. ``--quick`` leaves the lab out, and makes
everything else small.
"""

import argparse
import sys

from benchmarks.arguments import make_parser, require_root
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run
from benchmarks.topology.contest import report_contest
from benchmarks.topology.costs import Costs
from benchmarks.topology.lab import report_lab
from benchmarks.topology.oracle import report_oracle
from benchmarks.topology.stated import report_stated
from benchmarks.topology.tree import report_tree


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.topology", __doc__, quick="everything small, without the lab")

    def check(arguments: argparse.Namespace) -> None:
        if not arguments.quick:
            require_root(parser, "the lab's network namespaces; --quick leaves the lab out")

    return run(parser, _measure, check=check)


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    if arguments.quick:
        _run_quick(report)
    else:
        _run_all(report)


def _run_quick(report: Recorder) -> None:
    Costs(report, nodes=1000, repetitions=50).run()
    report_tree(report, zones=64, repetitions=10)
    report_stated(report)
    report_contest(report, nodes=90, turns=2, by_zones=False)
    report_oracle(report, clusters=100)


def _run_all(report: Recorder) -> None:
    Costs(report, nodes=5000, repetitions=300).run()
    report_tree(report, zones=64, repetitions=100)
    report_lab(report)
    report_stated(report)
    report_contest(report, nodes=500, turns=4, by_zones=False)
    report_contest(report, nodes=300, turns=4, by_zones=True)
    report_oracle(report, clusters=1000)


if __name__ == "__main__":
    sys.exit(main())
