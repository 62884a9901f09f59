"""The parser of the command line, and the command that it finds."""

import argparse
from collections.abc import Sequence

from agent import __version__
from agent.cli import (
    agent,
    configure,
    everywhere,
    explain,
    probe,
    ready,
    scrub,
    topology,
    unconfigure,
    verify,
)

_STATUS = "exit status: 0 good, 1 failed, 2 wrong usage, 130 Ctrl-C, 141 the reader of the output closed it"


def run(argv: Sequence[str] | None) -> int:
    """Run the command that the arguments name; returns its exit status. Raises SystemExit for wrong usage."""
    arguments = make_parser().parse_args(argv)
    status: int = arguments.run(arguments)
    return status


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="shorthaul",
        description="An image mirror that streams every blob from the nearest peer.",
        epilog=_STATUS,
    )
    parser.add_argument("--version", action="version", version=f"shorthaul {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (
        agent,
        configure,
        unconfigure,
        topology,
        explain,
        probe,
        verify,
        scrub,
        ready,
        everywhere,
    ):
        command.add_parser(commands)
    return parser
