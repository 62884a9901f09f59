"""The ways of one section beside each other: each as it is measured, then a table; all of it is recorded."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from benchmarks.coldstart.fleet import Outcome
from benchmarks.reporting.format import Better
from benchmarks.reporting.recorder import Recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a way should keep to. ``what``: in words. ``kept``: of its outcomes and the yardstick's."""

    what: str
    kept: Callable[[Sequence[Outcome], Sequence[Outcome]], bool]


ALL_WHOLE = Bound(what="all whole", kept=lambda these, _: not any(one.failures for one in these))


@dataclass(slots=True)
class Section:
    """The outcomes by way, in the order in which the ways came first. The first way is the yardstick.

    ``nodes``: how many pull at once. ``bounds``: of ways, by their names.
    """

    title: str
    report: Recorder
    nodes: int
    bounds: Mapping[str, Sequence[Bound]] = field(default_factory=dict)
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.report.begin(self.title)

    def add(self, way: str, outcome: Outcome) -> None:
        """Keep and print one outcome."""
        self.outcomes.setdefault(way, []).append(outcome)
        self._tell(
            f"{way}: {len(outcome.failures)} failed, {outcome.slowest_s:.1f} s, "
            f"{outcome.registry_bytes / 1e6:.0f} MB from the registry, {dict(outcome.claims)}"
        )
        for name, givers in outcome.given.items():
            told = ", ".join(f"{giver} {taken / 1e6:.0f}" for giver, taken in givers.items()) or "no peer"
            self._tell(f"  {name}: {outcome.seconds.get(name, float('nan')):.1f} s, MB from {told}")
        for failure in sorted(set(outcome.failures)):
            self._tell(f"  {failure}")
        self._record(way, outcome)

    def _record(self, way: str, outcome: Outcome) -> None:
        first = next(iter(self.outcomes))
        for what, unit, value in _figures(outcome):
            better = Better.NEITHER if what in _TOLD else Better.LOWER
            self.report.value(what, unit, value, way=way, baseline=first, better=better)

    @property
    def first(self) -> Sequence[Outcome]:
        """The outcomes of the yardstick."""
        return next(iter(self.outcomes.values()))

    def show(self) -> None:
        """Print the table with medians, and what each way keeps to."""
        table = Table(title=self.title, title_justify="left")
        table.add_column("measured on this machine just now")
        for way in self.outcomes:
            table.add_column(way, justify="right")
        columns = [dict(self._cells(outcomes)) for outcomes in self.outcomes.values()]
        for name in columns[0]:
            table.add_row(name, *(column[name] for column in columns))
        self.report.console.print(table)
        for way, outcomes in self.outcomes.items():
            for bound in self.bounds.get(way, ()):
                kept = bound.kept(outcomes, self.first)
                (self.report.verdict if kept else self.report.loss)(
                    f"{'✓' if kept else '✗'} {way}: {bound.what}"
                )

    def _tell(self, line: str) -> None:
        self.report.console.print(line, highlight=False, soft_wrap=True)

    def _cells(self, outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str]]:
        failed = sum(len(one.failures) for one in outcomes)
        yield "pulls that failed", f"{failed} of {sum(self.nodes - bool(one.struck) for one in outcomes)}"
        yield "slowest pull, s", f"{middle(outcomes, lambda one: one.slowest_s):.1f}"
        yield "of the first way's", f"{slowness(outcomes, self.first):.2f}"
        yield "slowest of fastest", f"{middle(outcomes, lambda one: one.unevenness):.2f}"
        yield "GETs of a manifest, most", str(max(one.fetches.manifest_gets_most for one in outcomes))
        yield "GETs of a blob, most", str(max(one.fetches.blob_gets_most for one in outcomes))
        yield "nodes that got a blob, most", str(max(one.fetches.blob_nodes_most for one in outcomes))
        yield "from the registry, MB", _mb(outcomes, lambda one: one.registry_bytes)
        yield "a node's link carried, MB, most", _mb(outcomes, lambda one: max(one.sent_bytes.values()))
        yield "across zones, MB", _mb(outcomes, lambda one: one.crossed_bytes)
        yield "from nodes in flight, MB", _mb(outcomes, lambda one: one.in_flight_bytes)
        yield "all agents, CPU-s", f"{middle(outcomes, lambda one: one.cpu_s):.1f}"
        yield "largest agent, MiB", f"{max(one.peak_mib for one in outcomes):.0f}"
        yield "kept beyond the image, MB", f"{max(one.kept_bytes for one in outcomes) / 1e6:.1f}"
        yield "claims (the last)", "\n".join(f"{number} {how}" for how, number in outcomes[-1].claims.items())


_TOLD = ("from nodes in flight", "across zones")
"""Neither more nor less of these is better by itself."""


def _figures(outcome: Outcome) -> Iterator[tuple[str, str, float]]:
    yield "slowest pull", "s", outcome.slowest_s
    yield "slowest of fastest", "×", outcome.unevenness
    yield "pulls that failed", "", float(len(outcome.failures))
    yield "GETs of a manifest, most", "", float(outcome.fetches.manifest_gets_most)
    yield "GETs of a blob, most", "", float(outcome.fetches.blob_gets_most)
    yield "nodes that got a blob, most", "", float(outcome.fetches.blob_nodes_most)
    yield "from the registry", "MB", outcome.registry_bytes / 1e6
    yield "a node's link carried, most", "MB", max(outcome.sent_bytes.values()) / 1e6
    yield "across zones", "MB", outcome.crossed_bytes / 1e6
    yield "from nodes in flight", "MB", outcome.in_flight_bytes / 1e6
    yield "all agents", "CPU-s", outcome.cpu_s
    yield "largest agent", "MiB", outcome.peak_mib


def middle(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> float:
    """The median."""
    return statistics.median(map(value, outcomes))


def slowness(outcomes: Sequence[Outcome], first: Sequence[Outcome]) -> float:
    """The slowest pull's time as a multiple of the yardstick's in the same round: the median."""
    return statistics.median(
        one.slowest_s / other.slowest_s for one, other in zip(outcomes, first, strict=False)
    )


def rate(link_mbit_s: float | None) -> str:
    """A link's rate in words."""
    return "without a limit" if link_mbit_s is None else f"at {link_mbit_s:.0f} Mbit/s"


def _mb(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> str:
    return f"{middle(outcomes, value) / 1e6:.0f}"
