"""Quantiles, and how a number is shown. Pure."""

import itertools
import math
from collections.abc import Iterable, Sequence

_SECOND = {"s": 1.0, "ms": 1e3, "µs": 1e6}

LOWER_UNITS = frozenset(
    {
        "s",
        "ms",
        "µs",
        "us",
        "ns",
        "MiB",
        "MB",
        "GB",
        "bytes",
        "USD",
        "CPU-s",
        "CPU-s/GiB",
        "kB/s",
        "% of a core",
    }
)
HIGHER_UNITS = frozenset({"GB/s", "MB/s", "Gbit/s", "Mbit/s", "/s"})
TIMED_UNITS = frozenset({"s", "ms", "µs", "us", "ns", "CPU-s", "CPU-s/GiB", "% of a core"}) | HIGHER_UNITS
"""What another machine changes."""

COUNTED_UNITS = frozenset({"", "bytes", "bytes a blob", "kB", "MB", "GB", "lines", "times"})
"""Of what is counted, and not measured: equal work gives the same number each time, if nothing varies."""


def at(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of the sorted values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else math.nan


def blocks(values: Sequence[float], most: int) -> list[list[float]]:
    """The values in at most so many blocks of neighbours, as equal as can be."""
    number = min(most, len(values))
    borders = [len(values) * each // number for each in range(number + 1)] if number else []
    return [[*values[begin:end]] for begin, end in itertools.pairwise(borders)]


def in_unit(seconds: float, unit: str) -> float:
    """Seconds in ``s``, ``ms`` or ``µs``."""
    return seconds * _SECOND[unit]


def shown(value: float | None) -> str:
    """A number with three digits. Empty: there is none."""
    if value is None or math.isnan(value):
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def spread(values: Iterable[float]) -> tuple[float, float, float] | None:
    """The lower quartile, the median and the upper one. None without values."""
    ordered = sorted(values)
    if not ordered:
        return None
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return at(ordered, 0.25), median, at(ordered, 0.75)
