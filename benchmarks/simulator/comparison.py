"""How far the simulator is from what real nodes did: the error of each figure. Pure.

Which node gets the claim, and who follows whom, differs from run to run. So the pulls' times are compared in
their order: the fastest with the fastest, the slowest with the slowest.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.simulator.trials import Observed, Trial

FIGURES: Mapping[str, Callable[[Observed, Trial], float]] = {
    "until the last node has it, s": lambda one, _: one.total_s,
    "a node's pull, median, s": lambda one, _: statistics.median(one.seconds.values()),
    "from the registry, copies": lambda one, trial: one.registry_bytes / trial.size_bytes,
    "across zones, copies": lambda one, trial: one.crossed_bytes / trial.size_bytes,
    "fetches of a layer": lambda one, trial: one.fetches / len(trial.layers_mib),
}
"""What is compared, and how it is read off a run."""

FINISHES = "each node's end, mean error, s"
"""The further figure: how far the simulated times are from the real ones, pull by pull."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One figure of one trial. ``real``, ``simulated``: the medians of the rounds; ``real_least``,
    ``real_most``: of the real ones. ``scale``: what the error is a share of.
    """

    trial: str
    figure: str
    real: float
    real_least: float
    real_most: float
    simulated: float
    scale: float

    @property
    def error(self) -> float:
        """Simulated less real, as a share of ``scale``. 0 if both are nothing."""
        return (self.simulated - self.real) / self.scale if self.scale else 0.0

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "trial": self.trial,
            "figure": self.figure,
            "real": self.real,
            "real_least": self.real_least,
            "real_most": self.real_most,
            "simulated": self.simulated,
            "error": self.error,
        }


def compare(trial: Trial, real: Sequence[Observed], simulated: Sequence[Observed]) -> Sequence[Compared]:
    """All figures of one trial."""
    found = []
    for figure, value in FIGURES.items():
        values = [value(one, trial) for one in real]
        found.append(
            Compared(
                trial=trial.name,
                figure=figure,
                real=statistics.median(values),
                real_least=min(values),
                real_most=max(values),
                simulated=statistics.median(value(one, trial) for one in simulated),
                scale=max(statistics.median(values), _LEAST),
            )
        )
    return (*found, _finishes(trial, real, simulated))


def _finishes(trial: Trial, real: Sequence[Observed], simulated: Sequence[Observed]) -> Compared:
    """The mean distance of the pulls' times, and the same between the real rounds and their own mean."""
    middle = _mean_times(real)
    apart = [statistics.fmean(map(_distance, _times(one), middle)) for one in real]
    return Compared(
        trial=trial.name,
        figure=FINISHES,
        real=0.0,
        real_least=0.0,
        real_most=max(apart),
        simulated=statistics.fmean(map(_distance, _mean_times(simulated), middle)),
        scale=middle[-1],
    )


_LEAST = 0.05  # copies: what heads, questions and acknowledgements are of an image


def _times(one: Observed) -> list[float]:
    return sorted(one.seconds.values())


def _mean_times(rounds: Sequence[Observed]) -> list[float]:
    return [statistics.fmean(each) for each in zip(*map(_times, rounds), strict=True)]


def _distance(one: float, other: float) -> float:
    return abs(one - other)
