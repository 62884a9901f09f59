"""``shorthaul index``: who tells a running agent which nodes have what, and whether that works."""

import argparse
import json
import sys

from agent.cli.errors import CommandError
from agent.cli.topology import add_url, admin_token


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "index",
        help="show the index, which knows who has what, and whether it works",
        description="Show the index, which knows which nodes have what: the peers themselves, or a server. "
        "The exit status is 1 if the agent does not use its server now; pulls work all the same.",
    )
    add_url(parser)
    parser.add_argument("--json", action="store_true", help="the agent's answer as it is")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask the agent, then show its answer."""
    # Imported here and not at the top, so that the agent's process does not load them.
    from agent.cli import adminclient, drawing
    from agent.documents.index import IndexDocument

    try:
        answer = adminclient.request_json(arguments.url, IndexDocument.PATH, token=admin_token(arguments))
        index = adminclient.read(IndexDocument, answer)
        if arguments.json:
            drawing.write(json.dumps(answer, indent=2))
        else:
            drawing.print_index(index)
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status
    return 0 if index.problem is None else 1
