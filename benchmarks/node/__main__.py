"""What an agent costs its node: memory, CPU for each GiB, and what it does when nobody asks.

    python -m benchmarks.node [--quick] [--members N]

It needs root. Bytes move from a local file, through a relay (splice, copy, TLS), and through nginx beside
them.
"""

import argparse
import sys
from dataclasses import replace

from benchmarks.arguments import make_parser
from benchmarks.lab.process import LabError
from benchmarks.node.run import FULL, QUICK, measure
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import BenchmarkFailed, run


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.node", __doc__, quick="smaller transfers, 1,000 members, short windows")
    parser.add_argument("--members", type=int, help="of the large cluster (5000; --quick: 1000)")
    return run(parser, _measure, root_for="network namespaces")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    base = QUICK if arguments.quick else FULL
    try:
        measure(report, replace(base, members=arguments.members or base.members))
    except LabError as error:
        raise BenchmarkFailed(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
