"""``shorthaul unconfigure``: takes out of containerd's files what ``configure`` put in, and nothing else."""

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.cli.errors import CommandError
from agent.cli.hosts import add_place, carry_out, find_node, print_problem

if TYPE_CHECKING:
    from agent.hosts.node import ContainerdNode
    from agent.hosts.plan import Change


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "unconfigure",
        help="take out of containerd's files what configure put in",
        description="Give containerd's hosts.toml files back as they were, byte for byte, and remove those "
        "that configure made. The exit status is 1 if one could not be changed.",
    )
    add_place(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Take everything out and say what was done. Returns 1 if something is left."""
    try:
        node = find_node(arguments)
        return 0 if _unconfigure(arguments, node) else 1
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status


def _unconfigure(arguments: argparse.Namespace, node: "ContainerdNode") -> bool:
    from agent.hosts.plan import plan_unconfigure

    shown: list[str] = []

    def show(change: "Change", path: str) -> None:
        done = "is removed" if change.after is None else "is again as its owner wrote it"
        shown.append(path)
        print(f"{path} {'(not written) ' if arguments.dry_run else ''}{done}")
        for remark in change.remarks:
            print(f"    note: {remark}")

    done = True
    for certs_d in (node.certs_d,) if arguments.certs_d else node.every_directory:
        one = replace(node, certs_d=certs_d)
        done = carry_out(one, plan_unconfigure, show, dry_run=arguments.dry_run, create=False) and done
    done = _remove_drop_ins(arguments, node, shown) and done
    if done and not shown:
        print(f"nothing of shorthaul's is in {node.certs_d}")
    return done


def _remove_drop_ins(arguments: argparse.Namespace, node: "ContainerdNode", shown: list[str]) -> bool:
    from agent.hosts.dropinfile import find_drop_ins, remove_drop_in

    done = True
    for path in find_drop_ins(node.tree, node.config, node.flavour):
        shown.append(str(path))
        try:
            if not arguments.dry_run:
                remove_drop_in(node.tree, path)
        except OSError as error:
            print_problem(f"{path} can't be removed: {error.strerror or error}", "remove it by hand")
            done = False
        else:
            print(f"{path} {'(not written) ' if arguments.dry_run else ''}is removed")
    return done
