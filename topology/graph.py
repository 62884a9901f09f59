"""The cluster as a graph: region, zone, finer levels and nodes as vertices. The only user of networkx.

Edges: a vertex *lies in* the one above it; two zones are joined by what was measured between them; a
node by what was measured to it. The cost between two zones is the measured one where there is one, for
data takes the way that was measured, whatever detour looks shorter; else the shortest path over other
measured pairs, unless what is usual between their regions is less. Nodes are ends: no path leads
through one. Changed in place, one vertex or edge at a time; readers get snapshots (topology.snapshot).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import networkx as nx

from topology.placement import Locality, NodeName, Path, Region, Zone, ZoneKey
from topology.snapshot import PRIORS_US, Source

Vertex = tuple[Any, ...]
"""The path to a region, zone or finer level; ``("node", name)`` for a node; ``()`` for the cluster."""

Kind = Literal["lies_in", "zone_pair", "measured"]

Regions = frozenset[str | None]
"""Two regions, or one: the inside of it. Zones without a region count as those of one, None."""

_TOP: Vertex = ()
_LEAST_US = 1.0
_DETOUR = 1.5  # so many times the usual a measured path to another region may take


class TopologyGraph:
    """The vertices and edges of one cluster."""

    def __init__(self) -> None:
        self._graph: nx.Graph[Vertex] = nx.Graph()
        self._graph.add_node(_TOP)
        self._zones: nx.Graph[Vertex] = nx.Graph()  # the measured pairs alone: what paths lead over
        self._paths: dict[NodeName, Path] = {}
        self._inside_us: dict[Vertex, float] = {}  # of zones, where known
        self._usual_us: Mapping[Regions, float] = {}

    @property
    def graph(self) -> "nx.Graph[Vertex]":
        """The graph itself, to look at; edges have ``kind`` and, where one was measured, ``rtt_us``."""
        return self._graph

    def path(self, node: NodeName) -> Path:
        """Where a node was placed. Raises KeyError."""
        return self._paths[node]

    def place(self, node: NodeName, path: Path) -> None:
        """Put a node there, or move it. O(depth)."""
        if self._paths.get(node) == path:
            return
        self.remove(node)
        self._paths[node] = path
        below: Vertex = ("node", node)
        for depth in range(len(path), -1, -1):
            above = path[:depth]
            known = above in self._graph
            self._graph.add_edge(below, above, kind="lies_in")
            if known:
                break
            below = above

    def remove(self, node: NodeName) -> None:
        """Take a node out, and every vertex that then has nothing below it. O(depth)."""
        path = self._paths.pop(node, None)
        if path is None:
            return
        self._graph.remove_node(("node", node))
        for depth in range(len(path), 0, -1):
            vertex = path[:depth]
            if any(self._is_below(other, vertex) for other in self._graph[vertex]):
                break
            self._graph.remove_node(vertex)
            self._zones.remove_nodes_from((vertex,))
            self._inside_us.pop(vertex, None)

    def measure(self, one: NodeName, other: NodeName, rtt_us: float | None) -> None:
        """What the round trip between two nodes takes; None when it is not known any more."""
        ends: tuple[Vertex, Vertex] = (("node", one), ("node", other))
        if rtt_us is not None:
            self._graph.add_edge(*ends, kind="measured", rtt_us=rtt_us)
        elif self._graph.has_edge(*ends):
            self._graph.remove_edge(*ends)

    def join_zones(self, one: ZoneKey, other: ZoneKey, rtt_us: float | None) -> None:
        """What a round trip between two zones takes, or inside of one; None when not known any more."""
        start, end = _zone_vertex(one), _zone_vertex(other)
        if start not in self._graph or end not in self._graph:
            return
        if start == end:
            self._set_inside(start, rtt_us)
        elif rtt_us is not None:
            for graph in (self._graph, self._zones):
                graph.add_edge(start, end, kind="zone_pair", rtt_us=rtt_us)
        elif self._zones.has_edge(start, end):
            for graph in (self._graph, self._zones):
                graph.remove_edge(start, end)

    def learn_regions(self, usual_us: Mapping[Regions, float]) -> bool:
        """What is usual between the zones of a region, or of two: all that is known, anew; true for news."""
        news = usual_us != self._usual_us
        self._usual_us = dict(usual_us)
        return news

    def usual_us(self, one: ZoneKey, other: ZoneKey) -> float:
        """What is usual between the regions of two zones, or inside of a zone; a prior if not learned."""
        if one == other:
            return PRIORS_US[Locality.ZONE]
        usual_us = self._usual_us.get(frozenset((one.region, other.region)))
        if usual_us is not None:
            return usual_us
        return PRIORS_US[Locality.REGION if one.region == other.region else Locality.REMOTE]

    def zone_costs(self, origin: ZoneKey, zones: Iterable[ZoneKey]) -> dict[ZoneKey, tuple[float, Source]]:
        """The cost of a round trip from ``origin`` to each of these zones, and where it comes from.

        O(zones) where all were measured from ``origin``; else Dijkstra over the measured pairs besides.
        """
        start = _zone_vertex(origin)
        if start not in self._graph:
            return {}
        wanted = list(zones)
        self._zones.add_node(start)
        known = self._zones[start].keys() | {start}
        detours = any(_zone_vertex(zone) not in known for zone in wanted)
        paths = _dijkstra(self._zones, start, self._weight) if detours else {}
        costs: dict[ZoneKey, tuple[float, Source]] = {}
        for zone in wanted:
            end = _zone_vertex(zone)
            if end == start:
                measured = start in self._inside_us
                costs[zone] = self._inside(start), Source.ZONE_PAIR if measured else Source.PRIOR
            elif self._zones.has_edge(start, end):
                costs[zone] = self._zones[start][end]["rtt_us"], Source.ZONE_PAIR
            elif end in self._graph:
                usual_us = self.usual_us(origin, zone)
                path_us = paths.get(end, math.inf) + (self._inside(start) + self._inside(end)) / 2
                # Zones of one region are about equally far apart, so a detour says little there; the
                # way to another region is the way to a zone of it and a little more.
                worth = 1.0 if origin.region == zone.region else _DETOUR
                is_path = path_us < usual_us * worth
                costs[zone] = (path_us, Source.PATH) if is_path else (usual_us, Source.PRIOR)
        return costs

    def cost_us(self, one: NodeName, other: NodeName) -> float:
        """The cost of a round trip between any two nodes. Raises KeyError for one that is not there."""
        start, end = self._paths[one], self._paths[other]
        if one == other:
            return 0.0
        ends: tuple[Vertex, Vertex] = (("node", one), ("node", other))
        if self._graph.has_edge(*ends):
            rtt_us: float = self._graph.edges[ends]["rtt_us"]
            return rtt_us
        zones = _zone_of(start), _zone_of(end)
        if zones[0] is None or zones[1] is None:
            return PRIORS_US[Locality.REMOTE]
        return self.zone_costs(zones[0], [zones[1]])[zones[1]][0]

    def _is_below(self, other: Vertex, vertex: Vertex) -> bool:
        if other[:1] == ("node",):
            return True
        return len(other) > len(vertex) and other[: len(vertex)] == vertex

    def _set_inside(self, vertex: Vertex, rtt_us: float | None) -> None:
        if rtt_us is None:
            self._inside_us.pop(vertex, None)
        else:
            self._inside_us[vertex] = rtt_us

    def _inside(self, zone: Vertex) -> float:
        return self._inside_us.get(zone, PRIORS_US[Locality.ZONE])

    def _weight(self, one: Vertex, other: Vertex, edge: dict[str, Any]) -> float:
        """What a step adds to a path that starts and ends in the middle of a zone.

        Half of each end's inside is added once at each end of the path, so here it is left out.
        """
        rtt_us: float = edge["rtt_us"]
        return max(_LEAST_US, rtt_us - (self._inside(one) + self._inside(other)) / 2)


def _dijkstra(
    graph: "nx.Graph[Vertex]", start: Vertex, weight: Callable[[Vertex, Vertex, dict[str, Any]], float]
) -> dict[Vertex, float]:
    distances: dict[Vertex, float] = nx.single_source_dijkstra_path_length(graph, start, weight=weight)
    return distances


def _zone_vertex(zone: ZoneKey) -> Vertex:
    step = ("zone", str(zone.zone))
    return (step,) if zone.region is None else (("region", str(zone.region)), step)


def _zone_of(path: Path) -> ZoneKey | None:
    levels = dict(path)
    if "zone" not in levels:
        return None
    region = levels.get("region")
    return ZoneKey(region=None if region is None else Region(region), zone=Zone(levels["zone"]))
