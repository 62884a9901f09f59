"""Simulate clusters of thousands of nodes that run the product's own decisions.

    python -m benchmarks.simulator [run]     what --workload and --policy say, at --nodes
    python -m benchmarks.simulator show      all figures of docs/simulator.md (half an hour)
    python -m benchmarks.simulator validate  real nodes beside the simulation of the same (needs root)

The same seed gives the same output, bit for bit, apart from the seconds that the simulation itself took.
docs/simulator.md says what is modelled, and what is not.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.arguments import make_parser, require_root
from benchmarks.reporting.format import Better
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run as run_benchmark
from benchmarks.simulator.figures import Figures
from benchmarks.simulator.judging import judge
from benchmarks.simulator.pages import parts_of, write_pages
from benchmarks.simulator.plans import CUSTOMARY, SCOPES, Plan, plan, shown
from benchmarks.simulator.plots import draw
from benchmarks.simulator.policies import DESCRIPTIONS, POLICIES
from benchmarks.simulator.reading import figures_of
from benchmarks.simulator.run import run
from benchmarks.simulator.table import tables, verdicts
from benchmarks.simulator.validation import validate
from benchmarks.simulator.workloads import MB, WORKLOADS

_ROOT = Path(__file__).parents[2]
_PAGES = ("README.md", "docs/simulator.md")
_COLUMNS = 190  # of a table that goes to a file
_ALL = "all"
_NODES = {"run": 1000, "show": 5000}
_QUICK_NODES, _QUICK_IMAGE_MB = 300, 200


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "benchmarks.simulator",
        __doc__,
        quick=f"{_QUICK_NODES} nodes and {_QUICK_IMAGE_MB} MB, within a minute",
    )
    parser.epilog = "\n\n".join(
        (
            "workloads:\n" + _listing({name: each.words for name, each in WORKLOADS.items()}),
            "policies:\n" + _listing(DESCRIPTIONS),
        )
    )
    add = parser.add_argument
    add("what", nargs="?", choices=("run", "show", "validate"), default="run", help="see above (%(default)s)")
    add("--nodes", type=_positive, metavar="N", help="nodes (run: 1000, show: 5000)")
    add("--image-mb", type=_positive, metavar="MB", help="the image, in four layers (1000)")
    add("--seed", type=int, default=1, help="another seed, another course (%(default)s)")
    add(
        "--workload",
        type=_chosen(WORKLOADS),
        default="everyone",
        metavar="NAME,…",
        help="run: %(default)s; or all",
    )
    add("--policy", type=_chosen(POLICIES), default=_ALL, metavar="NAME,…", help="run: %(default)s")
    add(
        "--scope",
        type=_chosen(SCOPES),
        default=_ALL,
        metavar="NAME,…",
        help=f"run: of the product's claims: zone, cluster, or both (%(default)s). Others: {CUSTOMARY}",
    )
    add("--plots", type=Path, metavar="FOLDER", help="run, show: draw a PNG for each workload there")
    add("--pages", action="store_true", help="show: write figures and picture into README.md and docs/")
    add("--rounds", type=_positive, default=3, help="validate: real runs of each trial (%(default)s)")
    add(
        "--recorded", action="store_true", help="validate: take the real runs from the record; no root needed"
    )
    add("--record", type=Path, metavar="FILE", help="validate: keep the real runs there")
    return parser


def _listing(words: Mapping[str, str]) -> str:
    return "\n".join(f"  {name:<12}{text}" for name, text in words.items())


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def _chosen(names: Iterable[str]) -> Callable[[str], list[str]]:
    known = [*names]

    def choose(text: str) -> list[str]:
        chosen = known if text == _ALL else text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}, {_ALL}")
        return chosen

    return choose


def main() -> int:
    """Simulate, print the tables, and write what was asked for: see `benchmarks.running`."""
    parser = _parser()

    def check(arguments: argparse.Namespace) -> None:
        if arguments.what == "validate" and not arguments.recorded:
            require_root(parser, "network namespaces and containerds")

    return run_benchmark(parser, _measure, check=check)


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    if arguments.quick:
        arguments.nodes = arguments.nodes or _QUICK_NODES
        arguments.image_mb = arguments.image_mb or _QUICK_IMAGE_MB
    if arguments.what == "validate":
        validate(arguments, report)
        return
    runs = simulate(_plans(arguments), report)
    judged = [*judge(runs)]
    console = report.console
    for table in tables(runs):
        console.print(table, width=None if console.is_terminal else _COLUMNS)
    for line, each in zip(verdicts(judged), judged, strict=True):
        (report.verdict if each.kept else report.loss)(line)
    if arguments.plots:
        for picture in draw(runs, arguments.plots):
            console.print(f"{picture.path}: {picture.words}", highlight=False, soft_wrap=True)
    if arguments.pages:
        write_pages([_ROOT / page for page in _PAGES], parts_of(runs, judged))
        for _ in draw([run for run in runs if run.workload == "everyone"], _ROOT / "docs" / "pictures"):
            pass


def _plans(arguments: argparse.Namespace) -> Sequence[Plan]:
    size: dict[str, Any] = {
        "nodes": arguments.nodes or _NODES[arguments.what],
        "image_bytes": (arguments.image_mb or 1000) * MB,
        "seed": arguments.seed,
    }
    if arguments.what == "show":
        return shown(**size)
    return [*plan(arguments.workload, arguments.policy, arguments.scope, **size)]


def simulate(plans: Sequence[Plan], report: Recorder) -> list[Figures]:
    """Run them one after another, tell how far that is, and record each."""
    runs: list[Figures] = []
    whole, done = sum(each.weight for each in plans) or 1.0, 0.0
    for number, each in enumerate(plans, start=1):
        name = f"{number} of {len(plans)}: {each}"
        report.console.print(f"{name} …", highlight=False, soft_wrap=True, markup=False)
        told = partial(_told, report, name, done / whole, each.weight / whole)
        result = run(each.scenario, POLICIES[each.policy], progress=told)
        done += each.weight
        runs.append(figures_of(result, workload=each.workload, policy=each.policy, scope=each.scope))
        _record(report, runs[-1])
    return runs


def _told(
    report: Recorder, name: str, before: float, part: float, now_s: float, finished: int, wanted: int
) -> None:
    """``before``: the share of all that was done before this run, ``part``: that of this run."""
    doing = f"{name}, {now_s:.0f} s of the cluster's time, {finished:,} of {wanted:,} pulls done"
    report.step(doing, before + part * finished / max(1, wanted))


def _record(report: Recorder, found: Figures) -> None:
    """Simulated figures have no noise: the same seed gives the same ones."""
    report.begin(
        found.workload,
        question=WORKLOADS[found.workload].words,
        method=f"Simulated: {found.nodes:,} nodes in {found.zones} zones, {found.size_bytes / 1e6:,.0f} MB, "
        f"seed {found.seed}. docs/simulator.md says what is modelled.",
    )
    way = found.policy if found.scope == "none" else f"{found.policy}, scope {found.scope}"
    for what, unit, value in (
        ("p50", "s", found.p50_s),
        ("p99", "s", found.p99_s),
        ("p99.9", "s", found.p999_s),
        ("the last node", "s", found.last_s),
        ("pulls that failed", "", float(found.failed)),
        ("registry asked, per blob and scope", "", found.fetches_per_scope),
        ("registry sent", "GB", found.registry_copies * found.size_bytes / 1e9),
        ("across zones, × the least", "×", found.crossed_copies),
        ("cost", "USD", found.usd),
        ("the last zone, × the first", "×", found.zone_spread),
        ("dials to nodes that were gone", "", float(found.dead_dials)),
    ):
        report.value(what, unit, value, way=way, better=Better.LOWER)


if __name__ == "__main__":
    sys.exit(main())
