"""``shorthaul scrub``: shows, starts, pauses or resumes a running agent's check of its own content."""

import argparse
import json
import sys
from pathlib import Path

from agent.cli.errors import CommandError
from agent.cli.topology import DEFAULT_URL, add_url, admin_token
from agent.documents.scrub import OFF, ScrubDocument

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
        "begins a round by itself every scrub.round_s. The exit status is 1 if a blob is corrupt or "
        "can't be read.",
    )
    parser.add_argument(
        "do",
        nargs="?",
        metavar="ACTION",
        choices=tuple(_PAGES),
        default="status",
        help="status: show it (the default). start: begin the next round now, also if it is paused. "
        "pause, resume: stop reading, and go on where it stopped",
    )
    add_url(parser)
    parser.add_argument(
        "--socket",
        type=Path,
        metavar="PATH",
        help="health.socket of the agent, at which alone it is told anything (default: that of the settings "
        "that SHORTHAUL_CONFIG names)",
    )
    parser.add_argument("--json", action="store_true", help="the agent's answer as it is")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked, then show the state of the scrub. Returns 1 if a blob is corrupt or unreadable."""
    # Imported here and not at the top, so that the agent's process does not load them.
    from agent.cli import adminclient, drawing

    path, method = _PAGES[arguments.do]
    try:
        url = _url(arguments, acts=method == "POST")
        answer = adminclient.request_json(url, path, method=method, token=admin_token(arguments))
        if arguments.json:
            drawing.write(json.dumps(answer, indent=2))
        scrub = adminclient.read(ScrubDocument, answer)
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status
    if not arguments.json:
        drawing.write(_text(scrub))
    return 1 if scrub.withdrawn or scrub.unreadable_blobs else 0


def _url(arguments: argparse.Namespace, *, acts: bool) -> str:
    """Where to ask. ``acts``: something is to be changed. Raises `CommandError`."""
    from agent.cli.adminclient import UNIX
    from agent.cli.settings import health_socket

    named: str = arguments.url
    if arguments.socket is None and (named != DEFAULT_URL or not acts):
        return named
    socket = arguments.socket or health_socket()
    if socket is None:
        raise CommandError(
            "an agent is told something at its own Unix socket only, and none is named",
            hint="name its health.socket with --socket PATH, or set it if it has none",
            status=2,
        )
    return f"{UNIX}{socket}"


def _text(scrub: ScrubDocument) -> str:
    """The answer in a few lines."""
    from agent.cli.formats import count

    finished = f"{count(scrub.round.finished, 'round')} finished"
    lines = [f"{_state(scrub)}: {scrub.round.done} of {count(scrub.round.of, 'blob')}, {finished}"]
    if scrub.held_up is not None and scrub.state != OFF:
        lines.append(f"held up: {scrub.held_up}")
    lines += [f"corrupt, withdrawn: {digest:.150}" for digest in scrub.withdrawn]
    lines += [f"unreadable, not offered: {each.digest:.150} ({each.reason})" for each in scrub.unreadable]
    if more := scrub.unreadable_blobs - len(scrub.unreadable):
        lines.append(f"… and {count(more, 'unreadable blob')} more")
    return "\n".join(lines)


def _state(scrub: ScrubDocument) -> str:
    match scrub.state:
        case "off":
            return "off (scrub.bytes_per_s is 0)"
        case "queued":
            return "a round begins"
        case "waiting":
            return "waiting for the next round"
        case state:
            return state
