"""The figures of runs as tables: one for each workload, a row for each policy. The text is the console's."""

import itertools
from collections.abc import Iterator, Sequence

from rich.table import Table

from benchmarks.simulator.figures import Figures
from benchmarks.simulator.judging import Judged

_NOTHING = 0.0005  # of a copy
_HEADS = (
    "policy",
    "p50, s",
    "p99, s",
    "p99.9, s",
    "p99 / p50",
    "p99.9 / p50",
    "fetches per blob and scope",
    "registry sent, copies",
    "across zones, × least",
    "across, B per B",
    "USD",
    "last zone / first",
    "small zone / large",
    "dials to dead",
    "failed",
)


def tables(runs: Sequence[Figures]) -> Iterator[Table]:
    """One table for each workload and scope, in the order of the runs."""
    for _, group in itertools.groupby(runs, key=lambda run: (run.workload, run.nodes)):
        yield _table([*group])


def verdicts(judged: Sequence[Judged]) -> Iterator[str]:
    """A line for each promise and run."""
    for each in judged:
        mark, run = "✓" if each.kept else "✗", each.figures
        yield (
            f"{mark} {run.workload}, scope {run.scope}: {each.promise.what}: "
            f"{number(each.value)} (at most {number(each.promise.most)})"
        )


def number(value: float) -> str:
    """Three digits that count."""
    if value != value:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def copies(value: float) -> str:
    """The same, of copies: a few manifests are nothing."""
    return "0" if 0 <= value < _NOTHING else number(value)


def row(run: Figures) -> tuple[str, ...]:
    """One run's cells."""
    name = run.policy if run.scope == "none" else f"{run.policy}, {run.scope}"
    return (
        name,
        number(run.p50_s),
        number(run.p99_s),
        number(run.p999_s),
        number(run.p99_of_p50),
        number(run.p999_of_p50),
        number(run.fetches_per_scope),
        number(run.registry_copies),
        copies(run.crossed_copies),
        copies(run.crossed_per_delivered),
        f"{run.usd:,.2f}",
        number(run.zone_spread),
        number(run.small_zone),
        f"{run.dead_dials:,} of {run.dials:,}",
        str(run.failed),
    )


def markdown(runs: Sequence[Figures]) -> str:
    """The same as a table for a page."""
    lines = [_HEADS, ("---",) * len(_HEADS), *map(row, runs)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _table(runs: Sequence[Figures]) -> Table:
    first = runs[0]
    table = Table(
        title=f"{first.workload}: {first.nodes:,} nodes in {first.zones} zones, "
        f"{first.size_bytes / 1e6:,.0f} MB, seed {first.seed}; simulated",
        title_justify="left",
    )
    for head in _HEADS:
        first_column = head == "policy"
        table.add_column(head, justify="left" if first_column else "right", no_wrap=first_column)
    for run in runs:
        table.add_row(*row(run))
    return table
