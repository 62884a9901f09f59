"""Cold starts: many nodes at once pull what no node has yet, or what only one has.

    python -m benchmarks.coldstart [once] [limited] [unlimited] [holder] [small] [--quick] [--json FILE]

It needs root. Rows that are compared alternate in one run. Who fetched what is the registry's own log's word,
bytes are the kernel's.

once: eight nodes in two zones; how often each zone asks the registry for each manifest and each blob; also
when the node that fetches is killed or frozen. limited, unlimited: six nodes in three zones, with a limited
link to the registry and without. holder: one node has everything, five of its zone pull from it. small: what
claims add to the pulls of small images.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.arguments import link, listed, make_parser
from benchmarks.chunks.rows import Chunks
from benchmarks.coldstart.holder import measure_holder
from benchmarks.coldstart.once import measure_once
from benchmarks.coldstart.release import measure_limited, measure_unlimited
from benchmarks.coldstart.rows import Client, Trouble, Way
from benchmarks.coldstart.small import measure_small
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run

_SECTIONS: dict[str, Callable[[argparse.Namespace, Recorder], None]] = {
    "once": measure_once,
    "limited": measure_limited,
    "unlimited": measure_unlimited,
    "holder": measure_holder,
    "small": measure_small,
}
_WAYS = {"direct": Way.DIRECT, "off": Way.OFF, "zone": Way.ZONE, "cluster": Way.CLUSTER}
_QUIET: dict[str, Any] = {"scrub": {"bytes_per_s": 0}}
"""Reading the whole store in the background is nothing that a pull costs."""
_QUICK = {"once_mib": 32, "release_mib": 128, "holder_mib": 128, "small_pulls": 80}


def _way(text: str) -> Way:
    if text not in _WAYS:
        raise ValueError(text)
    return _WAYS[text]


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.coldstart", __doc__, quick="smaller images")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(_SECTIONS)}; all if none")
    add = parser.add_argument
    add("--rounds", type=int, default=1, help="how often each row is measured (%(default)s)")
    add("--ways", type=listed(_way), default="direct,zone,cluster,off", help="%(default)s")
    add(
        "--clients",
        type=listed(Client.parse),
        default="1.6,1.7,2.1,2.1/8x4",
        help="once: %(default)s; 2.1/8x4 fetches in eight chunks of 4 MiB",
    )
    add(
        "--troubles",
        type=listed(Trouble.parse),
        default="killed@10,killed@50,killed@90,frozen@50",
        help="once: %(default)s; or none",
    )
    add(
        "--index", choices=("scatter", "valkey"), default="scatter", help="who knows who has it (%(default)s)"
    )
    add("--per-zone", type=int, default=4, help="once: nodes in each zone (%(default)s)")
    add("--once-mib", type=int, default=128, help="once: the large layer (%(default)s MiB)")
    add("--once-link", type=link, default="400", help="once: the registry's link (%(default)s Mbit/s)")
    add("--release-mib", type=int, default=1024, help="limited, unlimited: %(default)s MiB in four layers")
    add("--release-chunks", type=Chunks.parse, default="off", help="limited, unlimited (%(default)s)")
    add("--link", type=float, default=600, help="limited: the registry's link (%(default)s Mbit/s)")
    add("--holder-mib", type=int, default=1024, help="holder: %(default)s MiB")
    add("--holder-layers", type=int, default=1, help="holder: in so many layers (%(default)s)")
    add("--holder-chunks", type=listed(Chunks.parse), default="off,20x16", help="holder: %(default)s")
    add("--holder-link", type=float, default=1000, help="holder: its link (%(default)s Mbit/s)")
    add("--small-pulls", type=int, default=200, help="small: how many each way (%(default)s)")
    return parser


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = _parser()

    def check(arguments: argparse.Namespace) -> None:
        unknown = set(arguments.sections) - set(_SECTIONS)
        if unknown:
            parser.error(f"sections are {', '.join(_SECTIONS)}, not {', '.join(sorted(unknown))}")

    return run(parser, _measure, root_for="network namespaces and containerds", check=check)


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    if arguments.quick:
        vars(arguments).update(_QUICK)
    arguments.settings = _QUIET
    for name in arguments.sections or _SECTIONS:
        _SECTIONS[name](arguments, report)


if __name__ == "__main__":
    sys.exit(main())
