"""What each way to an agent costs: HostPort direct, CNI port map, NodePort by iptables and nftables, remote.

    python -m benchmarks.path [--quick] [--services N] [--rounds N]

It needs root. The probe's verdicts stand beside the figures, and conntrack's word beside those.
"""

import argparse
import sys
from dataclasses import replace

from benchmarks.arguments import make_parser
from benchmarks.lab.process import LabError
from benchmarks.path.run import FULL, QUICK, measure
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import BenchmarkFailed, run


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.path", __doc__, quick="500 other Services, three short rounds")
    add = parser.add_argument
    add("--services", type=int, help="other Services in the cluster (3000; --quick: 500)")
    add("--rounds", type=int, help="how often each way is measured (9; --quick: 3)")
    return run(parser, _measure, root_for="network namespaces and eBPF")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    base = QUICK if arguments.quick else FULL
    options = replace(
        base,
        services=base.services if arguments.services is None else arguments.services,
        rounds=arguments.rounds or base.rounds,
    )
    try:
        measure(report, options)
    except LabError as error:
        raise BenchmarkFailed(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
