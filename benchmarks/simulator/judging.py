"""What the product promises of large clusters, and whether a run keeps it. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.simulator.figures import Figures

PRODUCT = "shorthaul"
"""The name of the product's own policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One bound. ``applies``: to which runs. ``value``: what of a run is at most ``most``."""

    what: str
    most: float
    value: Callable[[Figures], float]
    applies: Callable[[Figures], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A promise, and what a run came to."""

    promise: Promise
    figures: Figures

    @property
    def value(self) -> float:
        """What is held against the bound."""
        return self.promise.value(self.figures)

    @property
    def kept(self) -> bool:
        """Whether the run keeps it. NaN keeps nothing."""
        return self.value <= self.promise.most


def _runs(*workloads: str, scope: str | None = None) -> Callable[[Figures], bool]:
    return lambda figures: figures.workload in workloads and scope in (None, figures.scope)


PROMISES = (
    Promise(
        what="the slowest 1 % take at most 1.5 × the median",
        most=1.5,
        value=lambda run: run.p99_of_p50,
        applies=_runs("everyone"),
    ),
    Promise(
        what="the registry is asked once for each blob and scope",
        most=1.01,
        value=lambda run: run.fetches_per_scope,
        applies=_runs("everyone", "small-zone"),
    ),
    Promise(
        what="what crosses zones is near the least that must",
        most=1.2,
        value=lambda run: run.crossed_copies,
        applies=_runs("everyone", scope="cluster"),
    ),
    Promise(
        what="no layer crosses zones (manifests and configs may)",
        most=0.001,
        value=lambda run: run.crossed_copies,
        applies=_runs("everyone", scope="zone"),
    ),
    Promise(
        what="the small far zone is about as fast as the big near one",
        most=1.3,
        value=lambda run: run.small_zone,
        applies=_runs("small-zone"),
    ),
    Promise(
        what="dials to dead peers",
        most=0.001,
        value=lambda run: run.dead_share,
        applies=_runs("churn"),
    ),
    Promise(
        what="no pull fails",
        most=0,
        value=lambda run: float(run.failed),
        applies=lambda run: run.workload != "cut",  # these nodes reach nobody, the registry neither
    ),
)


def judge(runs: Sequence[Figures]) -> Iterator[Judged]:
    """Hold the product's runs against its promises."""
    for promise in PROMISES:
        for run in runs:
            if run.policy == PRODUCT and promise.applies(run):
                yield Judged(promise=promise, figures=run)
