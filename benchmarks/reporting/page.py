"""A report as one HTML page that needs nothing else: no network and no script."""

from html import escape
from pathlib import Path

from benchmarks.reporting.compare import Comparison
from benchmarks.reporting.format import Report
from benchmarks.reporting.writing import write_whole


def write_page(report: Report, path: Path, found: Comparison | None = None) -> None:
    """Write the page. ``found``: what changed since another report. Raises `WriteFailed`."""
    write_whole(path, f"<!doctype html><title>{escape(report.name)}</title>")
