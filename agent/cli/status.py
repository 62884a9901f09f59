"""``shorthaul status``: of a running agent: does it work, is it near, is it local, what does it save.

It reads the same documents as the page at the admin port: ``/api/overview`` and ``/api/cluster``.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.cli.errors import CommandError
from agent.cli.formats import age, count, size
from agent.cli.topology import add_url, admin_token
from agent.documents.cluster import ClusterDocument, ClusterZoneEntry
from agent.documents.overview import OverviewDocument, QuantilesEntry, SuccessEntry, TroubleEntry
from agent.documents.sums import SumsEntry

_EVERY_S, _LEAST_S = 5.0, 1.0
_CLUSTER_S = 5.0  # the agent waits four for the first answers of the others
_PROBLEMS_MAX = 12
_CLEAR = "\x1b[H\x1b[J"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "status",
        help="show this node and its cluster at a glance, once or live",
        description="Show whether the mirror works, how near the bytes come from, whether the local path is "
        "proved, what it saves, and what is slow; then the figures of all nodes, zone by zone. The exit "
        "status is 1 if something is wrong that pulls suffer from.",
    )
    add_url(parser)
    parser.add_argument("--here", action="store_true", help="this node alone: ask no other one")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=_EVERY_S,
        metavar="SECONDS",
        help=f"again every so many seconds (default {_EVERY_S:g}), until Ctrl-C; in a pipe a line each time",
    )
    parser.add_argument(
        "--json", action="store_true", help="the agent's answers as they are; with --watch one line each time"
    )
    parser.set_defaults(run=run, wrong=parser.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """What the agent answered. ``cluster``: None: it was not asked for."""

    plain: dict[str, Any]
    overview: OverviewDocument
    cluster: ClusterDocument | None


def run(arguments: argparse.Namespace) -> int:
    """Ask the agent, then show its answers."""
    every_s = arguments.watch
    if every_s is not None and not every_s >= _LEAST_S:
        arguments.wrong(f"--watch: {every_s:g} is less than {_LEAST_S:g} second")
    try:
        if every_s is None:
            return _once(arguments)
        return _watch(arguments, every_s)
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status


def _once(arguments: argparse.Namespace) -> int:
    # Imported here and not at the top, so that the agent's process does not load them.
    from agent.cli import drawing

    answers = _ask(arguments)
    if arguments.json:
        drawing.write(json.dumps(answers.plain, indent=2))
    else:
        drawing.write("\n".join(_lines(answers)))
    return _exit_status(answers)


def _watch(arguments: argparse.Namespace, every_s: float) -> int:
    """Until Ctrl-C. An agent that does not answer, because it is restarted for example, is asked again."""
    on_screen = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not arguments.json
    while True:
        began_s = time.monotonic()
        try:
            answers = _ask(arguments)
        except CommandError as error:
            if error.status != 1:
                raise
            text = error.lines
        else:
            text = _told(answers, as_json=arguments.json, on_screen=on_screen)
        print(f"{_CLEAR}{text}" if on_screen else text, flush=True)
        time.sleep(max(0.0, began_s + every_s - time.monotonic()))


def _told(answers: _Answers, *, as_json: bool, on_screen: bool) -> str:
    if as_json:
        return json.dumps(answers.plain)
    return "\n".join(_lines(answers)) if on_screen else _line(answers)


def _ask(arguments: argparse.Namespace) -> _Answers:
    from agent.cli import adminclient
    from agent.cli.progress import Course, shown

    token = admin_token(arguments)
    answer = adminclient.request_json(arguments.url, OverviewDocument.PATH, token=token)
    overview = adminclient.read(OverviewDocument, answer)
    if arguments.here:
        return _Answers(plain={"overview": answer}, overview=overview, cluster=None)
    with shown(Course("status", about_s=_CLUSTER_S)) as course:
        course.step(f"{count(overview.members, 'node')} of the cluster tell their figures")
        gathered = adminclient.request_json(arguments.url, ClusterDocument.PATH, token=token)
    cluster = adminclient.read(ClusterDocument, gathered)
    return _Answers(plain={"overview": answer, "cluster": gathered}, overview=overview, cluster=cluster)


def _exit_status(answers: _Answers) -> int:
    return 1 if any(each.grave for each in answers.overview.problems) else 0


def _line(answers: _Answers) -> str:
    """All in one line, for a pipe."""
    overview = answers.overview
    state = "ready" if overview.ready else f"not ready: {overview.why_not_ready}"
    shares = ", ".join(_success(each) for each in overview.success if each.asked) or "no request"
    problems = count(len(overview.problems), "problem")
    told = (
        "" if answers.cluster is None else f"; {answers.cluster.told} of {answers.cluster.members} nodes told"
    )
    return f"{overview.time} {overview.node}: {state}; {shares}; {_bytes(overview.window)}; {problems}{told}"


def _lines(answers: _Answers) -> Iterator[str]:
    overview = answers.overview
    yield _heading(overview)
    for name, value in _facts(overview):
        yield f"  {name:<11} {value}"
    yield from _problems(overview.problems)
    if answers.cluster is not None:
        yield from _cluster(answers.cluster)


def _heading(overview: OverviewDocument) -> str:
    zone = overview.zone or "no zone"
    place = zone if overview.region is None else f"{overview.region}/{zone}"
    state = "ready" if overview.ready else f"not ready: {overview.why_not_ready}"
    started = age(overview.uptime_s)
    return f"node {overview.node} in {place}, agent {overview.version}, started {started}: {state}"


def _facts(overview: OverviewDocument) -> Iterator[tuple[str, str]]:
    """The answers to what users ask. Windows are said once, in the first line."""
    window = _duration(overview.window_s)
    asked = [each for each in overview.success if each.asked]
    yield "works", f"in the last {window}: {', '.join(map(_success, asked)) or 'no request for content'}"
    yield "near", _bytes(overview.window)
    proof = overview.proof
    yield "local", f"{'proved' if proof.proved else 'not proved'}: {proof.why}"
    total = overview.total
    yield (
        "saves",
        f"since {overview.since}: {size(total.saved_bytes)} from the registry, {_usd(total.usd_saved)}; "
        f"bytes between zones cost {_usd(total.usd)}",
    )
    yield "first byte", _quantiles(overview.first_byte[0] if overview.first_byte else None)
    yield "look-up", _quantiles(overview.lookup)
    others = overview.members - 1
    yield "peers", f"{overview.peers_reachable} of {others} reachable, {overview.peers_silent} silent"
    yield "index", f"{overview.index.index}: {overview.index.words}"
    content = overview.content
    yield "content", f"{count(content.blobs, 'blob')}, {size(content.size_bytes)}"


def _success(entry: SuccessEntry) -> str:
    """As the page's first tile: what no node has is nobody's failure."""
    had = entry.served + entry.failed
    share = f"{entry.served / had:.1%}" if had else "–"
    missed = f"; {entry.missed} for what no node has" if entry.missed else ""
    return f"{entry.path} {share} answered of what some node has ({entry.served} of {had}{missed})"


def _bytes(sums: SumsEntry) -> str:
    whole = sum(each.size_bytes for each in sums.bytes_by_tier)
    if not whole:
        return "no bytes"
    parts = [f"{each.size_bytes / whole:.0%} {each.tier}" for each in sums.bytes_by_tier if each.size_bytes]
    return f"{size(whole)}: {', '.join(parts)}"


def _quantiles(entry: QuantilesEntry | None) -> str:
    if entry is None or entry.p50_s is None or entry.p95_s is None or entry.p99_s is None:
        return "none"
    quantiles = f"p50 {_ms(entry.p50_s)}, p95 {_ms(entry.p95_s)}, p99 {_ms(entry.p99_s)}"
    return f"{quantiles} ({count(entry.count, 'time')})"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _usd(usd: float) -> str:
    return f"{usd:.2f} USD" if usd >= 0.005 or usd <= 0 else "less than 0.01 USD"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _problems(problems: Sequence[TroubleEntry]) -> Iterator[str]:
    if not problems:
        yield "no problems"
        return
    yield f"{count(len(problems), 'problem')}:"
    for each in problems[:_PROBLEMS_MAX]:
        where = "" if each.node is None else f"{each.node}: "
        yield f"  [{'bad' if each.grave else 'warning'}] {each.what}: {where}{each.problem}"
        if each.hint:
            yield f"      hint: {each.hint}"
    if len(problems) > _PROBLEMS_MAX:
        yield f"  {len(problems) - _PROBLEMS_MAX} more"


_COLUMNS = (
    "zone",
    "nodes",
    "told",
    "ready",
    "proved",
    "bytes",
    "from this zone",
    "saved",
    "failed",
    "agents",
)


def _cluster(cluster: ClusterDocument) -> Iterator[str]:
    """A line for each zone. Bytes and failures are of the window."""
    yield f"cluster, in the last {_duration(cluster.window_s)}: {cluster.scope}"
    rows = [_COLUMNS, *map(_zone_row, cluster.zones)]
    if len(cluster.zones) > 1:
        rows.append(_row("all", cluster.members, cluster.told, "", "", cluster.window, ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
    for line in cluster.nodes:
        if line.says in ("silent", "absurd"):
            words = "does not answer" if line.says == "silent" else "tells what can't be true"
            yield f"  {line.node} {words}"


def _zone_row(zone: ClusterZoneEntry) -> tuple[str, ...]:
    name = zone.zone or "no zone"
    proved = "no probe" if zone.told and zone.no_probe == zone.told else str(zone.proved)
    return _row(
        name if zone.region is None else f"{zone.region}/{name}",
        zone.nodes,
        zone.told,
        str(zone.ready),
        proved,
        zone.window,
        ", ".join(zone.versions),
    )


def _row(
    name: str, nodes: int, told: int, ready: str, proved: str, sums: SumsEntry, versions: str
) -> tuple[str, ...]:
    whole = sum(each.size_bytes for each in sums.bytes_by_tier)
    near = sum(each.size_bytes for each in sums.bytes_by_tier if each.tier in ("node", "rack", "zone"))
    share = f"{near / whole:.0%}" if whole else "–"
    return (
        name,
        str(nodes),
        str(told),
        ready,
        proved,
        size(whole),
        share,
        size(sums.saved_bytes),
        str(sums.failed),
        versions,
    )
