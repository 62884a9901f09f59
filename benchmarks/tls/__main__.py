"""What encryption between agents costs, and what a rotation of certificates costs under load.

It needs root, and works in network namespaces. It measures relays in plain, signed and with TLS in one run,
new connections, and pulls by real containerds while every agent's certificate and its CA are renewed again
and again. ``--quick``: fewer rounds, smaller transfers.
"""

import argparse
import sys

from benchmarks.arguments import make_parser
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run
from benchmarks.tls.connections import report_connections
from benchmarks.tls.relays import report_relays
from benchmarks.tls.rotation import report_rotation


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.tls", __doc__, quick="fewer rounds, smaller transfers")
    return run(parser, _measure, root_for="network namespaces and containerds")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    quick = arguments.quick
    report_relays(report, rounds=3 if quick else 9, mib=256 if quick else 1024)
    report_connections(report, rounds=3 if quick else 9)
    report_rotation(report, seconds=20.0 if quick else 120.0)


if __name__ == "__main__":
    sys.exit(main())
