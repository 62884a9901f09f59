"""What the eBPF probe costs: connect(), packets by the kernel's count, throughput, and its own process.

It needs root. The load runs in its own network namespace and cgroup, with and without the programs in
alternation. ``--quick`` takes half a minute, with fewer alternations.
"""

import argparse
import sys

from benchmarks.arguments import make_parser
from benchmarks.probe.daemon import report_daemon
from benchmarks.probe.latency import report_latency
from benchmarks.probe.packets import report_packets
from benchmarks.probe.testbed import Testbed
from benchmarks.probe.throughput import report_throughput
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.probe", __doc__, quick="fewer alternations, smaller transfers")
    return run(parser, _measure, root_for="eBPF and network namespaces")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
