"""What a server did and used in a while, from samples of its counters. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

_PEAK_S = 0.9  # the least that a peak is measured over


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The counters of one server process at a moment, from its start on.

    ``requests``: what it read from sockets, so a pipeline counts once. ``commands`` are counted one by one,
    those of scripts too. ``changes``: bits that were set or unset, even if that changed nothing.
    """

    at_s: float
    cpu_s: float
    requests: int
    commands: int
    changes: int
    memory_bytes: int  # as the server counts its own
    clients: int


Counter = Callable[[Sample], float]


@dataclass(frozen=True, slots=True)
class Usage:
    """Samples in order: one list for each process of the server, because a restart begins at 0."""

    runs: Sequence[Sequence[Sample]]

    @property
    def seconds(self) -> float:
        """From the first sample to the last."""
        return self.runs[-1][-1].at_s - self.runs[0][0].at_s

    def total(self, counter: Counter) -> float:
        """How much was counted."""
        first, *later = self.runs
        return counter(first[-1]) - counter(first[0]) + sum(counter(run[-1]) for run in later)

    def peak_per_s(self, counter: Counter) -> float:
        """The most that was counted within about a second, for each second."""
        return max((_peak(run, counter) for run in self.runs), default=0.0)

    def most(self, level: Counter) -> float:
        """The largest value."""
        return max(level(sample) for run in self.runs for sample in run)

    @property
    def cpu_percent(self) -> float:
        """The share of one core."""
        return 100 * self.total(lambda sample: sample.cpu_s) / self.seconds


def _peak(run: Sequence[Sample], counter: Counter) -> float:
    peak, start = 0.0, 0
    for at, sample in enumerate(run):
        while start + 1 < at and sample.at_s - run[start + 1].at_s >= _PEAK_S:
            start += 1
        passed_s = sample.at_s - run[start].at_s
        if passed_s >= _PEAK_S:
            peak = max(peak, (counter(sample) - counter(run[start])) / passed_s)
    return peak
