"""What the benchmarks' command lines share: ``--json``, ``--quick``, the need for root, and the output."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TypeVar

from rich.console import Console

_T = TypeVar("_T")
_COLUMNS = 150  # width of a table that goes to a file


def make_parser(module: str, description: str | None, *, quick: str | None = None) -> argparse.ArgumentParser:
    """A parser with ``--json``, ``--html``, ``--compare`` and, if ``quick`` says what it does, ``--quick``.

    ``description``: the docstring of the benchmark's module.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="write the report to this file")
    add("--html", type=Path, metavar="FILE", help="write the report as one page, and its pictures beside it")
    add("--compare", type=Path, metavar="OLD.json", help="say what changed since this report, beyond noise")
    if quick is not None:
        parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def listed(parse_one: Callable[[str], _T]) -> Callable[[str], list[_T]]:
    """The type of an argument that is a list with commas."""

    def parse_all(text: str) -> list[_T]:
        return [parse_one(each) for each in text.split(",")]

    return parse_all


def link(text: str) -> float | None:
    """The type of an argument that is a link's rate, in Mbit/s. ``none``: it has no limit."""
    return None if text == "none" else float(text)


def parse(parser: argparse.ArgumentParser, *, root_for: str | None = None) -> argparse.Namespace:
    """The arguments of this process. From now on, Ctrl-C, SIGTERM and SIGHUP end it after cleaning up, with
    128 + the signal's number.

    ``root_for``: why every run needs root; a run without root ends with an error then.
    """
    arguments = parser.parse_args()
    for option in ("json", "html"):
        path = getattr(arguments, option, None)  # the screenshots are no report
        if path is not None and (problem := place_problem(path)):
            parser.error(f"--{option}: {problem}")  # now, and not after an hour
    if root_for is not None:
        require_root(parser, root_for)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and the background jobs of a script
            signal.signal(number, _end)
    return arguments


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def require_root(parser: argparse.ArgumentParser, root_for: str) -> None:
    """End with an error unless this process runs as root. ``root_for``: why it must."""
    if os.geteuid() != 0:
        parser.error(f"this needs root, for {root_for}")


def make_console() -> Console:
    """The console for figures and tables. Wide enough if the output is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else _COLUMNS)


def place_problem(path: Path) -> str:
    """Why no report can be written there, in words. Empty: nothing is known that speaks against it."""
    if path.is_dir():
        return f"{path} is a folder: name a file in it"
    return "" if path.parent.is_dir() else f"there is no folder {path.parent}"
