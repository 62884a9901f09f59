"""What the commands show on the terminal: trees and tables.

Of the command line only this module imports rich, and only commands that show something import it. Names and
labels go into `Text`, never into markup: markup would take ``[a]`` for a style.
"""

import io
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from agent.cli.formats import age, count, ms, or_far, plain_ms, size, zone_name
from agent.documents.claims import ClaimsDocument, DecidedClaimEntry
from agent.documents.explain import ExplainDocument, PeerReasonEntry
from agent.documents.index import IndexSource
from agent.documents.requests import TagEntry
from agent.documents.topology import NodeEntry, TopologyDocument

_SHOWN = 20  # entries of each group, without --all
_ENDLESS = 10_000  # columns, if the output is a file or a pipe
_DIGEST_DIGITS = 12

_TIER_STYLE = {
    "node": "green",
    "rack": "green",
    "zone": "green",
    "region": "yellow",
    "remote": "magenta",
}
_PATH = "the shortest way over other zones that are measured"
_NODE_SOURCES = {
    "zone_pair": "the median of what is measured between the two zones",
    "says_slower": "the node itself says that it is slower than its zone",
    "path": _PATH,
    "prior": "usual between such zones, nobody measured this one",
}
_MATRIX_SOURCES = {
    "told": "measured by other nodes, which told this one",
    "path": _PATH,
    "prior": "usual for such zones, nobody measured these",
}
_MARKS = {"told": "°", "path": "~", "prior": "~~"}  # the matrix has no room for words
_LEARNT = {
    IndexSource.CACHE.value: "memory",
    IndexSource.SERVER.value: "the server",
    IndexSource.FALLBACK.value: "near peers",
}
_SUSPECT_HINT = "compare its labels with where it really runs; what is measured contradicts them"

_SILENT_HINT = "check that node, and that port 30020 is open; pulls work without it"


@dataclass(slots=True)
class _Group:
    """A place, and what is directly in it. ``nearest_us`` and ``count`` include everything below it."""

    level: str = ""
    value: str = ""
    groups: dict[tuple[str, str], "_Group"] = field(default_factory=dict)
    nodes: list[NodeEntry] = field(default_factory=list)
    nearest_us: float = math.inf
    count: int = 0


def write(text: str) -> None:
    """Write text for another program: unchanged, with lines of any length."""
    make_console().out(text.removesuffix("\n"), highlight=False)


def print_tree(view: TopologyDocument, *, show_all: bool) -> None:
    """The tree of regions, zones, finer levels and nodes. Then the problems and the suspects."""
    limit = sys.maxsize if show_all else _SHOWN
    console = make_console()
    top = _grouped(view.nodes)
    title = Text.assemble(
        ("as node ", ""), (view.node, "bold"), f" sees it, {age(view.age_s)}: {count(top.count, 'node')}"
    )
    title.append(f" in {count(len(view.zones), 'zone')}")
    tree = Tree(title)
    _add_group(tree, top, limit)
    console.print(tree)
    shown = {node.source for node in view.nodes}
    _print_legend(console, {f"~ {_words(s)}": how for s, how in _NODE_SOURCES.items() if s in shown})
    suspects = [node for node in view.nodes if node.suspect is not None]
    _print_list(console, "Problems", [(p.node, p.problem, p.hint) for p in view.problems], limit)
    silent = [node for node in view.nodes if node.silent is not None]
    _print_list(console, "Do not answer", [(n.name, n.silent or "", _SILENT_HINT) for n in silent], limit)
    _print_list(console, "Suspects", [(n.name, n.suspect or "", _SUSPECT_HINT) for n in suspects], limit)


def print_matrix(view: TopologyDocument) -> None:
    """The matrix of milliseconds from zone to zone."""
    console = make_console()
    if not view.zones:
        console.print(Text(f"node {view.node} knows no zones: no node has a zone label"))
        return
    own = view.own_zone
    table = _matrix(view, own, [zone_name(zone) for zone in view.zones])
    if _width(console, table) > console.width:
        table = _matrix(view, own, [str(number) for number in range(1, len(view.zones) + 1)])
        # If even this is too wide, the terminal breaks the rows. Otherwise rich would cut off their ends.
        console.width = max(console.width, _width(console, table))
    console.print(Text(f"ms from zone to zone, as node {view.node} knows it, {age(view.age_s)}"))
    console.print(table)
    if own is not None:
        console.print(Text("*  this node's zone"))
    shown = {
        source
        for costs_us, sources in zip(view.matrix_us, view.matrix_source, strict=True)
        for cost_us, source in zip(costs_us, sources, strict=True)
        if cost_us is not None
    }
    _print_legend(console, {f"{_MARKS[s]} {s}": how for s, how in _MATRIX_SOURCES.items() if s in shown})
    if any(cost_us is None for row in view.matrix_us for cost_us in row):
        console.print(Text("–  nothing is known", style="dim"))


