"""Real containerds pull images: from the registry, through a caching nginx, and through shorthaul.

    python -m benchmarks.pull [--quick] [--images 10MB-1,100MB-4] [--ways registry,nginx,shorthaul,cluster]

It needs root. The images are those of the field's public benchmark, and so are the two ways to begin: all
nodes at once, as a new DaemonSet's, and then another release, 20 % of the nodes at a time, as in a rolling
update. Ways take turns, on links with limits. Pulls are timed at the client (CRI), as the kubelet does.
"""

import argparse
import sys
from dataclasses import replace

from benchmarks.arguments import link, listed, make_parser
from benchmarks.lab.containerd import VERSIONS
from benchmarks.lab.process import LabError
from benchmarks.pull.plan import Size, Way
from benchmarks.pull.run import FULL, QUICK, measure
from benchmarks.pull.stage import Links
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import BenchmarkFailed, run


def _version(text: str) -> str:
    if text not in VERSIONS:
        raise ValueError(text)
    return text


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.pull", __doc__, quick="images of 10 and 100 MB: five minutes")
    add = parser.add_argument
    add("--images", type=listed(Size.parse), help="such as 10MB-1,1GB-4: the size, and in how many layers")
    add("--ways", type=listed(Way.parse), help="of registry, nginx, shorthaul, cluster (all)")
    add("--rounds", type=int, help="how often each is measured (5, of 1 GB 3; --quick: 10 MB 5, 100 MB once)")
    add("--per-zone", type=int, default=2, help="nodes in each of three zones (%(default)s)")
    add("--containerd", type=listed(_version), default="2.1", help="versions, in turn (%(default)s)")
    add("--registry-link", type=link, default="500", help="the registry's, in Mbit/s, or none (%(default)s)")
    add("--link", type=link, default="1000", help="each node's and nginx's, the same (%(default)s)")
    return run(parser, _measure, root_for="network namespaces and containerds")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    base = QUICK if arguments.quick else FULL
    sizes = arguments.images or [*base.rounds]
    options = replace(
        base,
        rounds={size: arguments.rounds or base.rounds.get(size, 1) for size in sizes},
        ways=arguments.ways or base.ways,
        per_zone=arguments.per_zone,
        versions=arguments.containerd,
        links=Links(registry_mbit_s=arguments.registry_link, node_mbit_s=arguments.link),
    )
    try:
        measure(report, options)
    except LabError as error:
        raise BenchmarkFailed(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
