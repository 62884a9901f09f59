"""What the eBPF probe costs: connect(), packets by the kernel's count, throughput, and its own process.

As root: in a network namespace and a cgroup of its own, with and without the programs in alternation.
``--quick`` takes half a minute, with fewer of them.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.probe.daemon import report_daemon
from benchmarks.probe.latency import report_latency
from benchmarks.probe.packets import report_packets
from benchmarks.probe.testbed import Testbed
from benchmarks.probe.throughput import report_throughput
from benchmarks.report import Report

_COLUMNS = 150  # of a table that goes to a file


def main() -> int:
    """Measure, print a table, and write all figures as JSON with ``--json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probe", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="fewer alternations, smaller transfers")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("this needs root, for eBPF and network namespaces")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is cleaned up
    report = Report(Console(width=None if sys.stdout.isatty() else _COLUMNS))
    with Testbed() as testbed:
        if arguments.quick:
            report_latency(report, testbed, alternations=15)
            report_packets(report, testbed, rounds=4, mib=256)
            report_throughput(report, testbed, alternations=40, mib=128)
            report_daemon(report, testbed, idle_s=4, load_s=4)
        else:
            report_latency(report, testbed, alternations=120)
            report_packets(report, testbed, rounds=16, mib=1024)
            report_throughput(report, testbed, alternations=100, mib=256)
            report_daemon(report, testbed, idle_s=20, load_s=12)
    report.console.print(report.table())
    if arguments.json:
        arguments.json.write_text(report.as_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
