"""``shorthaul index``: who tells a running agent which nodes have what, and whether that works."""

import argparse
import json
import sys
from collections.abc import Iterator

from agent.cli.errors import CommandError
from agent.cli.formats import count, ms, size
from agent.cli.topology import add_url, admin_token
from agent.documents.index import IndexDocument, IndexState


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

    try:
        answer = adminclient.request_json(arguments.url, IndexDocument.PATH, token=admin_token(arguments))
        index = adminclient.read(IndexDocument, answer)
        if arguments.json:
            drawing.write(json.dumps(answer, indent=2))
        else:
            drawing.write("\n".join(_lines(index)))
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status
    return 0 if index.problem is None else 1


def _lines(index: IndexDocument) -> Iterator[str]:
    """Who is asked, what is wrong with it, what it was told, and what it is."""
    yield f"node {index.node}: {index.index}"
    yield _state(index.state)
    if index.problem is not None:
        yield from _advised(index.problem, index.hint)
    for each in index.warnings:
        yield from _advised(each.problem, each.hint)
    if index.state != IndexState.PEERS.value:
        yield from (f"  {name:<10} {value}" for name, value in _facts(index))


def _state(state: str) -> str:
    try:
        return IndexState(state).words
    except ValueError:  # of a newer agent
        return state


def _advised(problem: str, hint: str) -> Iterator[str]:
    yield f"  {problem}"
    if hint:
        yield f"      hint: {hint}"


def _facts(index: IndexDocument) -> Iterator[tuple[str, str]]:
    """What is known of the server, and of what this node told it."""
    pending = f", {index.pending} changes to go" if index.pending else ""
    yield "announced", f"{count(index.announced, 'digest')}{pending}"
    if index.resets:
        when = "" if index.reset_at is None else f", last at {index.reset_at}"
        why = "" if index.reset_reason is None else f": {index.reset_reason}"
        yield "resets", f"{index.resets}{when}{why}"
    if index.silent_count:
        more = ", …" if index.silent_count > len(index.silent) else ""
        nodes = count(index.silent_count, "node")
        yield (
            "silent",
            f"{nodes} of this zone tell it nothing, and are asked: {', '.join(index.silent)}{more}",
        )
    if index.server is not None:
        answers = "" if index.latency_us is None else f", answers in {ms(index.latency_us)}"
        yield "server", f"{index.server}{answers}"
    if index.used_bytes is not None:
        most = f" of {size(index.most_bytes)}" if index.most_bytes else ", no maxmemory"
        yield "memory", f"{size(index.used_bytes)}{most}"
    if index.policy is not None:
        yield "policy", index.policy
    if index.cluster is not None:
        yield "cluster", index.cluster
    if index.number is not None:
        yield "number", f"{index.number}, this node's bit in all bitmaps"
