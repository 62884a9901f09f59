"""What an upgrade of the agents costs their clients.

It needs root, and works in network namespaces. It replaces a listener in three ways and counts the clients
that are lost, and then upgrades six agents in turn, as the chart does it, under pulls and requests, for two
minutes. ``--quick``: for 30 seconds.
"""

import argparse
import sys

from benchmarks.arguments import make_parser
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run
from benchmarks.upgrade.contenders import report_contenders
from benchmarks.upgrade.rolling import report_rolling


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.upgrade", __doc__, quick="30 seconds instead of 120")
    return run(parser, _measure, root_for="network namespaces, containerds and eBPF")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    report_contenders(report)
    seconds = 30.0 if arguments.quick else 120.0
    report_rolling(report, seconds=seconds, pulls_per_s=4.0, requests_per_s=50.0)


if __name__ == "__main__":
    sys.exit(main())
