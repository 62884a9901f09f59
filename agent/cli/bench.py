"""``shorthaul bench``: how long this node's pulls wait, measured against its running agent, or a cluster's.

The measuring is `benchmarks`' work, and imported only when this command runs.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.cli.clusteroptions import add_options
from agent.cli.topology import add_url, admin_token

_HOSTPORT = "127.0.0.1:30020"
_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "bench",
        help="measure how long this node's pulls wait, by where the content is",
        description="Ask this node's own agent for blobs that it or its peers have, at a fixed rate, and "
        "measure the first byte and whole blobs. Nothing is kept; it counts in the agent's metrics.",
    )
    add = parser.add_argument
    add("--image", action="append", metavar="IMAGE", help="whose blobs (default: those pulled last)")
    add("--bytes", type=parse_bytes, metavar="SIZE", help="most bytes of bodies (default 1GB)")
    add("--seconds", type=float, metavar="N", help="most seconds in all (default 60)")
    add("--rate", type=float, default=50.0, metavar="N", help="first bytes a second (default %(default)s)")
    add("--hostport", default=_HOSTPORT, metavar="HOST:PORT", help="listen.hostport (default %(default)s)")
    add_url(parser)
    add("--json", type=Path, metavar="FILE", help="write the report to this file")
    add(
        "--html",
        type=Path,
        metavar="FILE",
        help="write the report as one page",
    )
    add("--compare", type=Path, metavar="OLD.json", help="say what changed since this report, beyond noise")
    add_options(parser)
    parser.set_defaults(run=run, wrong=parser.error, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure. 0 good, 1 if anything went wrong; what was measured is reported in any case."""
    old = _look_before(arguments)
    if arguments.cluster or arguments.clean:
        from benchmarks.cluster import command

        return command.run(arguments, old)
    from benchmarks.latency.local import Bounds, measure_local
    from benchmarks.latency.openloop import Server
    from benchmarks.running import carry_out

    host, port = parse_address(arguments)
    bounds = Bounds(
        seconds=arguments.seconds or 60.0,
        bytes=arguments.bytes or 10**9,
        rate_per_s=arguments.rate,
    )
    arguments.seconds = bounds.seconds

    def measure(recorder: Any, _: argparse.Namespace) -> None:
        server = Server(host=host, port=port)
        measure_local(recorder, server, _asker(arguments), arguments.image or (), bounds)

    return carry_out("bench", measure, arguments, old, command="shorthaul")


def _look_before(arguments: argparse.Namespace) -> Any:
    """Refuse what can't be, before anything is measured. Returns the report of ``--compare``."""
    from benchmarks.arguments import place_problem
    from benchmarks.reading import read_report

    for name in ("seconds", "rate"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < float("inf"):  # also not a number
            arguments.wrong(f"--{name}: it must be above 0, and have an end")
    for name in ("json", "html"):
        path = getattr(arguments, name)
        if path is not None and (problem := place_problem(path)):
            arguments.wrong(f"--{name}: {problem}")
    return read_report(arguments.parser, arguments.compare) if arguments.compare else None


def _asker(arguments: argparse.Namespace) -> Callable[[str, Mapping[str, str]], Any]:
    """Asks the agent's admin port. What it can't answer ends the benchmark with its hint."""
    from agent.cli.adminclient import request_json
    from agent.cli.errors import CommandError
    from benchmarks.running import BenchmarkFailed

    def ask(path: str, query: Mapping[str, str]) -> Any:
        try:
            return request_json(arguments.url, path, dict(query), token=admin_token(arguments))
        except CommandError as error:
            raise BenchmarkFailed(str(error), error.hint) from error

    return ask


def parse_address(arguments: argparse.Namespace) -> tuple[str, int]:
    """The host and the port of ``--hostport``."""
    host, _, port = arguments.hostport.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        arguments.wrong(f"--hostport: {arguments.hostport!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def parse_bytes(text: str) -> int:
    """A number of bytes, such as 500MB or 2GiB."""
    number = text.rstrip("BGIKMbgikm")
    unit = text[len(number) :].upper()
    try:
        found = int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        found = 0
    if found <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write it like 500MB or 2GiB")
    return found
