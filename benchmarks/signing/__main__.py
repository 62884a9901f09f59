"""What it costs that agents prove themselves to each other, and what a rotation of the key costs under load.

It needs root, and works in network namespaces. It measures a signature and its check, first bytes from a peer
in plain and signed in one run, and pulls by real containerds while the cluster's key is replaced again and
again, at one node after the other. ``--quick``: fewer rounds.
"""

import argparse
import sys

from benchmarks.arguments import make_parser
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run
from benchmarks.signing.costs import report_costs
from benchmarks.signing.firstbytes import report_first_bytes
from benchmarks.signing.rotation import report_rotation


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.signing", __doc__, quick="fewer rounds")
    return run(parser, _measure, root_for="network namespaces and containerds")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    report_costs(report)
    report_first_bytes(report, rounds=6 if arguments.quick else 30)
    report_rotation(report, seconds=50.0 if arguments.quick else 180.0)


if __name__ == "__main__":
    sys.exit(main())
