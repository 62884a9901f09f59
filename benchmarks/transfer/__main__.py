"""What moving bytes costs, and what failures cost a pull.

It needs root, and works in network namespaces. It measures relays, redirects and local reads compared with
nginx, striping over two slow holders, pulls while holders are killed and restarted, and pulls whose source is
killed or frozen. ``--quick`` takes a few minutes, with fewer and smaller transfers.
"""

import argparse
import sys

from benchmarks.arguments import make_parser
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run
from benchmarks.transfer.churn import report_churn
from benchmarks.transfer.failing import report_failing
from benchmarks.transfer.relays import report_relays
from benchmarks.transfer.striping import report_striping


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.transfer", __doc__, quick="fewer rounds, smaller transfers")
    return run(parser, _measure, root_for="network namespaces and containerds")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    if arguments.quick:
        report_relays(report, rounds=3, mib=256)
        report_striping(report, rounds=2, mib=256, link_mbit_s=200)
        report_churn(report, pulls=3, undisturbed=1, link_mbit_s=400)
        report_failing(report, rounds=1, mib=1024, link_mbit_s=800)
    else:
        report_relays(report, rounds=9, mib=1024)
        report_striping(report, rounds=7, mib=512, link_mbit_s=200)
        report_churn(report, pulls=30, undisturbed=5, link_mbit_s=400)
        report_failing(report, rounds=3, mib=1024, link_mbit_s=800)


if __name__ == "__main__":
    sys.exit(main())
