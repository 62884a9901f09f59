"""Figures of the index in a server: a real server, and thousands of simulated agents around it.

Each simulated agent has the product's own connection, number, announcer, jitter and cache; many share one
process. It measures all agents starting together, look-ups under load, a server that is restarted or emptied,
and the server's memory by the size of the cluster. The server's figures are those of its process, so what the
load generators cost doesn't count; their own latencies need a machine with nothing else to do.
"""

import argparse
import sys

from benchmarks.arguments import listed, make_parser
from benchmarks.index.announcing import report_emptied, report_restart, report_start
from benchmarks.index.asking import Asking, report_lookups
from benchmarks.index.sizes import report_sizes
from benchmarks.index.stage import Size, Stage, staged
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run

_ROWS = ["start", "lookups", "restart", "emptied", "memory"]


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.index", __doc__, quick="200 agents, a few seconds each, small sizes")
    parser.add_argument("--agents", type=int, default=5000)
    parser.add_argument("--blobs", type=int, default=500, help="contents of each agent (500)")
    parser.add_argument("--contents", type=int, default=50_000, help="different ones in the cluster (50000)")
    parser.add_argument("--rate", type=float, default=2000, help="look-ups a second (2000)")
    parser.add_argument("--seconds", type=float, default=30, help="of each run of look-ups (30)")
    parser.add_argument("--rows", type=listed(str), default=_ROWS, help=f"of {','.join(_ROWS)}")
    return run(parser, _measure)


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    if arguments.quick:
        arguments.agents, arguments.contents, arguments.seconds = 200, 5000, 5.0
    if {*arguments.rows} - {"memory"}:
        _report_stage(report, arguments)
    if "memory" in arguments.rows:
        nodes = [50, 200] if arguments.quick else [100, 1000, 5000, 10_000]
        report_sizes(report, nodes=nodes, blobs=[500, 2000], digests=arguments.contents)


def _report_stage(report: Recorder, arguments: argparse.Namespace) -> None:
    size = Size(
        nodes=arguments.agents,
        blobs=arguments.blobs,
        digests=arguments.contents,
        askers=min(100, arguments.agents // 2),
    )
    with staged(size) as stage:
        report_start(report, stage)
        if "lookups" in arguments.rows:
            _report_lookups(report, stage, arguments)
        if "restart" in arguments.rows:
            report_restart(report, stage)
        if "emptied" in arguments.rows:
            report_emptied(report, stage)


def _report_lookups(report: Recorder, stage: Stage, arguments: argparse.Namespace) -> None:
    for seed, (digests, changes_per_s) in enumerate(((1, 0), (1, 1000), (16, 100))):
        asking = Asking(
            rate_per_s=arguments.rate,
            seconds=arguments.seconds,
            digests=digests,
            changes_per_s=changes_per_s,
            seed=seed,
        )
        report_lookups(report, stage, asking)


if __name__ == "__main__":
    sys.exit(main())
