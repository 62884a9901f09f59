"""``shorthaul topology``: the cluster as a running agent sees it, as a tree, a matrix or a picture."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from agent.cli.errors import CommandError

DEFAULT_URL = "http://127.0.0.1:9090"  # the default of listen.admin


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "topology",
        help="show the cluster as a running agent sees it",
        description="Show where every node is, how far away, and how that is known.",
    )
    add_url(parser)
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="the agent's answer as it is")
    shape.add_argument("--dot", action="store_true", help="a drawing as Graphviz source")
    shape.add_argument("--png", type=Path, metavar="FILE", help="draw it to FILE (needs Graphviz)")
    parser.add_argument("--all", action="store_true", help="list every node of large groups")
    parser.set_defaults(run=run, view="tree", wrong=parser.error)
    views = parser.add_subparsers(metavar="VIEW", required=False)
    matrix = views.add_parser(
        "matrix", help="latencies from zone to zone", description="Show the latencies from zone to zone."
    )
    # The defaults are suppressed. Otherwise they would overwrite options that come before the word "matrix".
    add_url(matrix, default=argparse.SUPPRESS, key_file=argparse.SUPPRESS)
    matrix.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="the agent's answer as it is"
    )
    matrix.set_defaults(view="matrix")


def add_url(
    parser: argparse.ArgumentParser, *, default: str = DEFAULT_URL, key_file: str | None = None
) -> None:
    """Add ``--url`` and ``--key-file``. Every command that asks a running agent has them."""
    parser.add_argument(
        "--url", default=default, metavar="URL", help=f"the agent's admin port (default {DEFAULT_URL})"
    )
    parser.add_argument(
        "--key-file",
        type=Path,
        default=key_file,
        metavar="FILE",
        help="the cluster's key, for the admin port of another node (default: peering.key of the settings "
        "that SHORTHAUL_CONFIG names)",
    )


def admin_token(arguments: argparse.Namespace) -> Callable[[], str | None]:
    """Reads the cluster's admin token where it is wanted. None if no key is named. Raises `CommandError`."""

    def read() -> str | None:
        from agent.cli.settings import key_file
        from agent.keyring import KeysInvalid, read_keys

        path = arguments.key_file or key_file()
        try:
            return None if path is None else read_keys(path).admin_tokens[0]
        except KeysInvalid as error:
            raise CommandError(f"{path}: {error}", hint=error.hint) from error

    return read


def run(arguments: argparse.Namespace) -> int:
    """Ask the agent, then show its answer."""
    if arguments.view == "matrix" and (arguments.dot or arguments.png or arguments.all):
        arguments.wrong("matrix takes --url, --key-file and --json only")
    # Imported here and not at the top, so that the agent's process does not load them.
    from agent.cli import adminclient, drawing
    from agent.documents.topology import TopologyDocument

    try:
        answer = adminclient.request_json(arguments.url, TopologyDocument.PATH, token=admin_token(arguments))
        if arguments.json:
            drawing.write(json.dumps(answer, indent=2))
            return 0
        view = adminclient.read_topology(answer)
        if arguments.dot or arguments.png:
            from agent.cli import picture

            if arguments.png:
                picture.write_png(view, arguments.png)
            else:
                drawing.write(picture.dot_source(view))
        elif arguments.view == "matrix":
            drawing.print_matrix(view)
        else:
            drawing.print_tree(view, show_all=arguments.all)
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status
    return 0
