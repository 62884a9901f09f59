"""``shorthaul requests``: the last requests of a running agent, and where the time of one of them went."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from agent.cli.errors import CommandError
from agent.cli.formats import count, ms, size
from agent.cli.topology import add_url, admin_token
from agent.documents.pulls import PullEntry, PullsDocument
from agent.documents.requests import RequestDocument, StepEntry

_LIMIT = 20
_BAR = 24  # characters
_WHAT_MAX = 60


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "requests",
        help="show the last requests, and where the time of one of them went",
        description="Show the last requests that an agent answered, the newest first; the pulls of images "
        "that they are parts of; or all steps of one request.",
    )
    add_url(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--id", metavar="ID", help="one request and its steps; its answer had the id as Shorthaul-Request"
    )
    which.add_argument("--pulls", action="store_true", help="pulls of images in place of requests")
    parser.add_argument("--limit", type=int, metavar="N", help=f"at most so many (default {_LIMIT})")
    parser.add_argument("--json", action="store_true", help="the agent's answer as it is")
    parser.set_defaults(run=run, wrong=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Ask the agent, then show its answer."""
    if arguments.id is not None and arguments.limit is not None:
        arguments.wrong("--id is one request: leave out --limit")
    # Imported here and not at the top, so that the agent's process does not load them.
    from agent.cli import adminclient, drawing

    path = PullsDocument.PATH if arguments.pulls else RequestDocument.PATH
    limit = {"limit": str(_LIMIT if arguments.limit is None else arguments.limit)}
    query = limit if arguments.id is None else {"id": arguments.id}
    try:
        answer = adminclient.request_json(
            arguments.url, path, query, token=admin_token(arguments), is_list=not arguments.pulls
        )
        if arguments.json:
            drawing.write(json.dumps(answer, indent=2))
            return 0
        if arguments.pulls:
            lines = _pulls(adminclient.read(PullsDocument, answer))
        else:
            found = adminclient.read(tuple[RequestDocument, ...], answer)
            lines = _requests(found) if arguments.id is None else _waterfall(found)
        drawing.write("\n".join(lines))
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status
    return 0


def _requests(requests: Sequence[RequestDocument]) -> Iterator[str]:
    """A line for each request."""
    if not requests:
        yield "no request yet: pull an image on this node"
        return
    yield from _table(
        ("arrived", "id", "what", "result", "from", "bytes", "first byte", "in all", "slowest step"),
        [
            (
                request.started_at,
                request.id or "–",
                _cut(request.target or request.kind),
                f"{request.status} {request.result}",
                _from(request.node, request.tier),
                size(request.body_bytes),
                _ms(request.first_byte_s),
                _ms(request.seconds),
                _slowest(request.steps),
            )
            for request in requests
        ],
    )


def _pulls(document: PullsDocument) -> Iterator[str]:
    """A line for each pull."""
    if not document.pulls:
        yield f"no pull on node {document.node} yet: pull an image there"
        return
    yield from _table(
        ("began", "image", "requests", "bytes", "from", "took", "", "verdict", "slowest step"),
        [
            (
                pull.started_at,
                _cut(_image(pull)),
                str(pull.request_count),
                size(pull.size_bytes),
                ", ".join(f"{size(each.size_bytes)} {each.tier}" for each in pull.bytes_by_tier) or "–",
                _ms(pull.seconds),
                _state(pull),
                pull.verdict or "–",
                "–" if pull.slowest is None else f"{_step(pull.slowest.step)} of {pull.slowest.request}",
            )
            for pull in document.pulls
        ],
    )


def _waterfall(requests: Sequence[RequestDocument]) -> Iterator[str]:
    """One request, and a line for each of its steps."""
    (request,) = requests
    yield f"{request.id}  {request.method} {request.target}"
    yield f"  arrived     {request.started_at}, by {request.path}"
    if request.under_way:
        yield f"  under way   {size(request.body_bytes)} so far"
    else:
        first = "" if request.first_byte_s is None else f", first byte after {_ms(request.first_byte_s)}"
        yield (
            f"  answered    {request.status} {request.result}, {size(request.body_bytes)} in "
            f"{_ms(request.seconds)}{first}"
        )
    why = f": {request.reason}" if request.reason else ""
    yield f"  from        {_from(request.node, request.tier)}{why}"
    if request.verdict is not None:
        yield f"  connection  {request.verdict}"
    if not request.steps:
        yield "  no steps are known"
    end_s = max((step.start_s + step.seconds for step in request.steps), default=0.0)
    for step in request.steps:
        yield f"  {_ms(step.start_s):>9}  {_bar(step, end_s)}  {_ms(step.seconds):>9}  {_step_words(step)}"
    if request.steps_left_out:
        yield f"  {count(request.steps_left_out, 'step')} more"
    for node, there in {step.node: step.request for step in request.steps if step.request}.items():
        yield f"  {node} knows it as {there}: run `shorthaul requests --id {there}` there"


def _bar(step: StepEntry, end_s: float) -> str:
    scale = _BAR / end_s if end_s > 0 else 0.0
    start = min(_BAR - 1, int(step.start_s * scale))
    stop = min(_BAR, max(start + 1, round((step.start_s + step.seconds) * scale)))
    return f"▕{' ' * start}{'█' * (stop - start)}{' ' * (_BAR - stop)}▏"


def _step_words(step: StepEntry) -> str:
    parts = [step.kind]
    if step.node is not None:
        parts.append(_from(step.node, step.tier))
    if step.size_bytes is not None:
        parts.append(size(step.size_bytes))
    marks = [*(["hedge"] if step.hedge else []), *(["resume"] if step.resume else [])]
    if step.outcome != "ok":
        marks.append(step.outcome)
    if marks:
        parts.append(f"[{', '.join(marks)}]")
    if step.why:
        parts.append(f"– {step.why}")
    return " ".join(parts)


def _slowest(steps: Sequence[StepEntry]) -> str:
    return _step(max(steps, key=lambda step: step.seconds)) if steps else "–"


def _step(step: StepEntry) -> str:
    place = "" if step.node is None else f" {step.node}"
    return f"{step.kind}{place} {_ms(step.seconds)}"


def _image(pull: PullEntry) -> str:
    named = [f"@{each[:19]}" if ":" in each else f":{each}" for each in pull.references]
    return f"{pull.image}{', '.join(named)}"


def _state(pull: PullEntry) -> str:
    words = ["under way"] if pull.under_way else []
    if pull.not_found:
        words.append(f"{pull.not_found} left to the registry")
    if pull.failed:
        words.append(f"{pull.failed} failed")
    return ", ".join(words) or "done"


def _from(node: str | None, tier: str | None) -> str:
    return "–" if node is None else f"{node} ({tier})"


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else ms(seconds * 1e6) if seconds < 10 else f"{seconds:.1f} s"


def _cut(text: str) -> str:
    return text if len(text) <= _WHAT_MAX else f"{text[: _WHAT_MAX - 1]}…"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]
    for row in (headings, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
