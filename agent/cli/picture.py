"""The cluster as a picture: Graphviz source, and a PNG that `dot` draws from it.

Only this module imports Graphviz, and only a command that makes a picture imports this module. Names and
labels go through `_Picture._label`: Graphviz would interpret HTML, entities and escapes in them.
"""

import itertools
import math
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import graphviz  # type: ignore[import-untyped]

from agent.cli.errors import CommandError
from agent.cli.formats import count, ms, or_far
from agent.documents.topology import NodeEntry, TopologyDocument

_DRAWN_NODES = 300  # with more nodes, there is one box for each zone
_DRAWN_ZONES = 100
_PAIRED_ZONES = 8  # with more zones, the lines between all pairs would cover everything else
_DRAWING_S = 120.0
_SOMEBODY_MEASURED = ("measured", "told")


def dot_source(view: TopologyDocument) -> str:
    """The picture as Graphviz source: the asked node on the left, its peers in their zones right of it.

    There is a line to every measured peer. Right of the zones are the latencies from zone to zone.
    """
    return _Picture(view).source()


def write_png(view: TopologyDocument, path: Path) -> None:
    """Draw the picture to ``path``. Raises `CommandError` if that fails or Graphviz is missing."""
    try:
        done = subprocess.run(
            ["dot", "-Tpng"],
            input=dot_source(view).encode(),
            capture_output=True,
            timeout=_DRAWING_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise CommandError(
            "the program `dot` is not installed, which draws the picture",
            hint="apt-get install graphviz, or take the source from --dot elsewhere",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(
            f"`dot` draws for more than {_DRAWING_S:g} s", hint="take the source from --dot to another layout"
        ) from error
    if done.returncode or not done.stdout:
        told = done.stderr.decode(errors="replace").strip()
        raise CommandError(f"`dot` failed: {told[:500]}", hint="please report it with the output of --json")
    try:
        path.write_bytes(done.stdout)
    except OSError as error:
        raise CommandError(
            f"{path} can't be written: {error.strerror}", hint="name a file in a directory you may write to"
        ) from error


class _Picture:
    """The picture of one answer.

    Identifiers of boxes have numbers and no names: Graphviz gives colons and some words a meaning there.
    Latencies between zones are boxes without a border. Edge labels could cover each other.
    """

    def __init__(self, view: TopologyDocument) -> None:
        self._view = view
        self._own_zone = view.own_zone
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
        """The whole picture as Graphviz source."""
        drawn = self._drawn_zones()
        title = [f"as node {self._view.node} sees it, {count(len(self._view.nodes), 'node')}"]
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
        """The indexes of the zones to draw: all of them, or the nearest if there are too many boxes."""
        every = range(len(self._view.zones))
        if self._single_nodes or len(every) <= _DRAWN_ZONES:
            return list(every)
        own = self._own_zone
        if own is None:
            return list(every)[:_DRAWN_ZONES]
        costs_us = self._view.matrix_us[own]
        return sorted(every, key=lambda place: (place != own, or_far(costs_us[place])))[:_DRAWN_ZONES]

    def _add_nodes(self, drawn: Sequence[int]) -> None:
        boxes: dict[int | None, list[tuple[int, NodeEntry]]] = {}
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

    def _add_node(self, graph: Any, number: int, node: NodeEntry) -> None:
        words = [node.name]
        marks = [word for word, is_so in (("inferred", node.inferred), ("cooling", node.cooling)) if is_so]
        if node.suspect is not None:
            marks.append("suspect")
        if node.silent is not None:
            marks.append("does not answer")
        if not node.own and node.source != "measured":
            marks.append(f"~ {ms(node.cost_us)}")
        words += [", ".join(marks)] if marks else []
        attributes = {"style": "rounded,filled,dashed" if node.inferred else "rounded,filled"}
        if node.own:
            attributes |= {"fillcolor": "#bfdbfe", "penwidth": "2"}
        elif node.cooling or node.silent is not None:
            attributes |= {"fillcolor": "#fef3c7"}
        if node.suspect is not None:
            attributes |= {"color": "#dc2626", "fontcolor": "#dc2626", "penwidth": "2"}
        graph.node(f"n{number}", self._label(*words), **attributes)

    def _add_edge(self, own: str, other: str, node: NodeEntry) -> None:
        if node.source == "measured" and node.cost_us is not None:
            colour = _colour(node.cost_us)
            self._graph.edge(own, other, ms(node.cost_us), color=colour, fontcolor=colour)
        else:  # an invisible edge keeps the peer in the same column as the others
            self._graph.edge(own, other, style="invis")

    def _add_zone_boxes(self, drawn: Sequence[int]) -> None:
        for region, places in self._by_region(drawn):
            with self._graph.subgraph(name=f"cluster_region_{places[0]}") as outer:
                self._frame(outer, region, "region")
                for place in places:
                    zone = self._view.zones[place]
                    label = self._label(
                        zone.zone or "no zone", count(zone.nodes, "node"), *self._inside_words(place)
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
                    attributes = {"color": colour, "fontcolor": colour, "label": ms(known[0])}
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
            self._graph.node(box, ms(cost_us), shape="plaintext", style="", fontcolor=colour)
            style = "solid" if measured else "dashed"
            for place in (first, second):
                self._graph.edge(f"z{place}", box, color=colour, style=style, penwidth="2", arrowhead="none")

    def _between(self, first: int, second: int) -> tuple[float, bool] | None:
        """The latency between two zones, and whether it is measured. Uses the better known direction."""
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
        return self._label(zone.zone or "no zone", count(zone.nodes, "node"), *self._inside_words(place))

    def _inside_words(self, place: int) -> list[str]:
        cost_us = self._view.matrix_us[place][place]
        if cost_us is None:
            return []
        about = "" if self._view.matrix_source[place][place] in _SOMEBODY_MEASURED else "~ "
        return [f"inside {about}{ms(cost_us)}"]

    def _by_region(self, places: Iterable[int]) -> Iterator[tuple[str | None, list[int]]]:
        regions: dict[str | None, list[int]] = {}
        for place in places:
            regions.setdefault(self._view.zones[place].region, []).append(place)
        yield from regions.items()

    def _zone_of(self, node: NodeEntry) -> int | None:
        labels = dict(node.placement)
        return self._zones.get((labels.get("region"), labels.get("zone")))

    def _frame(self, graph: Any, value: str | None, level: str, *, fill: str = "#ffffff") -> None:
        if value is None:
            graph.attr(label="", style="invis")
            return
        label = self._label(f"{level} {value}")
        graph.attr(label=label, style="rounded,filled", fillcolor=fill, color="#9ca3af")

    def _label(self, *lines: str) -> str:
        """Literal text for Graphviz, without backslash sequences, HTML and entities."""
        escaped = [line.replace("&", "&amp;").replace("\\", "\\\\") for line in lines]
        label: str = graphviz.nohtml("\\n".join(escaped))
        return label


def _colour(cost_us: float) -> str:
    """Green to red on a log scale from 0.1 to 100 ms, the same in every picture."""
    share = (math.log10(max(cost_us, 1.0)) - 2) / 3
    return f"{0.38 * (1 - min(max(share, 0.0), 1.0)):.3f} 1.0 0.65"
