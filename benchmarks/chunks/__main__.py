"""Pulls by a containerd 2.1 that fetches layers in parallel chunks, beside one that does not.

    python -m benchmarks.chunks [matrix] [crossing] [--chunks 8x16,20x1] [--holders one,dying] [--links 200]

It needs root. The matrix: nodes of one zone pull an image of one layer, of which holders behind limited
links have copies; a holder may be killed or frozen when a quarter is there. Crossing: six nodes in three
zones pull one after another. Rows that are compared alternate, and times are ratios to the unchunked row of
the same round. Bytes are the kernel's, of every link; beside them stand the agents' own figures.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks.arguments import link, listed, make_console, make_parser, parse
from benchmarks.chunks.crossing import Crossed, crossing
from benchmarks.chunks.rows import UNCHUNKED, Chunks, Condition, Holders, conditions
from benchmarks.chunks.stage import MIB, VERSION, Outcome, Stage, places
from benchmarks.lab.cluster import Cluster

_T = TypeVar("_T")
_HOLDERS = ("h1", "h2")
_SECTIONS = ("matrix", "crossing")


class Matrix:
    """Runs rows, prints each at once, and keeps them for the table."""

    def __init__(self, stage: Stage, console: Console) -> None:
        self._stage = stage
        self._console = console
        self.rows: dict[tuple[Condition, Chunks], list[Outcome]] = {}

    def measure(self, condition: Condition, settings: Sequence[Chunks], rounds: int) -> None:
        """Measure all settings in one condition, in turn."""
        for _ in range(rounds):
            for chunks in settings:
                outcome = self._stage.run(condition, chunks)
                self.rows.setdefault((condition, chunks), []).append(outcome)
                self._console.print(
                    f"{condition}, chunks {chunks}: {len(outcome.failures)} failed, {outcome.seconds:.1f} s",
                    highlight=False,
                )
                for failure in set(outcome.failures):
                    self._console.print(f"  {failure}", highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """All rows."""
        table = Table(title=f"pulls by containerd {VERSION}: MB, measured on this machine just now")
        table.add_column("holders, their links, nodes")
        for name in (
            "chunks", "failed", "s", "of unchunked", "needed", "holders' links", "others' links", "registry",
            "excess", "recorded", "accounted",
        ):  # fmt: skip
            table.add_column(name, justify="right")
        for (condition, chunks), outcomes in self.rows.items():
            if chunks == UNCHUNKED:
                table.add_section()
            table.add_row(str(condition), str(chunks), *self._cells(condition, outcomes))
        return table

    def _cells(self, condition: Condition, outcomes: Sequence[Outcome]) -> Iterable[str]:
        unchunked = self.rows[condition, UNCHUNKED]
        ratios = [one.seconds / other.seconds for one, other in zip(outcomes, unchunked, strict=True)]
        failed = sum(len(one.failures) for one in outcomes)
        yield f"{failed} of {condition.nodes * len(outcomes)}"
        yield f"{_median(outcomes, lambda one: one.seconds):.1f}"
        yield f"{statistics.median(ratios):.2f}"
        yield _mb(outcomes, lambda one: one.needed_bytes)
        yield _mb(outcomes, lambda one: sum(one.sent_bytes.get(name, 0) for name in _HOLDERS))
        yield _mb(
            outcomes, lambda one: one.from_peers_bytes - sum(one.sent_bytes.get(n, 0) for n in _HOLDERS)
        )
        yield _mb(outcomes, lambda one: one.from_registry_bytes)
        yield "–" if failed else f"{100 * _median(outcomes, lambda one: one.excess):.1f} %"
        yield _mb(outcomes, lambda one: one.recorded_bytes)
        yield _mb(outcomes, lambda one: one.accounted_bytes)


def measure_matrix(arguments: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Measure and print the matrix. Returns the rows for JSON."""
    askers = [f"n{number}" for number in range(1, max(arguments.nodes) + 1)]
    chosen = [each for each in arguments.chunks if each != UNCHUNKED]
    with Cluster(places(_HOLDERS, askers), versions=(VERSION,)) as cluster:
        stage = Stage(
            cluster, holders=_HOLDERS, askers=askers, layer_bytes=[arguments.layer_mib * MIB], settings=_QUIET
        )
        matrix = Matrix(stage, console)
        for condition in conditions(arguments.holders, arguments.links, arguments.nodes):
            matrix.measure(condition, [UNCHUNKED, *chosen], arguments.rounds)
    console.print(matrix.table())
    return [
        {"condition": str(condition), "chunks": str(chunks), "outcomes": [asdict(each) for each in outcomes]}
        for (condition, chunks), outcomes in matrix.rows.items()
    ]


