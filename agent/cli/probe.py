"""``shorthaul probe``: run the eBPF probe of this node, or watch what one finds."""

import argparse
import sys

from agent.cli.settings import add_config, add_log, print_problems, read_settings
from agent.config import ConfigError
from agent.observe import log


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "probe",
        help="prove with eBPF where this node's pulls go (needs root)",
        description="Prove with eBPF whether this node's connections to the agent are direct.",
    )
    add_config(parser, required=False)
    parser.add_argument(
        "--watch",
        action="store_true",
        help="show connections and their verdicts as they come: those of the running probe, or of one of "
        "its own",
    )
    add_log(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the settings, then work until a signal."""
    try:
        settings = read_settings(arguments)
    except ConfigError as error:
        print_problems(arguments.config or "the command line", error)
        return 2
    log.configure(arguments.log_format, "error" if arguments.watch else arguments.log_level)
    from agent.probe.publisher import SocketTaken
    from bpf.errors import BpfError

    try:
        if arguments.watch:
            from agent.cli.watch import watch

            watch(settings)
        else:
            from agent.probe.run import run_probe

            run_probe(settings)
    except BpfError as error:
        print_bpf_error(error)
        return 1
    except SocketTaken as error:
        print(f"shorthaul: {error}\n      hint: {error.hint}", file=sys.stderr)
        return 1
    return 0


def print_bpf_error(error: Exception) -> None:
    """Tell why there is no probe: the error, its hint, and the last words of compiler or verifier."""
    log_lines = getattr(error, "log", "").splitlines()
    for line in log_lines:
        print(f"    | {line}", file=sys.stderr)
    print(f"shorthaul: {error}\n      hint: {getattr(error, 'hint', '')}", file=sys.stderr)
    print("      `shorthaul verify` looks at the whole node.", file=sys.stderr)
