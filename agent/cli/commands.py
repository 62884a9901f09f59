"""The parser of the command line, and the command that it finds."""

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from types import ModuleType

from agent import __version__

_NAMES = (
    "agent",
    "configure",
    "unconfigure",
    "status",
    "topology",
    "explain",
    "claims",
    "requests",
    "index",
    "probe",
    "verify",
    "bench",
    "doctor",
    "scrub",
    "ready",
    "everywhere",
    "key",
)

_STATUS = "exit status: 0 good, 1 failed, 2 wrong usage, 130 Ctrl-C, 141 the reader of the output closed it"


_RUN_ON = ("agent", "probe")
"""They run until they are ended, and have a log."""

_SHOW_THEMSELVES = ("bench", "status")
"""They go on to print while they work."""

_ABOUT_S = {"doctor": 10.0, "verify": 10.0}
"""How long commands take as a rule that wait for more than one answer."""


def run(argv: Sequence[str]) -> int:
    """Run the command that the arguments name; returns its exit status. Raises SystemExit for wrong usage.

    Every command shows that it is at work if it takes longer than a moment, also one that is added later.
    """
    arguments = make_parser(argv).parse_args(argv)
    own = arguments.command in (*_RUN_ON, *_SHOW_THEMSELVES)
    with nullcontext() if own else _at_work(arguments):
        status: int = arguments.run(arguments)
    return status


def _at_work(arguments: argparse.Namespace) -> AbstractContextManager[object]:
    from agent.cli.progress import Course, until_said

    name: str = arguments.command
    arguments.course = Course(f"shorthaul {name}", about_s=_ABOUT_S.get(name))
    return until_said(arguments.course)


def import_commands(argv: Sequence[str]) -> list[ModuleType]:
    """The modules of the commands that these arguments need: the one that they name first, or else all.

    An agent runs for months, and the other commands would stay in its memory.
    """
    named = [name for name in argv[:1] if name in _NAMES]
    return [import_module(f"agent.cli.{name}") for name in named or _NAMES]


def make_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser for these arguments. Without any, that of all commands."""
    parser = argparse.ArgumentParser(
        prog="shorthaul",
        description="An image mirror that streams every blob from the nearest peer.",
        epilog=_STATUS,
    )
    parser.add_argument("--version", action="version", version=f"shorthaul {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in import_commands(argv):
        command.add_parser(commands)
    return parser
