"""``shorthaul probe``: runs the eBPF probe of this node, or shows what one finds."""

import argparse
import signal
import sys
from functools import partial

from agent.cli.settings import add_config, add_log, read_settings, settings_or_none
from agent.config import Settings
from agent.hangup import Hangup
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
        help="show connections and their verdicts live, from the running probe, or from one of its own",
    )
    parser.add_argument(
        "--json", action="store_true", help="with --watch: a JSON object for each verdict, as in /api/flows"
    )
    parser.add_argument(
        "--retry",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="where it can't run, say why, and try again after so long (default: end with status 1). A pod "
        "stays ready in this way on a node without eBPF",
    )
    add_log(parser)
    parser.set_defaults(run=run, wrong=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Check the settings, then run until a signal."""
    hangup = Hangup()
    if arguments.watch:  # what is watched in a terminal ends with the terminal
        hangup.decline()
        return _run(arguments, hangup)
    with hangup.taken():
        return _run(arguments, hangup)


def _run(arguments: argparse.Namespace, hangup: Hangup) -> int:
    if arguments.json and not arguments.watch:
        arguments.wrong("--json is for --watch; the probe's own log has --log-format json")
    if arguments.watch and arguments.retry:
        arguments.wrong("--retry is not for --watch")
    settings = settings_or_none(arguments)
    if settings is None:
        return 2
    log.configure(arguments.log_format, "error" if arguments.watch else settings.log.level)
    while (status := _attempt(arguments, settings, hangup)) and arguments.retry > 0:
        print(f"      it is tried again in {arguments.retry:g} s", file=sys.stderr, flush=True)
        if _asked_to_stop(arguments.retry):
            return 0
    return status


def _asked_to_stop(at_most_s: float) -> bool:
    """Wait for SIGTERM or SIGINT. By themselves they do nothing to the first process of a container."""
    asked = {signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    try:
        return signal.sigtimedwait(asked, at_most_s) is not None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _attempt(arguments: argparse.Namespace, settings: Settings, hangup: Hangup) -> int:
    from agent.probe.publisher import SocketTaken
    from bpf.errors import BpfError

    return_code = 0
    try:
        if arguments.watch:
            from agent.cli.watch import watch

            watch(settings, as_json=arguments.json)
        else:
            from agent.probe.run import run_probe

            run_probe(settings, hangup=hangup, read=partial(read_settings, arguments))
    except* BpfError as errors:
        print_bpf_error(_first(errors))
        return_code = 1
    except* SocketTaken as errors:
        taken = _first(errors)
        print(f"shorthaul: {taken}\n      hint: {getattr(taken, 'hint', '')}", file=sys.stderr)
        return_code = 1
    except* PermissionError as errors:
        hint = "run as root, and let it write to the folder of its socket (probe.socket)"
        print(f"shorthaul: {_first(errors)}\n      hint: {hint}", file=sys.stderr)
        return_code = 1
    return return_code


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group. The errors come from concurrent tasks."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def print_bpf_error(
    error: BaseException, *, advice: str = "`shorthaul verify` looks at the whole node."
) -> None:
    """Print why there is no probe: the end of the compiler's or verifier's log, the error, and its hint."""
    log_lines = getattr(error, "log", "").splitlines()
    for line in log_lines:
        print(f"    | {line}", file=sys.stderr)
    print(f"shorthaul: {error}\n      hint: {getattr(error, 'hint', '')}", file=sys.stderr)
    if advice:
        print(f"      {advice}", file=sys.stderr)
