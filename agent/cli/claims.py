"""``shorthaul claims``: who fetches from the registry what nobody has, as a running agent knows it."""

import argparse
import json
import sys

from agent.cli.errors import CommandError
from agent.cli.topology import add_url, admin_token


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "claims",
        help="show what this node fetches from the registry for others, and what it waits for",
        description="Show the claims in which this node has a part. A claim says which node fetches a "
        "content from the registry that nobody has, while the others wait for it.",
    )
    add_url(parser)
    parser.add_argument("--json", action="store_true", help="the agent's answer as it is")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask the agent, then show its answer."""
    # Imported here and not at the top, so that the agent's process does not load them.
    from agent.cli import adminclient, drawing
    from agent.documents.claims import ClaimsDocument

    try:
        answer = adminclient.request_json(arguments.url, ClaimsDocument.PATH, token=admin_token(arguments))
        if arguments.json:
            drawing.write(json.dumps(answer, indent=2))
        else:
            drawing.print_claims(adminclient.read(ClaimsDocument, answer))
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status
    return 0
