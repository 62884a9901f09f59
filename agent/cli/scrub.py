"""``shorthaul scrub``: how far a running agent is with reading its content again, and to pause it."""

import argparse
import json
import sys
from typing import Any

from agent.cli.errors import CommandError
from agent.cli.topology import add_url


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "scrub",
        help="show, pause or resume the agent's check of its own content",
        description="A running agent reads this node's blobs again, slowly, and withdraws corrupt ones.",
    )
    parser.add_argument("do", nargs="?", choices=("status", "pause", "resume"), default="status")
    add_url(parser)
    parser.add_argument("--json", action="store_true", help="the agent's answer as it is")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask the agent or tell it, then show where it is. 1 when it found something corrupt."""
    # Not at the top: these and what they import are nothing that the agent's process should carry.
    from agent.cli import adminclient, drawing

    try:
        if arguments.do == "status":
            answer = adminclient.ask(arguments.url, "/api/scrub")
        else:
            answer = adminclient.ask(arguments.url, f"/api/scrub/{arguments.do}", method="POST")
        text = json.dumps(answer, indent=2) if arguments.json else _told(answer)
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status
    except (KeyError, TypeError) as error:
        problem = CommandError("the answer is not that of a shorthaul agent", hint=f"it lacks {error}")
        print(problem.lines, file=sys.stderr)
        return problem.status
    drawing.write(text)
    return 1 if answer["withdrawn"] else 0


def _told(answer: Any) -> str:
    """The answer in a few lines."""
    state = "off (scrub.bytes_per_s is 0)"
    if answer["bytes_per_s"]:
        state = (
            "paused" if answer["paused"] else "reading" if answer["reading"] else "waiting for the next round"
        )
    current = answer["round"]
    lines = [f"{state}: {current['done']} of {current['of']} blobs, {current['finished']} rounds finished"]
    lines += [f"corrupt, withdrawn: {digest!s:.150}" for digest in answer["withdrawn"]]
    return "\n".join(lines)
