"""What the commands show: trees and tables on the terminal, and the cluster as a picture.

The door to rich and Graphviz for the command line; imported only when a command has something to
show. Names and labels go into `Text` and through `_label`, never into markup, which would read
``[a]`` as a style.
"""

import io
import itertools
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from agent.cli.adminclient import Explanation, NodeView, TopologyView, ZoneView

_SHOWN = 20  # of each group, unless all are asked for
_ENDLESS = 10_000  # columns where no window ends the line: a file, a pipe
_DIGEST_DIGITS = 12

_DRAWN_NODES = 300  # with more, the picture has a box a zone
_DRAWN_ZONES = 100
_PAIRED_ZONES = 8  # with more, lines between all pairs would cover everything else
_DRAWING_S = 120.0

_TIER_STYLE = {
    "node": "green",
    "rack": "green",
    "zone": "green",
    "region": "yellow",
    "remote": "magenta",
}
_HOW_KNOWN = {
    "zone_pair": "the median of what is measured between the two zones",
    "told": "measured by other nodes, which told this one",
    "path": "the shortest way over other zones that are measured",
    "prior": "assumed from the labels, nobody measured anything near",
}
_SOMEBODY_MEASURED = ("measured", "told")
_MARKS = {"told": "°", "path": "~", "prior": "~~"}  # the matrix has no room for words
_SUSPECT_HINT = "compare its labels with where it really runs; what is measured contradicts them"


class DrawingError(Exception):
    """A picture that can't be made."""

    status = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(slots=True)
class _Group:
    """A place and what is directly in it. ``nearest_us`` and ``count`` are over everything below."""

    level: str = ""
    value: str = ""
    groups: dict[tuple[str, str], "_Group"] = field(default_factory=dict)
    nodes: list[NodeView] = field(default_factory=list)
    nearest_us: float = math.inf
    count: int = 0


def write(text: str) -> None:
    """Text for another program: as it is, and no matter how long the lines."""
    _console().out(text.removesuffix("\n"), highlight=False)


def print_tree(view: TopologyView, *, show_all: bool) -> None:
    """Region, zone, finer levels, nodes; below it what is wrong with labels, and the suspects."""
    limit = sys.maxsize if show_all else _SHOWN
    console = _console()
    top = _grouped(view.nodes)
    title = Text.assemble(
        ("as node ", ""), (view.node, "bold"), f" sees it, {_age(view.age_s)}: {_count(top.count, 'node')}"
    )
    title.append(f" in {_count(len(view.zones), 'zone')}")
    tree = Tree(title)
    _add_group(tree, top, limit)
    console.print(tree)
    _print_legend(console, {node.source for node in view.nodes}, {})
    suspects = [node for node in view.nodes if node.suspect is not None]
    _print_list(console, "Label problems", [(p.node, p.problem, p.hint) for p in view.problems], limit)
    _print_list(console, "Suspects", [(n.name, n.suspect or "", _SUSPECT_HINT) for n in suspects], limit)


def print_matrix(view: TopologyView) -> None:
    """Milliseconds from zone to zone."""
    console = _console()
    if not view.zones:
        console.print(Text(f"node {view.node} knows no zones: no node has a zone label"))
        return
    own = _own_zone(view)
    table = _matrix(view, own, [_zone_name(zone) for zone in view.zones])
    if _width(console, table) > console.width:
        table = _matrix(view, own, [str(number) for number in range(1, len(view.zones) + 1)])
        # A window too narrow even for this had better break the rows than lose their ends.
        console.width = max(console.width, _width(console, table))
    console.print(Text(f"ms from zone to zone, as node {view.node} knows it, {_age(view.age_s)}"))
    console.print(table)
    if own is not None:
        console.print(Text("*  this node's zone"))
    shown = {
        source
        for costs_us, sources in zip(view.matrix_us, view.matrix_source, strict=True)
        for cost_us, source in zip(costs_us, sources, strict=True)
        if cost_us is not None
    }
    _print_legend(console, shown, _MARKS)
    if any(cost_us is None for row in view.matrix_us for cost_us in row):
        console.print(Text("–  nothing is known", style="dim"))


def print_explanation(explanation: Explanation) -> None:
    """What was asked for, the choice, who holds it, and for an image the same of its content."""
    console = _console()
    console.print(
        Text.assemble(
            (f"{explanation.image}\n  is " if explanation.image else ""),
            (explanation.digest, "bold"),
            f"\n  as node {explanation.node} sees it",
        )
    )
    console.print(_verdict(explanation))
    if explanation.holders:
        console.print(_holders(explanation))
    if explanation.not_asked_in_full:
        console.print(Text("not asked in full:"))
        for peer in explanation.not_asked_in_full:
            console.print(Text(f"  {peer.node}: {peer.reason}"))
    if explanation.content:
        console.print(_content(explanation))


