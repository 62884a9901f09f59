"""``--config`` and ``--set``, for the commands that read the settings, and the report of mistakes.

In a pod the environment says both, so that every command works there without arguments: ``SHORTHAUL_CONFIG``
names the file, and ``SHORTHAUL_SET`` has overrides, one a line, which come before those of ``--set``.
"""

import argparse
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from agent.cli.errors import CommandError
from agent.config import Settings
from agent.config.load import ConfigError, load_settings, make_settings

CONFIG_VARIABLE, SET_VARIABLE = "SHORTHAUL_CONFIG", "SHORTHAUL_SET"


def add_config(
    parser: argparse.ArgumentParser, *, required: bool, environment: Mapping[str, str] = os.environ
) -> None:
    """Add the options."""
    file = environment.get(CONFIG_VARIABLE) or None
    text = "settings, as YAML" if required else "the agent's settings, as YAML (default: built-in settings)"
    parser.add_argument(
        "--config",
        type=Path,
        required=required and file is None,
        default=file,
        metavar="FILE",
        help=f"{text}; {CONFIG_VARIABLE} names it too",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[line.strip() for line in environment.get(SET_VARIABLE, "").splitlines() if line.strip()],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override one setting, for example --set placement.zone=b (repeatable); "
        f"{SET_VARIABLE} has overrides too, one a line",
    )


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the log options of a command that keeps running."""
    parser.add_argument("--log-format", choices=("json", "text"), default="text")
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="the least level that is logged (default: log.level in the settings)",
    )


def read_settings(arguments: argparse.Namespace) -> Settings:
    """The settings. Without a file: the defaults, and this machine's name and address. Raises ConfigError."""
    level = getattr(arguments, "log_level", None)
    overrides = [*arguments.overrides, *([f"log.level={level}"] if level else [])]
    if arguments.config is not None:
        return load_settings(arguments.config, overrides)
    node = {"name": socket.gethostname(), "address": _own_address()}
    return make_settings({"node": node}, overrides, base=Path.cwd())


def settings_or_none(arguments: argparse.Namespace) -> Settings | None:
    """The settings. None if they have mistakes, which are printed then."""
    try:
        return read_settings(arguments)
    except ConfigError as error:
        print_problems(arguments.config or "the command line", error)
        return None


def health_socket(environment: Mapping[str, str] = os.environ) -> Path | None:
    """``health.socket`` of the settings that the environment names. None: it names none, or none is set.

    Raises `CommandError` if the settings have mistakes.
    """
    settings = _of_environment(environment)
    return None if settings is None else settings.health.socket


def key_file(environment: Mapping[str, str] = os.environ) -> Path | None:
    """``peering.key`` of the settings that the environment names. None: it names none, or none is set.

    Raises `CommandError` if the settings have mistakes.
    """
    settings = _of_environment(environment)
    return None if settings is None else settings.peering.key


def _of_environment(environment: Mapping[str, str]) -> Settings | None:
    parser = argparse.ArgumentParser()
    add_config(parser, required=False, environment=environment)
    arguments = parser.parse_args([])
    if arguments.config is None:
        return None
    try:
        return read_settings(arguments)
    except ConfigError as error:
        raise CommandError(
            f"{arguments.config} can't be used: {error.problems[0].key}: {error.problems[0].message}",
            hint=error.problems[0].hint,
        ) from error


def print_problems(source: object, error: ConfigError) -> None:
    """Print all mistakes, with their hints."""
    print(f"shorthaul: {source} can't be used:", file=sys.stderr)
    for problem in error.problems:
        print(f"  {problem.key}: {problem.message}\n      hint: {problem.hint}", file=sys.stderr)


def _own_address() -> str:
    """The address by which this node reaches others: the source address of a packet to anywhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address (RFC 5737); UDP connect sends nothing
            address: str = probe.getsockname()[0]
        except OSError:
            return "127.0.0.2"  # there is no route; not 127.0.0.1, which is the local listener's
    return address
