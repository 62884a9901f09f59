"""Reports for tests."""

from collections.abc import Iterable
from typing import Any

from benchmarks.reporting.format import Figure, Machine, Product, Report, Section, Series

MACHINE = Machine(processor="a processor", processors=2, memory_mib=8000, kernel="6.1")


def make_report(*sections: Section, machine: Machine = MACHINE, **more: Any) -> Report:
    """A report with these sections."""
    usual: dict[str, Any] = {"name": "test", "began": "2026-01-01T00:00:00Z", "seconds": 1.0}
    return Report(**usual | more, machine=machine, product=Product(version="1"), sections=sections)


def make_figure(what: str, values: Iterable[float | None], **more: Any) -> Figure:
    """A figure with one way."""
    usual: dict[str, Any] = {"what": what, "unit": "ms", "better": "lower"}
    return Figure(**usual | more, series=(Series(values=tuple(values)),))


def make_section(*figures: Figure, name: str = "s") -> Section:
    """A section with these figures."""
    return Section(name=name, figures=figures)
