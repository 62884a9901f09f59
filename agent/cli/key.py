"""``shorthaul key``: make the cluster's key, add the next one, show the names, print a token."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from agent.keyring import KeyRing, KeysInvalid, new_key, parse_keys, read_keys

_NEW_MODE = 0o600
_PIPE = Path("-")

Change = Callable[[list[str]], list[str]]
"""The lines of a key file, from those of before."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "key",
        help="make the cluster's key, or a token of it",
        description="The cluster's key: one file, the same on all nodes (peering.key).",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a key file", description="Make a file with a new key.")
    add = actions.add_parser(
        "add",
        help="add a second key, to replace the first one later",
        description="Add a new key at the end of a file. It is accepted then, and does not sign yet.",
    )
    first = actions.add_parser(
        "first",
        help="let the last key sign",
        description="Make the last key of a file the first one, which signs. The others are still accepted.",
    )
    last = actions.add_parser(
        "keep-first",
        help="remove all keys but the first",
        description="Remove all keys but the first one. Whoever signs with another one is refused then.",
    )
    show = actions.add_parser(
        "show", help="show the keys' names", description="Show the names of the keys: they reveal nothing."
    )
    token = actions.add_parser(
        "token",
        help="print a token that is made of the key",
        description="Print the token that other nodes' containerds (service) or whoever reads the admin port "
        "from elsewhere (admin) have to present. Who has it can't get the key.",
    )
    token.add_argument("purpose", choices=("service", "admin"))
    for action, run_action in (
        (new, _new),
        (add, _add),
        (first, _first),
        (last, _keep_first),
        (show, _show),
        (token, _token),
    ):
        changes = action in (add, first, last)
        also = "; -: keys come from standard input and go to standard output" if changes else ""
        action.add_argument("file", type=Path, metavar="FILE", help=f"the file with the key{also}")
        action.set_defaults(run=run, run_action=run_action)


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments name; returns the exit status."""
    try:
        arguments.run_action(arguments)
    except KeysInvalid as error:
        print(f"shorthaul: {arguments.file}: {error}\n      hint: {error.hint}", file=sys.stderr)
        return 1
    except FileExistsError:
        hint = "to replace its key: `shorthaul key add`, then `first`, then `keep-first` (docs/operations.md)"
        print(f"shorthaul: {arguments.file}: it is there already\n      hint: {hint}", file=sys.stderr)
        return 1
    except OSError as error:
        hint = "name a file in a directory that this user may write"
        print(f"shorthaul: {arguments.file}: {error.strerror or error}\n      hint: {hint}", file=sys.stderr)
        return 1
    return 0


def _new(arguments: argparse.Namespace) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(arguments.file, flags, _NEW_MODE), "w") as file:
        file.write(f"{new_key()}\n")
    _show(arguments)


def _add(arguments: argparse.Namespace) -> None:
    _change(arguments.file, lambda keys: [*keys, new_key()])


def _first(arguments: argparse.Namespace) -> None:
    _change(arguments.file, lambda keys: [keys[-1], *keys[:-1]])


def _keep_first(arguments: argparse.Namespace) -> None:
    _change(arguments.file, lambda keys: keys[:1])


def _change(path: Path, change: Change) -> None:
    """Change a file, or what comes by a pipe: a Secret is changed so without a file on the way."""
    if path != _PIPE:
        _replace(path, change(_keys(path)))
        _print_names(read_keys(path))
        return
    text = sys.stdin.read()
    parse_keys(text)
    changed = _lines(change(_key_lines(text)))
    names = parse_keys(changed)
    print(changed, end="")
    _print_names(names, to_errors=True)


def _show(arguments: argparse.Namespace) -> None:
    _print_names(read_keys(arguments.file))


def _print_names(ring: KeyRing, *, to_errors: bool = False) -> None:
    for number, name in enumerate(ring.ids):
        print(
            f"{name}  {'accepted' if number else 'signs, accepted'}",
            file=sys.stderr if to_errors else sys.stdout,
        )


def _token(arguments: argparse.Namespace) -> None:
    key = read_keys(arguments.file).signs
    print(key.service_token if arguments.purpose == "service" else key.admin_token)


def _keys(path: Path) -> list[str]:
    """The lines of the file that are keys. Raises `KeysInvalid` and OSError."""
    read_keys(path)
    return _key_lines(path.read_text())


def _key_lines(text: str) -> list[str]:
    lines = map(str.strip, text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _lines(keys: list[str]) -> str:
    return "".join(f"{key}\n" for key in keys)


def _replace(path: Path, keys: list[str]) -> None:
    """Write the file anew, beside the old one: an agent that reads it meanwhile finds one of the two."""
    text = _lines(keys)
    parse_keys(text)
    status, path = path.stat(), path.resolve()
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _NEW_MODE), "w") as file:
            file.write(text)
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(new, status.st_uid, status.st_gid)
        new.chmod(status.st_mode & 0o777)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
