"""What moving bytes costs, and what trouble costs a pull.

As root, in network namespaces: relays, redirects and local reads beside nginx; striping over two slow
holders; pulls while holders are killed and started again; pulls whose source is killed or frozen.
``--quick`` takes a few minutes, with fewer and smaller transfers.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.report import Report
from benchmarks.transfer.churn import report_churn
from benchmarks.transfer.failing import report_failing
from benchmarks.transfer.relays import report_relays
from benchmarks.transfer.striping import report_striping

_COLUMNS = 150  # of a table that goes to a file


def main() -> int:
    """Measure, print a table, and write all figures as JSON with ``--json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller transfers")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("this needs root, for network namespaces and containerds")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is cleaned up
    report = Report(Console(width=None if sys.stdout.isatty() else _COLUMNS))
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
    report.console.print(report.table())
    if arguments.json:
        arguments.json.write_text(report.as_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
