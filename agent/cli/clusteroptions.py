"""The options of ``shorthaul bench --cluster``, apart from what measures: help has no need of that."""

import argparse
from pathlib import Path

NODES, BYTES, SECONDS = 6, 2_000_000_000, 300.0
"""The bounds if a person names none: enough for figures, and little for a cluster that works."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    group = parser.add_argument_group(
        "on a cluster of your own",
        "Makes a Job on some nodes of each zone, from the agents' own image, and deletes it again. "
        "--image is then what its containerds pull and remove again (default: one that some nodes have); "
        f"--bytes and --seconds are of all nodes together (default {BYTES // 10**9}GB, {SECONDS:.0f}). "
        "docs/benchmarks.md says what it needs and what it may.",
    )
    group.add_argument("--cluster", action="store_true", help="measure a cluster, not this node's agent")
    group.add_argument("--namespace", help="the release's (default: that of the kubeconfig, or of the pod)")
    group.add_argument("--daemonset", default="", metavar="NAME", help="of the agents, if there are several")
    group.add_argument(
        "--nodes", type=int, default=NODES, metavar="N", help=f"how many take part (default: {NODES})"
    )
    group.add_argument("--only", choices=("latency", "pull"), default="", help="measure this alone")
    group.add_argument("--yes", action="store_true", help="don't ask before it begins")
    group.add_argument(
        "--clean", action="store_true", help="only end and delete what an earlier run has left, or still does"
    )
    group.add_argument("--kubeconfig", type=Path, metavar="FILE", help="as kubectl has it")
    group.add_argument("--context", metavar="NAME", help="of the kubeconfig (default: the current one)")
    group.add_argument(
        "--api", metavar="URL", help="the API server, for example of `kubectl proxy`: http://127.0.0.1:8001"
    )