def print_explanation(explanation: ExplainDocument) -> None:
    """The digest, the choice, the holders. For an image, also the choice for each blob of it."""
    console = make_console()
    console.print(
        Text.assemble(
            (f"{explanation.image}\n  is " if explanation.image else ""),
            (explanation.digest, "bold"),
            f"\n  as node {explanation.node} sees it",
            ("" if explanation.tag is None else f"\n  {_whose_word(explanation.tag)}"),
        )
    )
    console.print(_verdict(explanation))
    if explanation.learnt is not None:
        console.print(Text(f"{explanation.learnt} (shorthaul index)"))
    if explanation.claim is not None:
        console.print(Text(f"{explanation.claim} (shorthaul claims)"))
    if explanation.flaw is not None:
        console.print(Text(f"this node's own copy is {explanation.flaw}", style="yellow"))
    if explanation.arriving is not None:
        console.print(Text(f"it is arriving here: {explanation.arriving}"))
    if explanation.given is not None:
        console.print(Text(f"this node gives its own copy {explanation.given}"))
    if explanation.holders:
        console.print(_holders(explanation))
    _print_peers(console, "not asked in full:", explanation.not_asked_in_full)
    _print_peers(console, "hold it, but no pull of it tries them now:", explanation.passed_over)
    if explanation.failures:
        console.print(Text("last failures of peers, whatever they were asked for:"))
    for peer in explanation.failures[:_SHOWN]:
        since = "; it has answered since" if peer.answered_since else ""
        console.print(Text(f"  {peer.node}: {peer.failure}, {age(peer.age_s)}{since}"))
    if more := explanation.failures[_SHOWN:]:
        console.print(Text(f"  … and {len(more)} more (--json)", style="dim"))
    if explanation.content:
        console.print(_content(explanation))


def print_claims(claims: ClaimsDocument) -> None:
    """What this node fetches for others, what it waits for, and on what it decides."""
    console = make_console()
    if claims.mode == "off":
        console.print(Text(f"node {claims.node} takes no claims (cold_start.mode: off)"))
        return
    console.print(Text(f"as node {claims.node} knows it, with cold_start.scope: {claims.scope}"))
    if claims.followers:
        console.print(Text(f"it passes on {claims.followers} bodies of what still arrives here"))
    if not (claims.held or claims.awaited or claims.decided):
        console.print(Text("no claims now: nothing is being fetched that nobody has", style="dim"))
    rows = [(held.digest, held.scope, size(held.received_bytes), age(held.age_s)) for held in claims.held]
    _print_table(
        console, "it fetches from the registry for others:", ("content", "for the", "has", "since"), rows
    )
    rows = [(each.digest, each.scope, each.arbiter, age(each.age_s)) for each in claims.awaited]
    _print_table(console, "it waits for:", ("content", "in the", "decided by", "since"), rows)
    decided = [
        (each.digest, each.scope, each.node, _progress(each), str(each.waiting)) for each in claims.decided
    ]
    headings = ("content", "for the", "fetched by", "has", "wait")
    _print_table(console, "it decides who fetches:", headings, decided)
    for each in claims.decided:
        if each.ways:
            ways = ", ".join(f"{way.source_zone} → {way.destination_zone}" for way in each.ways)
            console.print(Text(f"{_short(each.digest)} travels {ways}"))


def _progress(claim: DecidedClaimEntry) -> str:
    if claim.complete:
        return "all"
    return size(claim.received_bytes) if claim.received_bytes else "nothing yet"


def _print_table(
    console: Console, title: str, headings: Sequence[str], rows: Sequence[tuple[str, ...]]
) -> None:
    """A table whose first column is a digest."""
    if not rows:
        return
    console.print(Text(title))
    table = _table(*headings, right=("has", "since", "wait"))
    for digest, *cells in rows[:_SHOWN]:
        _add_row(table, _short(digest), *cells)
    console.print(table)
    if more := rows[_SHOWN:]:
        console.print(Text(f"  … and {len(more)} more (--json)", style="dim"))


