"""Pulls by a containerd 2.1 that fetches layers in parallel chunks, beside one that does not.

    python -m benchmarks.chunks [matrix] [crossing] [--chunks 8x16,20x1] [--holders one,dying] [--links 200]

It needs root. The matrix: nodes of one zone pull an image of one layer, of which holders behind limited
links have copies; a holder may be killed or frozen when a quarter is there. Crossing: six nodes in three
zones pull one after another. Rows that are compared alternate, and times are ratios to the unchunked row of
the same round. Bytes are the kernel's, of every link; beside them stand the agents' own figures.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from rich.table import Table

from benchmarks.arguments import link, listed, make_parser
from benchmarks.chunks.crossing import Crossed, crossing
from benchmarks.chunks.rows import UNCHUNKED, Chunks, Condition, Holders, conditions
from benchmarks.chunks.stage import MIB, VERSION, Outcome, Stage, places
from benchmarks.lab.cluster import Cluster
from benchmarks.reporting.format import Better
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run

_T = TypeVar("_T")
_HOLDERS = ("h1", "h2")
_SECTIONS = ("matrix", "crossing")


class Matrix:
    """Runs rows, prints each at once, and keeps them for the table and the report."""

    def __init__(self, stage: Stage, report: Recorder) -> None:
        self._stage = stage
        self._report = report
        self._console = report.console
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
                self._record(condition, chunks, outcome)

    def _record(self, condition: Condition, chunks: Chunks, outcome: Outcome) -> None:
        for what, unit, value in (
            ("pull", "s", outcome.seconds),
            ("pulls that failed", "", float(len(outcome.failures))),
            ("needed", "MB", outcome.needed_bytes / 1e6),
            ("holders' links", "MB", sum(outcome.sent_bytes.get(name, 0) for name in _HOLDERS) / 1e6),
            ("registry", "MB", outcome.from_registry_bytes / 1e6),
            ("excess", "%", 100 * outcome.excess),
            ("recorded", "MB", outcome.recorded_bytes / 1e6),
            ("accounted", "MB", outcome.accounted_bytes / 1e6),
        ):
            self._report.value(
                f"{condition}: {what}",
                unit,
                value,
                way=str(chunks),
                baseline=str(UNCHUNKED),
                better=Better.LOWER if what in ("pull", "pulls that failed", "excess") else Better.NEITHER,
            )

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


def measure_matrix(arguments: argparse.Namespace, report: Recorder) -> None:
    """Measure, print and record the matrix."""
    report.begin(
        "matrix", question="What do parallel chunks cost nodes of one zone, when holders are slow or die?"
    )
    askers = [f"n{number}" for number in range(1, max(arguments.nodes) + 1)]
    chosen = [each for each in arguments.chunks if each != UNCHUNKED]
    with Cluster(places(_HOLDERS, askers), versions=(VERSION,)) as cluster:
        stage = Stage(
            cluster, holders=_HOLDERS, askers=askers, layer_bytes=[arguments.layer_mib * MIB], settings=_QUIET
        )
        matrix = Matrix(stage, report)
        for condition in conditions(arguments.holders, arguments.links, arguments.nodes):
            matrix.measure(condition, [UNCHUNKED, *chosen], arguments.rounds)
    report.console.print(matrix.table())


def measure_crossing(arguments: argparse.Namespace, report: Recorder) -> None:
    """Measure, print and record what crosses zones."""
    report.begin(
        "crossing", question="What crosses zones when six nodes in three zones pull one after another?"
    )
    console = report.console
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
                _record_crossed(report, chunks, crossed)
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


def _record_crossed(report: Recorder, chunks: Chunks, crossed: Crossed) -> None:
    for what, unit, value in (
        ("node after node", "s", crossed.seconds),
        ("pulls that failed", "", float(len(crossed.failures))),
        ("crossed zones", "MB", crossed.crossed_bytes / 1e6),
        ("bound", "MB", crossed.bound_bytes / 1e6),
        ("excess", "%", 100 * crossed.excess),
        ("registry", "MB", crossed.registry_bytes / 1e6),
    ):
        report.value(
            what,
            unit,
            value,
            way=str(chunks),
            baseline=str(UNCHUNKED),
            better=Better.NEITHER if what == "bound" else Better.LOWER,
        )


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
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = _parser()

    def check(arguments: argparse.Namespace) -> None:
        unknown = set(arguments.sections) - set(_SECTIONS)
        if unknown:
            parser.error(f"sections are {', '.join(_SECTIONS)}, not {', '.join(sorted(unknown))}")

    return run(parser, _measure, root_for="network namespaces and containerds", check=check)


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    measures = {"matrix": measure_matrix, "crossing": measure_crossing}
    for name in arguments.sections or _SECTIONS:
        measures[name](arguments, report)


if __name__ == "__main__":
    sys.exit(main())
