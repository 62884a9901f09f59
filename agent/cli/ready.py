"""``shorthaul ready``: whether this pod's own agent serves. A startup probe, so it imports next to nothing.

It asks over a Unix socket, because during an upgrade another agent of the node may have the admin port.
"""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

_TIMEOUT_S = 5.0
_MOST_BYTES = 65_536


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    from agent.cli.settings import add_config

    parser = commands.add_parser(
        "ready",
        help="whether this very agent serves, for a startup probe",
        description="Ask the agent at health.socket whether it serves. The exit status is 0 only if it does.",
    )
    parser.add_argument(
        "--socket", type=Path, metavar="PATH", help="health.socket; then no settings are read"
    )
    add_config(parser, required=False)
    parser.set_defaults(run=run)


def only_asks(words: Sequence[str]) -> Path | None:
    """The socket, if the command line is just ``ready --socket PATH``, which needs no parser."""
    is_all = len(words) == 3 and words[:2] == ["ready", "--socket"]
    return Path(words[2]) if is_all and not words[2].startswith("-") else None


def run(arguments: "argparse.Namespace") -> int:
    """Ask, and print the answer."""
    path = arguments.socket or _from_settings(arguments)
    if path is None:
        print(
            "shorthaul: no health.socket is set\n      hint: name it with --socket PATH, or in the settings",
            file=sys.stderr,
        )
        return 2
    return report(path)


def report(path: Path) -> int:
    """Ask the agent at this socket, and print its answer. Returns the exit status."""
    try:
        status, text = ask(path)
    except (OSError, ValueError) as error:
        print(f"not ready: no agent answers at {path}: {error}")
        return 1
    print(text, end="")
    return 0 if status == 200 else 1


def ask(path: Path) -> tuple[int, str]:
    """The status and the text of ``/readyz?verbose``. Raises OSError and ValueError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(b"GET /readyz?verbose HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b""
        while len(answer) < _MOST_BYTES and (part := connection.recv(_MOST_BYTES)):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[1].isdigit():
        raise ValueError("the answer is not HTTP")
    return int(words[1]), body.decode(errors="replace")


def _from_settings(arguments: "argparse.Namespace") -> Path | None:
    from agent.cli.settings import settings_or_none

    settings = settings_or_none(arguments)
    return None if settings is None else settings.health.socket