def _short(digest: str) -> str:
    """The beginning of a digest. Its algorithm only if it is an unusual one."""
    algorithm, _, whole = digest.rpartition(":")
    digits = whole[:_DIGEST_DIGITS]
    return digits if algorithm in ("", "sha256") else f"{algorithm}:{digits}"


def _whose_word(tag: TagEntry) -> str:
    """Who says that the tag is this digest."""
    seen = "imported it" if tag.imported else "saw it at the registry"
    told = "" if tag.told_by == tag.vouched_by else f", {tag.told_by} passed that on"
    return f"because {tag.vouched_by} {seen} {tag.age_s:.0f} s ago{told}"


def make_console(*, piped_width: int = _ENDLESS) -> Console:
    """The terminal. ``piped_width``: columns if the output is a file or a pipe; it is for people as well."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode gets a "?", not a traceback
    return Console(width=None if sys.stdout.isatty() else piped_width, highlight=False)


def _grouped(nodes: Iterable[NodeEntry]) -> _Group:
    top = _Group()
    for node in nodes:
        nearest_us = -1.0 if node.own else or_far(node.cost_us)
        group = top
        way = [top]
        for level in node.placement:
            group = group.groups.setdefault(level, _Group(*level))
            way.append(group)
        group.nodes.append(node)
        for passed in way:
            passed.count += 1
            passed.nearest_us = min(passed.nearest_us, nearest_us)
    return top


def _add_group(tree: Tree, group: _Group, limit: int, left: int | None = None) -> int:
    """Add the content of a group, nearest first, so that only far nodes are left out.

    ``left``: how many more nodes may be shown. The racks of a zone share this number. It is None above the
    zones, because each zone has its own number. Returns how many nodes were shown.
    """
    if left is None and group.level not in ("", "region"):
        left = limit
    shown = told = 0
    groups = sorted(group.groups.values(), key=lambda each: (each.nearest_us, each.value))
    for each in groups[:limit]:
        if left is not None and shown >= left:
            break
        level = each.level.rpartition("/")[2]  # topology.k8s.aws/network-node-layer-3: its end tells enough
        label = Text.assemble((f"{level} ", "dim"), (each.value, "bold"), f"  {count(each.count, 'node')}")
        shown += _add_group(tree.add(label), each, limit, None if left is None else left - shown)
        told += 1
    if untold := groups[told:]:
        nodes = sum(each.count for each in untold)
        tree.add(Text(f"… and {len(untold)} more with {count(nodes, 'node')} (--all)", style="dim"))
    if group.nodes and not group.level:
        tree = tree.add(Text(f"without labels  {count(len(group.nodes), 'node')}"))
    nodes_here = sorted(group.nodes, key=lambda node: (not node.own, or_far(node.cost_us), node.name))
    listed = nodes_here[: limit if left is None else max(left - shown, 0)]
    width = max((cell_len(node.name) for node in listed), default=0)
    for node in listed:
        tree.add(_node_line(node, width))
    if len(nodes_here) > len(listed):
        tree.add(Text(f"… and {len(nodes_here) - len(listed)} more (--all)", style="dim"))
    return shown + len(listed)


def _node_line(node: NodeEntry, width: int) -> Text:
    line = Text(node.name + " " * (width - cell_len(node.name)))
    if node.own:
        line.stylize("bold green")
        line.append("  this node", style="green")
    else:
        line.append(f"  {ms(node.cost_us):>9}")
        line.append(f"  {_how_known(node)}", style="" if node.source == "measured" else "dim")
    if node.inferred:
        line.append("  *inferred*", style="cyan")
    if node.suspect is not None:
        line.append("  *suspect*", style="bold red")
        line.append(f" {node.suspect}", style="red")
    if node.silent is not None:
        line.append("  does not answer", style="bold yellow")
    elif node.cooling:
        line.append("  cooling", style="yellow")
    return line


def _how_known(node: NodeEntry) -> str:
    if node.source != "measured":
        return f"~ {_words(node.source)}"
    if node.rtt is None:
        return "measured"
    rtt = node.rtt
    return f"±{plain_ms(rtt.jitter_us)}, {count(rtt.samples, 'sample')}, {age(rtt.age_s)}"


def _words(source: str) -> str:
    return source.replace("_", " ")


def _print_legend(console: Console, meanings: dict[str, str]) -> None:
    for mark, meaning in meanings.items():
        console.print(Text(f"{mark}: {meaning}", style="dim"))


def _print_list(console: Console, title: str, entries: Sequence[tuple[str, str, str]], limit: int) -> None:
    if not entries:
        return
    console.print()
    console.print(Text(f"{title}: {len(entries)}", style="bold"))
    told = ""
    for name, problem, hint in entries[:limit]:
        console.print(Text.assemble("  ", (name, "bold"), f": {problem}"))
        if hint and hint != told:  # many nodes share a mistake, and its remedy
            console.print(Text(f"      hint: {hint}", style="dim"))
        told = hint
    if len(entries) > limit:
        console.print(Text(f"  … and {len(entries) - limit} more (--all)", style="dim"))


def _width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(max_width=sys.maxsize)).maximum


def _matrix(view: TopologyDocument, own: int | None, headings: Sequence[str]) -> Table:
    numbered = headings[0] != zone_name(view.zones[0])
    table = Table()
    table.add_column("zone", no_wrap=True)
    for place, heading in enumerate(headings):
        title = Text(f"{heading} *" if place == own else heading, style="bold" if place == own else "")
        table.add_column(title, justify="right", no_wrap=True)
    rows = zip(view.zones, view.matrix_us, view.matrix_source, strict=True)
    for place, (zone, costs_us, sources) in enumerate(rows):
        name = f"{headings[place]}  {zone_name(zone)}" if numbered else zone_name(zone)
        head = Text(f"{name} *" if place == own else name, style="bold" if place == own else "")
        cells = [_matrix_cell(cost, source) for cost, source in zip(costs_us, sources, strict=True)]
        table.add_row(head, *cells)
    return table


def _matrix_cell(cost_us: float | None, source: str | None) -> Text:
    if cost_us is None or source is None:
        return Text("–", style="dim")
    mark = "" if source == "measured" else _MARKS.get(source, "~")
    return Text(f"{mark}{plain_ms(cost_us)}", style="dim" if mark.startswith("~") else "")


def _verdict(explanation: ExplainDocument) -> Text:
    if explanation.local:
        return Text.assemble("choice: ", (explanation.node, "bold green"), ", its own store has it")
    if explanation.choice is not None:
        return Text.assemble("choice: ", (explanation.choice, "bold green"))
    if explanation.holders or explanation.passed_over:
        return Text("choice: none of the holders: containerd will go to the registry", style="yellow")
    nobody = "nobody that was asked in full" if explanation.not_asked_in_full else "nobody"
    return Text(f"{nobody} holds it: containerd will go to the registry", style="yellow")


def _holders(explanation: ExplainDocument) -> Table:
    table = _table("rank", "holder", "tier", "rtt", "load", "reason", right=("rank", "rtt", "load"))
    for holder in sorted(explanation.holders, key=lambda holder: holder.rank):
        _add_row(
            table,
            str(holder.rank),
            Text(holder.node, style="bold" if holder.node == explanation.choice else ""),
            Text(holder.tier, style=_TIER_STYLE.get(holder.tier, "")),
            ms(holder.rtt_us),
            "–" if holder.load is None else str(holder.load),
            holder.reason,
        )
    return table


def _content(explanation: ExplainDocument) -> Table:
    # Without a server of the index everything is known from the peers.
    learnt = ["known from"] if any(blob.learnt for blob in explanation.content) else []
    table = _table("content", "kind", "size", "from", *learnt, "reason", right=("size",))
    for blob in explanation.content:
        source = "this node" if blob.local else blob.choice
        _add_row(
            table,
            _short(blob.digest),
            blob.kind,
            size(blob.size_bytes),
            Text(source, style="green") if source else Text("the registry", style="yellow"),
            *(_LEARNT.get(blob.learnt or "", blob.learnt or "") for _ in learnt),
            blob.reason,
        )
    return table


def _print_peers(console: Console, title: str, peers: Sequence[PeerReasonEntry]) -> None:
    if peers:
        console.print(Text(title))
    for peer in peers[:_SHOWN]:
        console.print(Text(f"  {peer.node}: {peer.reason}"))
    if more := peers[_SHOWN:]:
        console.print(Text(f"  … and {len(more)} more (--json)", style="dim"))


def _table(*headings: str, right: Sequence[str]) -> Table:
    table = Table()
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in right else "left"
        names = heading in (
            "holder",
            "from",
            "reason",
            "fetched by",
            "decided by",
        )  # of any length; the rest is short
        table.add_column(heading, justify=justify, no_wrap=not names, overflow="fold")
    return table


def _add_row(table: Table, *cells: str | Text) -> None:
    texts: list[RenderableType] = [Text(cell) if isinstance(cell, str) else cell for cell in cells]
    table.add_row(*texts)
