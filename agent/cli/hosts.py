"""What ``configure`` and ``unconfigure`` have in common: where containerd is, and the changes one by one."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.errors import CommandError

if TYPE_CHECKING:
    from agent.hosts.node import ContainerdNode
    from agent.hosts.plan import Change, Plan, Tree

Show = Callable[["Change", str], None]
"""Tells a person what became of one file. The second: its path as the node names it."""


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where containerd is, and the one that changes nothing."""
    add_node(parser, default_root=Path("/"))
    parser.add_argument("--dry-run", action="store_true", help="show the changes and write nothing")


def add_node(parser: argparse.ArgumentParser, *, default_root: Path) -> None:
    """Add the options that say where containerd is."""
    from agent.hosts.flavours import NAMES

    parser.add_argument(
        "--root",
        type=Path,
        default=default_root,
        metavar="DIR",
        help=f"where the node's file system is mounted (default: {default_root})",
    )
    parser.add_argument(
        "--flavour",
        choices=("auto", *NAMES),
        default="auto",
        help="whose paths containerd has (default: auto, found by looking)",
    )
    parser.add_argument(
        "--certs-d",
        type=_node_path,
        metavar="DIR",
        help="the directory of REGISTRY/hosts.toml files, as the node names it (default: what config.toml "
        "says, or the flavour's)",
    )
    parser.add_argument(
        "--containerd-config",
        type=_node_path,
        metavar="FILE",
        help="containerd's config.toml, as the node names it (default: the flavour's)",
    )


def find_node(arguments: argparse.Namespace) -> "ContainerdNode":
    """containerd on the node that the options mean. Raises `CommandError`."""
    from agent.hosts.node import look_at

    check_root(arguments.root)
    return look_at(
        arguments.root,
        name=arguments.flavour,
        certs_d=arguments.certs_d,
        config=arguments.containerd_config,
    )


def check_root(root: Path) -> None:
    """Raises `CommandError` if the node's file system is not there."""
    if not root.is_dir():
        raise CommandError(f"--root {root} is not a directory", hint="mount the node's files there", status=2)


def carry_out(
    node: "ContainerdNode", make_plan: "Callable[[Tree], Plan]", show: Show, *, dry_run: bool, create: bool
) -> bool:
    """Plan and make the changes to the directory. Returns whether all of them were made.

    ``create``: make the directory if it is not there. Raises `CommandError` if it can't be read or made.
    """
    try:
        if dry_run:
            tree = node.directory.read()
            if create and not tree.exists and not node.tree.exists(node.certs_d.parent):
                raise FileNotFoundError
            return _preview(node, make_plan(tree), show)
        if not create and not node.directory.read().exists:
            return True
        with node.directory.locked(create=create) as made:
            node.directory.sweep()
            tree = node.directory.read()
            done = _apply(node, make_plan(replace(tree, exists=not made)), show)
            if made and not done:
                node.directory.remove()  # if nothing could be written into it
            return done
    except FileNotFoundError as error:
        parent = node.certs_d.parent
        raise CommandError(
            f"{node.certs_d} can't be made: {parent} is not there",
            hint=f"mount the node's {parent}, or name the directory with --certs-d",
        ) from error
    except OSError as error:
        raise CommandError(f"{node.certs_d}: {_words(error)}", hint=_hint(error)) from error


def _preview(node: "ContainerdNode", plan: "Plan", show: Show) -> bool:
    from agent.hosts.directory import FILE
    from agent.hosts.shown import diff

    for change in plan.changes:
        path = f"{node.certs_d}/{change.name}/{FILE}"
        print(diff(path, change.before, change.after), end="")
        show(change, path)
    return _report(node, plan)


def _apply(node: "ContainerdNode", plan: "Plan", show: Show) -> bool:
    from agent.hosts.directory import FILE
    from agent.hosts.part import Made

    done, gone = True, False
    for change in plan.changes:
        path = f"{node.certs_d}/{change.name}/{FILE}"
        try:
            remarks = node.directory.apply(change) if change.changes else ()
        except OSError as error:
            print_problem(f"{path}: {_words(error)}; the old file stays", _hint(error))
            done = False
            continue
        gone = gone or (change.after is None and Made.CERTS_D in change.made)
        show(replace(change, remarks=(*change.remarks, *remarks)), path)
    if gone:
        node.directory.remove()
    return _report(node, plan) and done


def _report(node: "ContainerdNode", plan: "Plan") -> bool:
    from agent.hosts.directory import FILE

    for remark in plan.remarks:
        print(f"note: {node.certs_d}/{remark}")
    for refusal in plan.refusals:
        print_problem(f"{node.certs_d}/{refusal.name}/{FILE} is left as it is: {refusal.why}", refusal.hint)
    return not plan.refusals


def print_problem(what: str, hint: str) -> None:
    """Print an error and what to do."""
    print(CommandError(what, hint=hint).lines, file=sys.stderr)


def _words(error: OSError) -> str:
    return error.strerror or str(error)


def _hint(error: OSError) -> str:
    import errno

    return {
        errno.EROFS: "mount the directory writable, or write the file in another way (docs/flavours.md)",
        errno.ENOSPC: "make room on the disk, and run this again",
        errno.EDQUOT: "make room on the disk, and run this again",
        errno.EACCES: "run this as root",
        errno.EPERM: "run this as root; a file of another owner needs CAP_CHOWN as well",
        errno.EBUSY: "wait for the other run, or end it",
        errno.EAGAIN: "run this again",
    }.get(error.errno or 0, "look at this path on the node")


def _node_path(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise argparse.ArgumentTypeError(f"{text!r} is not an absolute path: write it as the node names it")
    return path
