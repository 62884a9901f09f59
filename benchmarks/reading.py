"""Reads a report that a command line names."""

import argparse
from pathlib import Path

from benchmarks.reporting.format import Report, ReportInvalid, from_json


def read_report(parser: argparse.ArgumentParser, path: Path) -> Report:
    """The report in this file. Ends with the parser's error if there is none, and says what to do."""
    try:
        return from_json(path.read_bytes(), str(path))
    except OSError as error:
        parser.error(f"cannot read {path}: {error.strerror}")
    except ReportInvalid as error:
        parser.error(f"{error}; {error.hint}")
