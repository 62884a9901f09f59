"""``shorthaul agent``: run the node agent."""

import argparse
import gc
import logging
import sys
from functools import partial
from pathlib import Path

from agent.cli.settings import add_config, add_log, print_problems, read_settings
from agent.config import Settings
from agent.config.load import ConfigError, dump_settings
from agent.hangup import Hangup
from agent.keyring import KeysInvalid, read_keys
from agent.members.checks import OwnAgent
from agent.members.factory import own_agent
from agent.members.static import MembersInvalid, read_members
from agent.observe import log
from topology.placement import NodeName

_MAKE_KEY = "set peering.key instead: `shorthaul key new FILE` makes one"
_CLOSE = "take peering.open away when all nodes have the key"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser("agent", help="run the node agent", description="Run the node agent.")
    add_config(parser, required=True)
    parser.add_argument(
        "--print-config", action="store_true", help="print the resulting settings as YAML and exit"
    )
    add_log(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the settings, then serve until a signal."""
    hangup = Hangup()
    with hangup.taken():
        return _run(arguments, hangup)


def _run(arguments: argparse.Namespace, hangup: Hangup) -> int:
    try:
        settings = read_settings(arguments)
    except ConfigError as error:
        print_problems(arguments.config, error)
        _members_are_good(error.members, OwnAgent(name=NodeName(""), addresses=(), port=0))
        return 2
    if arguments.print_config:
        print(dump_settings(settings), end="")
    if not _members_are_good(settings.membership.static, own_agent(settings)) or not _key_is_good(
        settings.peering.key
    ):
        return 2
    if not _certificate_is_good(settings):
        return 2
    if arguments.print_config:
        return 0
    log.configure(arguments.log_format, settings.log.level)
    if settings.peering.open:
        logging.getLogger("shorthaul").warning(
            "peering.open: everybody who reaches listen.peer may read this node's images",
            extra={"fields": {"hint": _MAKE_KEY if settings.peering.key is None else _CLOSE}},
        )
    # After the settings are good: the server's imports take most of the start-up time. They leave no garbage,
    # and to look for some takes a tenth of it.
    gc.disable()
    from agent.app.background import Rereading
    from agent.lifecycle import run_agent
    from agent.listen.sockets import ListenErrors

    gc.enable()
    try:
        run_agent(
            settings,
            Rereading(
                hangup=hangup, read=partial(read_settings, arguments), doctor=_doctor_command(arguments)
            ),
        )
    except ListenErrors as errors:
        for taken in errors.errors:
            print(f"shorthaul: {taken}\n      hint: {taken.hint}", file=sys.stderr)
        return 1
    return 0


def _doctor_command(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The doctor with the same settings, of the same release."""
    overrides = (word for each in arguments.overrides for word in ("--set", each))
    return (sys.executable, sys.argv[0], "doctor", "--json", "--config", str(arguments.config), *overrides)


def _certificate_is_good(settings: Settings) -> bool:
    """Whether the files of peering.tls can be used, if there are any; else what is wrong is told."""
    tls = settings.peering.tls
    if tls is None:
        return True
    from agent.peering.tlsfiles import TlsFilesInvalid, make_contexts, read_contents

    try:
        make_contexts(read_contents(tls))
    except TlsFilesInvalid as error:
        print(f"shorthaul: {error}\n      hint: {error.hint}", file=sys.stderr)
        return False
    return True


def _key_is_good(path: Path | None) -> bool:
    """Whether the file with the cluster's key can be used, if there is one; else it is told why not."""
    if path is not None:
        try:
            read_keys(path)
        except KeysInvalid as error:
            print(f"shorthaul: peering.key: {path}: {error}\n      hint: {error.hint}", file=sys.stderr)
            return False
    return True


def _members_are_good(path: Path | None, own: OwnAgent) -> bool:
    """Whether the peers file can be used, if there is one; else its mistakes are told."""
    if path is None:
        return True
    try:
        read_members(path, own=own)
    except MembersInvalid as error:
        print(f"shorthaul: the list of peers can't be used:\n  {error}", file=sys.stderr)
        return False
    return True
