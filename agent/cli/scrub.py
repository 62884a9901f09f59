"""``shorthaul scrub``: shows, starts, pauses or resumes a running agent's check of its own content."""

import argparse
import json
import sys

from agent.cli.errors import CommandError
from agent.cli.topology import add_url
from agent.documents.scrub import ScrubDocument

_PAGES = {
    "status": (ScrubDocument.PATH, "GET"),
    "start": (ScrubDocument.START_PATH, "POST"),
    "pause": (ScrubDocument.PAUSE_PATH, "POST"),
    "resume": (ScrubDocument.RESUME_PATH, "POST"),
}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "scrub",
        help="show, start, pause or resume the agent's check of its own content",
        description="A running agent reads this node's blobs again, slowly, and withdraws corrupt ones. It "
        "begins a round by itself every scrub.round_s. The exit status is 1 if it found a corrupt blob.",
    )
    parser.add_argument(
        "do",
        nargs="?",
        choices=tuple(_PAGES),
        default="status",
        help="status: show it (the default). start: begin the next round now, also if it is paused. "
        "pause, resume: stop reading, and go on where it stopped",
    )
    add_url(parser)
    parser.add_argument("--json", action="store_true", help="the agent's answer as it is")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked, then show the state of the scrub. Returns 1 if something corrupt was found."""
    # Imported here and not at the top, so that the agent's process does not load them.
    from agent.cli import adminclient, drawing

    path, method = _PAGES[arguments.do]
    try:
        answer = adminclient.request_json(arguments.url, path, method=method)
        if arguments.json:
            drawing.write(json.dumps(answer, indent=2))
        scrub = adminclient.read(ScrubDocument, answer)
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status
    if not arguments.json:
        drawing.write(_text(scrub, began=arguments.do == "start"))
    return 1 if scrub.withdrawn else 0


def _text(scrub: ScrubDocument, *, began: bool) -> str:
    """The answer in a few lines. ``began``: a round was just asked for, and may not read yet."""
    from agent.cli.formats import count

    finished = f"{count(scrub.round.finished, 'round')} finished"
    if began and scrub.reading is None:
        return f"a round begins; {finished} before"
    done = f"{scrub.round.done} of {count(scrub.round.of, 'blob')}, {finished}"
    corrupt = [f"corrupt, withdrawn: {digest:.150}" for digest in scrub.withdrawn]
    return "\n".join([f"{_state(scrub)}: {done}", *corrupt])


def _state(scrub: ScrubDocument) -> str:
    if not scrub.bytes_per_s:
        return "off (scrub.bytes_per_s is 0)"
    if scrub.paused:
        return "paused"
    return "waiting for the next round" if scrub.reading is None else "reading"
