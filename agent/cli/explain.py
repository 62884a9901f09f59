"""``shorthaul explain``: where a running agent would get an image or a blob from, and why."""

import argparse
import json
import re
import sys

from agent.cli.errors import CommandError
from agent.cli.topology import add_url, admin_token

_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]{32,}")
_CUT_DIGEST = re.compile(r"sha(?:256|512):.*", re.DOTALL)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "explain",
        help="say where an image or a blob would come from, and why",
        description="Ask a running agent who holds an image or a blob, and whom it would take it from.",
    )
    parser.add_argument("what", metavar="IMAGE|DIGEST", help="REGISTRY/NAME:TAG, NAME@DIGEST or a digest")
    add_url(parser)
    parser.add_argument("--json", action="store_true", help="the agent's answer as it is")
    parser.set_defaults(run=run, wrong=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Ask the agent, then show its answer."""
    try:
        query = parse_question(arguments.what)
    except ValueError as error:
        arguments.wrong(str(error))
    # Imported here and not at the top, so that the agent's process does not load them.
    from agent.cli import adminclient, drawing
    from agent.documents.explain import ExplainDocument

    try:
        answer = adminclient.request_json(
            arguments.url, ExplainDocument.PATH, query, token=admin_token(arguments)
        )
        if arguments.json:
            drawing.write(json.dumps(answer, indent=2))
        else:
            drawing.print_explanation(adminclient.read(ExplainDocument, answer))
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status
    return 0


def parse_question(what: str) -> dict[str, str]:
    """The query for an image's name or a digest. NAME@DIGEST is the same as the digest alone."""
    _, at, digest = what.rpartition("@")
    if _DIGEST.fullmatch(digest):
        return {"digest": digest}
    if at or _CUT_DIGEST.fullmatch(what):
        raise ValueError(f"{digest!r} is no whole digest: give all of its digits (--json shows them)")
    if not what.strip():
        raise ValueError("name an image or a digest")
    return {"image": what}