def measure_crossing(arguments: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Measure and print what crosses zones. Returns the rows for JSON."""
    table = Table(title="node after node in three zones: MB, measured on this machine just now")
    for name in (
        "chunks", "failed", "s", "of unchunked", "bound", "crossed zones", "excess", "recorded", "accounted",
        "registry",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    chosen = [UNCHUNKED, *(each for each in arguments.chunks if each != UNCHUNKED)]
    rows: dict[Chunks, list[Crossed]] = {chunks: [] for chunks in chosen}
    layer_bytes = [arguments.layer_mib * MIB // 4] * 4
    with crossing(layer_bytes, settings=_QUIET) as stage:
        for _ in range(arguments.rounds):
            for chunks in chosen:
                rows[chunks].append(crossed := stage.run(chunks))
                console.print(f"node after node, chunks {chunks}: {crossed.seconds:.1f} s", highlight=False)
    for chunks, found in rows.items():
        ratios = [one.seconds / other.seconds for one, other in zip(found, rows[UNCHUNKED], strict=True)]
        table.add_row(
            str(chunks),
            str(sum(len(one.failures) for one in found)),
            f"{_median(found, lambda one: one.seconds):.1f}",
            f"{statistics.median(ratios):.2f}",
            _mb(found, lambda one: one.bound_bytes),
            _mb(found, lambda one: one.crossed_bytes),
            f"{100 * _median(found, lambda one: one.excess):.1f} %",
            _mb(found, lambda one: one.recorded_bytes),
            _mb(found, lambda one: one.accounted_bytes),
            _mb(found, lambda one: one.registry_bytes),
        )
    console.print(table)
    return [
        {"chunks": str(chunks), "crossed": [asdict(each) for each in found]} for chunks, found in rows.items()
    ]


_QUIET: dict[str, Any] = {"scrub": {"bytes_per_s": 0}}
"""Reading the whole store in the background is nothing that a pull costs."""


def _median(outcomes: Sequence[_T], value: Callable[[_T], float]) -> float:
    return statistics.median(map(value, outcomes))


def _mb(outcomes: Sequence[_T], value: Callable[[_T], float]) -> str:
    return f"{_median(outcomes, value) / 1e6:.0f}"


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.chunks", __doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(_SECTIONS)}; all if none")
    parser.add_argument(
        "--chunks",
        type=listed(Chunks.parse),
        default="3x16,8x16,20x16,20x1",
        help="how many of how many MiB (%(default)s); unchunked is always among them",
    )
    parser.add_argument(
        "--holders",
        type=listed(Holders.parse),
        default="one,two,dying,freezing",
        help="%(default)s; also restarting; dying-of-two and freezing-of-two while the registry is down",
    )
    parser.add_argument("--links", type=listed(link), default="none,1000,200", help="Mbit/s (%(default)s)")
    parser.add_argument("--nodes", type=listed(int), default="1,5", help="how many at once (%(default)s)")
    parser.add_argument("--layer-mib", type=int, default=256, help="%(default)s MiB")
    parser.add_argument("--rounds", type=int, default=1, help="how often each row is measured (%(default)s)")
    return parser


def main() -> int:
    """Measure, print the tables, and write the figures to the file of ``--json``."""
    parser = _parser()
    arguments = parse(parser, root_for="network namespaces and containerds")
    unknown = set(arguments.sections) - set(_SECTIONS)
    if unknown:
        parser.error(f"sections are {', '.join(_SECTIONS)}, not {', '.join(sorted(unknown))}")
    console = make_console()
    measures = {"matrix": measure_matrix, "crossing": measure_crossing}
    figures = {name: measures[name](arguments, console) for name in arguments.sections or _SECTIONS}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