def dot_source(view: TopologyView) -> str:
    """The picture as Graphviz source: the asked node on the left, its peers in their zones right of it.

    A line to every measured peer; right of the zones the latencies from zone to zone.
    """
    return _Picture(view).source()


def write_png(view: TopologyView, path: Path) -> None:
    """Draw the picture to ``path``; `DrawingError` when Graphviz is missing or the file can't be written."""
    try:
        done = subprocess.run(
            ["dot", "-Tpng"],
            input=dot_source(view).encode(),
            capture_output=True,
            timeout=_DRAWING_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise DrawingError(
            "the program `dot` is not installed, which draws the picture",
            hint="apt-get install graphviz, or take the source from --dot elsewhere",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DrawingError(
            f"`dot` draws for more than {_DRAWING_S:g} s", hint="take the source from --dot to another layout"
        ) from error
    if done.returncode or not done.stdout:
        told = done.stderr.decode(errors="replace").strip()
        raise DrawingError(f"`dot` failed: {told[:500]}", hint="please report it with the output of --json")
    try:
        path.write_bytes(done.stdout)
    except OSError as error:
        raise DrawingError(
            f"{path} can't be written: {error.strerror}", hint="name a file in a directory you may write to"
        ) from error


def _console() -> Console:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode gets a "?", not a traceback
    return Console(width=None if sys.stdout.isatty() else _ENDLESS, highlight=False)


def _grouped(nodes: Iterable[NodeView]) -> _Group:
    top = _Group()
    for node in nodes:
        nearest_us = -1.0 if node.own else _or_far(node.cost_us)
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
    """Add what is in a group, nearest first, so that what is left out is far away.

    ``left``: how many nodes may still be shown, which the racks of a zone share; None: no zone yet,
    and each group has its own allowance. Returns how many were shown.
    """
    if left is None and group.level not in ("", "region"):
        left = limit
    shown = told = 0
    groups = sorted(group.groups.values(), key=lambda each: (each.nearest_us, each.value))
    for each in groups[:limit]:
        if left is not None and shown >= left:
            break
        level = each.level.rpartition("/")[2]  # topology.k8s.aws/network-node-layer-3: its end tells enough
        label = Text.assemble((f"{level} ", "dim"), (each.value, "bold"), f"  {_count(each.count, 'node')}")
        shown += _add_group(tree.add(label), each, limit, None if left is None else left - shown)
        told += 1
    if untold := groups[told:]:
        nodes = sum(each.count for each in untold)
        tree.add(Text(f"… and {len(untold)} more with {_count(nodes, 'node')} (--all)", style="dim"))
    if group.nodes and not group.level:
        tree = tree.add(Text(f"without labels  {_count(len(group.nodes), 'node')}"))
    nodes_here = sorted(group.nodes, key=lambda node: (not node.own, _or_far(node.cost_us), node.name))
    listed = nodes_here[: limit if left is None else max(left - shown, 0)]
    width = max((cell_len(node.name) for node in listed), default=0)
    for node in listed:
        tree.add(_node_line(node, width))
    if len(nodes_here) > len(listed):
        tree.add(Text(f"… and {len(nodes_here) - len(listed)} more (--all)", style="dim"))
    return shown + len(listed)


def _node_line(node: NodeView, width: int) -> Text:
    line = Text(node.name + " " * (width - cell_len(node.name)))
    if node.own:
        line.stylize("bold green")
        line.append("  this node", style="green")
    else:
        line.append(f"  {_ms(node.cost_us):>9}")
        line.append(f"  {_how_known(node)}", style="" if node.source == "measured" else "dim")
    if node.inferred:
        line.append("  *inferred*", style="cyan")
    if node.suspect is not None:
        line.append("  *suspect*", style="bold red")
        line.append(f" {node.suspect}", style="red")
    if node.cooling:
        line.append("  cooling", style="yellow")
    return line


def _how_known(node: NodeView) -> str:
    if node.source != "measured":
        return f"~ {node.source.replace('_', ' ')}"
    if node.rtt is None:
        return "measured"
    rtt = node.rtt
    return f"±{_plain_ms(rtt.jitter_us)}, {_count(rtt.samples, 'sample')}, {_age(rtt.age_s)}"


def _print_legend(console: Console, sources: set[str], marks: Mapping[str, str]) -> None:
    for source, how in _HOW_KNOWN.items():
        if source in sources:
            console.print(Text(f"{marks.get(source, '~')} {source.replace('_', ' ')}: {how}", style="dim"))


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


def _matrix(view: TopologyView, own: int | None, headings: Sequence[str]) -> Table:
    numbered = headings[0] != _zone_name(view.zones[0])
    table = Table()
    table.add_column("zone", no_wrap=True)
    for place, heading in enumerate(headings):
        title = Text(f"{heading} *" if place == own else heading, style="bold" if place == own else "")
        table.add_column(title, justify="right", no_wrap=True)
    rows = zip(view.zones, view.matrix_us, view.matrix_source, strict=True)
    for place, (zone, costs_us, sources) in enumerate(rows):
        name = f"{headings[place]}  {_zone_name(zone)}" if numbered else _zone_name(zone)
        head = Text(f"{name} *" if place == own else name, style="bold" if place == own else "")
        cells = [_matrix_cell(cost, source) for cost, source in zip(costs_us, sources, strict=True)]
        table.add_row(head, *cells)
    return table


def _matrix_cell(cost_us: float | None, source: str) -> Text:
    if cost_us is None:
        return Text("–", style="dim")
    mark = "" if source == "measured" else _MARKS.get(source, "~")
    return Text(f"{mark}{_plain_ms(cost_us)}", style="dim" if mark.startswith("~") else "")


def _verdict(explanation: Explanation) -> Text:
    if explanation.local:
        return Text.assemble("choice: ", (explanation.node, "bold green"), ", its own store has it")
    if explanation.choice is not None:
        return Text.assemble("choice: ", (explanation.choice, "bold green"))
    if explanation.holders:
        return Text("choice: none of the holders: containerd will go to the registry", style="yellow")
    return Text("nobody holds it: containerd will go to the registry", style="yellow")


def _holders(explanation: Explanation) -> Table:
    table = _table("rank", "holder", "tier", "rtt", "load", "reason", right=("rank", "rtt", "load"))
    for holder in sorted(explanation.holders, key=lambda holder: holder.rank):
        _add_row(
            table,
            str(holder.rank),
            Text(holder.node, style="bold" if holder.node == explanation.choice else ""),
            Text(holder.tier, style=_TIER_STYLE.get(holder.tier, "")),
            _ms(holder.rtt_us),
            "–" if holder.load is None else f"{holder.load:g}",
            holder.reason,
        )
    return table


def _content(explanation: Explanation) -> Table:
    table = _table("content", "kind", "size", "from", "reason", right=("size",))
    for blob in explanation.content:
        algorithm, _, whole = blob.digest.rpartition(":")
        digits = whole[:_DIGEST_DIGITS]
        source = "this node" if blob.local else blob.choice
        _add_row(
            table,
            digits if algorithm in ("", "sha256") else f"{algorithm}:{digits}",
            blob.kind,
            _size(blob.size_bytes),
            Text(source, style="green") if source else Text("the registry", style="yellow"),
            blob.reason,
        )
    return table


def _table(*headings: str, right: Sequence[str]) -> Table:
    table = Table()
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in right else "left"
        names = heading in ("holder", "from", "reason")  # of any length; the rest is short
        table.add_column(heading, justify=justify, no_wrap=not names, overflow="fold")
    return table


def _add_row(table: Table, *cells: str | Text) -> None:
    texts: list[RenderableType] = [Text(cell) if isinstance(cell, str) else cell for cell in cells]
    table.add_row(*texts)


class _Picture:
    """The picture of one answer.

    Boxes have numbers for identifiers: Graphviz gives a meaning to colons and to some words there.
    Latencies between zones are boxes without a border, not edge labels: those may lie on one another.
    """

    def __init__(self, view: TopologyView) -> None:
        import graphviz  # type: ignore[import-untyped]

        self._view = view
        self._graphviz = graphviz
        self._own_zone = _own_zone(view)
        self._zones = {(zone.region, zone.zone): place for place, zone in enumerate(view.zones)}
        self._single_nodes = len(view.nodes) <= _DRAWN_NODES
        self._graph = graphviz.Digraph(
            "topology",
            graph_attr={
                "rankdir": "LR",
                "nodesep": "0.12",
                "ranksep": "1.4",
                "fontname": "Helvetica",
                "labelloc": "t",
            },
            node_attr={
                "shape": "box",
                "style": "rounded,filled",
                "fillcolor": "white",
                "fontname": "Helvetica",
                "fontsize": "11",
                "height": "0.3",
            },
            edge_attr={"fontname": "Helvetica", "fontsize": "10", "arrowsize": "0.5"},
        )

    def source(self) -> str:
        """All of it."""
        drawn = self._drawn_zones()
        title = [f"as node {self._view.node} sees it, {_count(len(self._view.nodes), 'node')}"]
        if len(drawn) < len(self._view.zones):
            title.append(f"the {len(drawn)} nearest of {len(self._view.zones)} zones")
        title.append("dashed line: not measured")
        self._graph.attr(label=self._label(", ".join(title)))
        if self._single_nodes:
            self._add_nodes(drawn)
        else:
            self._add_zone_boxes(drawn)
        self._add_pairs(drawn)
        return str(self._graph.source)

    def _drawn_zones(self) -> list[int]:
        """All zones, or the nearest where they are boxes and too many."""
        every = range(len(self._view.zones))
        if self._single_nodes or len(every) <= _DRAWN_ZONES:
            return list(every)
        own = self._own_zone
        if own is None:
            return list(every)[:_DRAWN_ZONES]
        costs_us = self._view.matrix_us[own]
        return sorted(every, key=lambda place: (place != own, _or_far(costs_us[place])))[:_DRAWN_ZONES]

    def _add_nodes(self, drawn: Sequence[int]) -> None:
        boxes: dict[int | None, list[tuple[int, NodeView]]] = {}
        for number, node in enumerate(self._view.nodes):
            boxes.setdefault(self._zone_of(node), []).append((number, node))
        for region, places in self._by_region(drawn):
            with self._graph.subgraph(name=f"cluster_region_{places[0]}") as outer:
                self._frame(outer, region, "region")
                for place in places:
                    with outer.subgraph(name=f"cluster_zone_{place}") as inner:
                        self._frame(inner, self._view.zones[place].zone, "zone", fill="#f3f4f6")
                        for number, node in boxes.get(place, ()):
                            self._add_node(inner, number, node)
                        inner.node(f"z{place}", self._inside(place), shape="plaintext", style="")
        for number, node in boxes.get(None, ()):
            self._add_node(self._graph, number, node)
        own = next((number for number, node in enumerate(self._view.nodes) if node.own), None)
        for number, node in enumerate(self._view.nodes):
            if own is not None and number != own:
                self._add_edge(f"n{own}", f"n{number}", node)
            if (zone := self._zone_of(node)) is not None:
                self._graph.edge(f"n{number}", f"z{zone}", style="invis")

    def _add_node(self, graph: Any, number: int, node: NodeView) -> None:
        words = [node.name]
        marks = [word for word, is_so in (("inferred", node.inferred), ("cooling", node.cooling)) if is_so]
        if node.suspect is not None:
            marks.append("suspect")
        if not node.own and node.source != "measured":
            marks.append(f"~ {_ms(node.cost_us)}")
        words += [", ".join(marks)] if marks else []
        attributes = {"style": "rounded,filled,dashed" if node.inferred else "rounded,filled"}
        if node.own:
            attributes |= {"fillcolor": "#bfdbfe", "penwidth": "2"}
        elif node.cooling:
            attributes |= {"fillcolor": "#fef3c7"}
        if node.suspect is not None:
            attributes |= {"color": "#dc2626", "fontcolor": "#dc2626", "penwidth": "2"}
        graph.node(f"n{number}", self._label(*words), **attributes)

    def _add_edge(self, own: str, other: str, node: NodeView) -> None:
        if node.source == "measured" and node.cost_us is not None:
            colour = _colour(node.cost_us)
            self._graph.edge(own, other, _ms(node.cost_us), color=colour, fontcolor=colour)
        else:  # keeps the peer in the column of the others
            self._graph.edge(own, other, style="invis")

    def _add_zone_boxes(self, drawn: Sequence[int]) -> None:
        for region, places in self._by_region(drawn):
            with self._graph.subgraph(name=f"cluster_region_{places[0]}") as outer:
                self._frame(outer, region, "region")
                for place in places:
                    zone = self._view.zones[place]
                    label = self._label(
                        zone.zone or "no zone", _count(zone.nodes, "node"), *self._inside_words(place)
                    )
                    attributes = {"fillcolor": "#bfdbfe", "penwidth": "2"} if place == self._own_zone else {}
                    outer.node(f"z{place}", label, **attributes)
        if self._own_zone is None:
            return
        for place in drawn:
            if place != self._own_zone:
                known = self._between(self._own_zone, place)
                attributes = {"style": "invis"}
                if known is not None:
                    colour = _colour(known[0])
                    attributes = {"color": colour, "fontcolor": colour, "label": _ms(known[0])}
                    attributes |= {} if known[1] else {"style": "dashed"}
                self._graph.edge(f"z{self._own_zone}", f"z{place}", **attributes)

    def _add_pairs(self, drawn: Sequence[int]) -> None:
        few = len(drawn) <= _PAIRED_ZONES
        for first, second in itertools.combinations(drawn, 2):
            with_own = self._own_zone in (first, second)
            wanted = self._single_nodes if with_own else few  # boxes of zones have lines from the own one
            known = self._between(first, second) if wanted else None
            if known is None:
                continue
            cost_us, measured = known
            colour, box = _colour(cost_us), f"p{first}_{second}"
            self._graph.node(box, _ms(cost_us), shape="plaintext", style="", fontcolor=colour)
            style = "solid" if measured else "dashed"
            for place in (first, second):
                self._graph.edge(f"z{place}", box, color=colour, style=style, penwidth="2", arrowhead="none")

    def _between(self, first: int, second: int) -> tuple[float, bool] | None:
        """The latency between two zones, and whether it is measured; the better known direction."""
        found = []
        for one, other in ((first, second), (second, first)):
            cost_us = self._view.matrix_us[one][other]
            if cost_us is not None:
                found.append((self._view.matrix_source[one][other] not in _SOMEBODY_MEASURED, cost_us))
        if not found:
            return None
        unmeasured, cost_us = min(found)
        return cost_us, not unmeasured

    def _inside(self, place: int) -> str:
        zone = self._view.zones[place]
        return self._label(zone.zone or "no zone", _count(zone.nodes, "node"), *self._inside_words(place))

    def _inside_words(self, place: int) -> list[str]:
        cost_us = self._view.matrix_us[place][place]
        if cost_us is None:
            return []
        about = "" if self._view.matrix_source[place][place] in _SOMEBODY_MEASURED else "~ "
        return [f"inside {about}{_ms(cost_us)}"]

    def _by_region(self, places: Iterable[int]) -> Iterator[tuple[str | None, list[int]]]:
        regions: dict[str | None, list[int]] = {}
        for place in places:
            regions.setdefault(self._view.zones[place].region, []).append(place)
        yield from regions.items()

    def _zone_of(self, node: NodeView) -> int | None:
        labels = dict(node.placement)
        return self._zones.get((labels.get("region"), labels.get("zone")))

    def _frame(self, graph: Any, value: str | None, level: str, *, fill: str = "#ffffff") -> None:
        if value is None:
            graph.attr(label="", style="invis")
            return
        label = self._label(f"{level} {value}")
        graph.attr(label=label, style="rounded,filled", fillcolor=fill, color="#9ca3af")

    def _label(self, *lines: str) -> str:
        """Literal text: no backslash sequences, no HTML, and no entities, which Graphviz reads anywhere."""
        escaped = [line.replace("&", "&amp;").replace("\\", "\\\\") for line in lines]
        label: str = self._graphviz.nohtml("\\n".join(escaped))
        return label


def _own_zone(view: TopologyView) -> int | None:
    own = next((node for node in view.nodes if node.own), None)
    if own is None:
        return None
    labels = dict(own.placement)
    zones = [(zone.region, zone.zone) for zone in view.zones]
    sought = (labels.get("region"), labels.get("zone"))
    return zones.index(sought) if sought in zones else None


def _zone_name(zone: ZoneView) -> str:
    name = zone.zone or "no zone"
    return name if zone.region is None else f"{zone.region}/{name}"


def _colour(cost_us: float) -> str:
    """Green to red on a log scale from 0.1 to 100 ms, the same in every picture."""
    share = (math.log10(max(cost_us, 1.0)) - 2) / 3
    return f"{0.38 * (1 - min(max(share, 0.0), 1.0)):.3f} 1.0 0.65"


def _or_far(cost_us: float | None) -> float:
    return math.inf if cost_us is None else cost_us


def _plain_ms(cost_us: float) -> str:
    ms = cost_us / 1000
    return f"{ms:.2f}" if ms < 100 else f"{ms:.0f}"


def _ms(cost_us: float | None) -> str:
    return "–" if cost_us is None else f"{_plain_ms(cost_us)} ms"


def _age(age_s: float) -> str:
    if not math.isfinite(age_s):
        return "long ago"
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= 2 * length_s:
            return f"{age_s / length_s:.0f} {unit} ago"
    return f"{max(age_s, 0):.0f} s ago"


def _size(size_bytes: float | None) -> str:
    if size_bytes is None:
        return "–"
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= length:
            return f"{size_bytes / length:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
