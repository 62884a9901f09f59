"""``shorthaul agent``: run the node agent."""

import argparse
import sys
from pathlib import Path

from agent.config import ConfigError, dump_settings, load_settings
from agent.members.static import MembersInvalid, read_members
from agent.observe import log
from topology.placement import NodeName


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser("agent", help="run the node agent", description="Run the node agent.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings, as YAML")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override one setting, for example --set placement.zone=b (repeatable)",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the resulting settings as YAML and exit"
    )
    parser.add_argument("--log-format", choices=("json", "text"), default="text")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the settings, then serve until a signal."""
    try:
        settings = load_settings(arguments.config, arguments.overrides)
    except ConfigError as error:
        print(f"shorthaul: {arguments.config} can't be used:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem.key}: {problem.message}\n      hint: {problem.hint}", file=sys.stderr)
        _members_are_good(error.members, "")
        return 2
    if arguments.print_config:
        print(dump_settings(settings), end="")
    if not _members_are_good(settings.membership.static, settings.node.name):
        return 2
    if arguments.print_config:
        return 0
    log.configure(arguments.log_format, arguments.log_level)
    # After the settings are good: the server's imports take most of the start-up time.
    from agent.app import run_agent
    from agent.listen.sockets import ListenErrors

    try:
        run_agent(settings)
    except ListenErrors as errors:
        for taken in errors.errors:
            print(f"shorthaul: {taken}\n      hint: {taken.hint}", file=sys.stderr)
        return 1
    return 0


def _members_are_good(path: Path | None, own: str) -> bool:
    """Whether the peers file can be used, if there is one; else its mistakes are told."""
    if path is None:
        return True
    try:
        read_members(path, own=NodeName(own))
    except MembersInvalid as error:
        print(f"shorthaul: the list of peers can't be used:\n  {error}", file=sys.stderr)
        return False
    return True
