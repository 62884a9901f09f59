"""The command line: ``shorthaul COMMAND``. One file a command."""

import argparse
from collections.abc import Sequence

from agent import __version__
from agent.cli import agent as agent_command
from agent.cli import explain as explain_command
from agent.cli import probe as probe_command
from agent.cli import scrub as scrub_command
from agent.cli import topology as topology_command
from agent.cli import verify as verify_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 good, 1 failed, 2 wrong usage)."""
    parser = argparse.ArgumentParser(
        prog="shorthaul", description="An image mirror that streams every blob from the nearest peer."
    )
    parser.add_argument("--version", action="version", version=f"shorthaul {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    agent_command.add_parser(commands)
    topology_command.add_parser(commands)
    explain_command.add_parser(commands)
    probe_command.add_parser(commands)
    verify_command.add_parser(commands)
    scrub_command.add_parser(commands)
    arguments = parser.parse_args(argv)
    status: int = arguments.run(arguments)
    return status
