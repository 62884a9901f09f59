"""What a report is: the one format of all benchmarks, as typed values and as JSON. Pure.

A report has sections, a section answers one question with figures, and a figure has one series for each way
that was measured. A series has one value for each repeat, or one histogram for each repeat: what happened
within a repeat is never taken for a further repeat, because that would hide how much repeats differ.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent.documents.codec import DocumentInvalid, decode, to_plain

FORMAT = 1
"""The number of this format. It grows when an older reader would misunderstand a report."""

KIND = "shorthaul-benchmark"
"""What a report says it is, so that nobody takes another JSON file for one."""


class Better(StrEnum):
    """Which direction of a figure is good."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"


class ReportInvalid(Exception):
    """A file is no report that can be read. ``hint``: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What was timed within one repeat: how many, their quartiles and their 95th percentile."""

    count: int
    lower: float
    median: float
    upper: float
    p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What one way gave.

    ``way``: its name; empty if the figure has one only. ``values``: one for each repeat, None where it
    failed. Ways of one figure that were measured in turn have the values of one round at the same place.
    ``histograms``: in place of values, one for each repeat: HdrHistogram V2 in base64, in nanoseconds.
    ``samples``: the values are medians of blocks of these, in the order of time: there was one repeat.
    """

    way: str = ""
    values: tuple[float | None, ...] = ()
    histograms: tuple[str, ...] = ()
    samples: Samples | None = None

    @property
    def measured(self) -> tuple[float, ...]:
        """The values of the repeats that did not fail."""
        return tuple(each for each in self.values if each is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a report.

    ``unit``: of values; of histograms it is what they are shown in, ``ms`` or ``µs``. ``target``: the largest
    value that is good, or the smallest if higher is better. ``bound``: the target holds for nearly all, so
    the 95th percentile is compared with it, not the median. ``of``: how many things were counted or timed,
    where that is more than the number of values. ``baseline``: the way that the others are compared with.
    """

    what: str
    unit: str = ""
    better: str = Better.NEITHER.value
    series: tuple[Series, ...]
    target: float | None = None
    bound: bool = False
    of: int = 0
    baseline: str = ""
    note: str = ""

    def way(self, name: str) -> Series | None:
        """The series of this way, None without it."""
        return next((each for each in self.series if each.way == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The answer to one question.

    ``question``: in words, for who does not know the code. ``method``: how it was measured. ``verdicts``:
    what the figures mean. ``losses``: where this project is behind, in words; the page lists them first.
    """

    name: str
    question: str = ""
    method: str = ""
    figures: tuple[Figure, ...] = ()
    verdicts: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    seconds: float = 0.0

    def figure(self, what: str) -> Figure | None:
        """The figure of this name, None without it."""
        return next((each for each in self.figures if each.what == what), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A named value, as text."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """On what was measured.

    ``busy_percent``: of the processors' time, what others took when nothing was measured, before and after.
    ``steal_percent``: the processor time that other guests of the host took meanwhile. ``load_before``,
    ``load_after``: processes that run or wait for a disk, the mean of a minute. Without name and address:
    reports are published.
    """

    processor: str
    processors: int
    memory_mib: int
    kernel: str
    virtual: str = ""
    governor: str = ""
    busy_percent: float | None = None
    load_before: float | None = None
    load_after: float | None = None
    steal_percent: float | None = None

    @property
    def identity(self) -> tuple[str, int, int, str]:
        """What must be the same for seconds to be comparable. Memory to a sixteenth: kernels keep some."""
        return self.processor, self.processors, round(self.memory_mib / 1024 * 16) // 16, self.virtual


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What was measured. ``commit``: empty if it does not come from a checkout; ``dirty``: with changes."""

    version: str
    commit: str = ""
    dirty: bool = False
    versions: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """``began``: a date and a time in UTC; nothing is computed from it. ``seconds``: on the monotonic clock.

    ``problems``: what went wrong, in words. ``complete``: nothing was left out because of it.
    """

    kind: str = KIND
    format: int = FORMAT
    name: str
    began: str
    seconds: float
    complete: bool = True
    machine: Machine
    product: Product
    arguments: tuple[Fact, ...] = ()
    sections: tuple[Section, ...] = ()
    problems: tuple[str, ...] = ()

    def section(self, name: str) -> Section | None:
        """The section of this name, None without it."""
        return next((each for each in self.sections if each.name == name), None)


def to_json(report: Report) -> str:
    """The report as JSON text. Arrays of numbers are on one line: files stay readable, differences small."""
    return _laid_out(to_plain(report)) + "\n"


def from_json(text: str | bytes, name: str) -> Report:
    """A report from JSON text. ``name``: of the file. Raises `ReportInvalid`."""
    try:
        found = json.loads(text)
    except ValueError as error:  # also of bytes that are no UTF-8
        raise ReportInvalid(f"{name} is no JSON", _WRITE_ONE) from error
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise ReportInvalid(f"{name} is no report of these benchmarks", _WRITE_ONE)
    if found.get("format") != FORMAT:
        raise ReportInvalid(
            f"{name} has format {found.get('format')!r}, and this is format {FORMAT}",
            "measure the other version again with this checkout's benchmarks, or compare with the checkout "
            "that wrote the file",
        )
    try:
        return decode(Report, found)
    except DocumentInvalid as error:
        raise ReportInvalid(f"{name} is damaged: {error}", _WRITE_ONE) from error


_WRITE_ONE = "write one with: python -m benchmarks NAME --json FILE"


def _laid_out(value: Any, indent: str = "") -> str:
    deeper = indent + " "
    if isinstance(value, list) and value and all(isinstance(each, dict | list) for each in value):
        items = ",\n".join(deeper + _laid_out(each, deeper) for each in value)
        return f"[\n{items}\n{indent}]"
    if isinstance(value, dict) and any(isinstance(each, dict | list) for each in value.values()):
        items = ",\n".join(
            f"{deeper}{json.dumps(key)}: {_laid_out(each, deeper)}" for key, each in value.items()
        )
        return f"{{\n{items}\n{indent}}}"
    return json.dumps(value, ensure_ascii=False)
