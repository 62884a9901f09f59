"""The cluster as a graph: region, zone, finer levels and nodes as vertices. The only user of networkx.

There are three kinds of edges. A vertex *lies in* the vertex above it. A *zone pair* joins two zones that
were measured. A *measured* edge joins this node to a peer that it measured.

The cost between two zones is the measured one if there is one, even if a detour looks shorter: data takes
the direct way. Otherwise it is the shortest path over other measured pairs, or the usual cost between the
two regions if that is less. No path leads through a node.

The graph is changed in place, one vertex or edge at a time. Readers get snapshots (topology.snapshot).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import networkx as nx

from topology.placement import NodeName, Path, Region, Tier, Zone, ZoneKey
from topology.snapshot import PRIORS_US, Source

Vertex = tuple[Any, ...]
"""The path to a region, zone or finer level; ``("node", name)`` for a node; ``()`` for the cluster."""

Kind = Literal["lies_in", "zone_pair", "measured"]

Regions = frozenset[str | None]
"""Two regions. A set of one region means pairs within it. Zones without a region share the region None."""

_TOP: Vertex = ()
_LEAST_US = 1.0
_DETOUR = 1.5  # a path to another region counts if it takes less than the usual cost times this


class TopologyGraph:
    """The vertices and edges of one cluster."""

    def __init__(self) -> None:
        self._graph: nx.Graph[Vertex] = nx.Graph()
        self._graph.add_node(_TOP)
        self._zones: nx.Graph[Vertex] = nx.Graph()  # the measured pairs only: shortest paths use these
        self._paths: dict[NodeName, Path] = {}
        self._inside_us: dict[Vertex, float] = {}  # round trips within a zone, where known
        self._usual_us: Mapping[Regions, float] = {}

    @property
    def graph(self) -> "nx.Graph[Vertex]":
        """The graph itself, read-only. Edges have a ``kind`` and, if measured, an ``rtt_us``."""
        return self._graph

    def path(self, node: NodeName) -> Path:
        """Where a node was placed. Raises KeyError for an unknown node."""
        return self._paths[node]

    def place(self, node: NodeName, path: Path) -> None:
        """Add a node at a path, or move it there. O(depth)."""
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
        """Remove a node, and every vertex that then has nothing below it. O(depth)."""
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
        """Set the round trip between two nodes. None: it is no longer known."""
        ends: tuple[Vertex, Vertex] = (("node", one), ("node", other))
        if rtt_us is not None:
            self._graph.add_edge(*ends, kind="measured", rtt_us=rtt_us)
        elif self._graph.has_edge(*ends):
            self._graph.remove_edge(*ends)

    def join_zones(self, one: ZoneKey, other: ZoneKey, rtt_us: float | None) -> None:
        """Set the round trip between two zones, or inside one. None: it is no longer known."""
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

    def set_region_costs(self, usual_us: Mapping[Regions, float]) -> bool:
        """Replace the usual round trips between zones by their regions. Whether any changed."""
        changed = usual_us != self._usual_us
        self._usual_us = dict(usual_us)
        return changed

    def usual_us(self, one: ZoneKey, other: ZoneKey) -> float:
        """The usual round trip between the regions of two zones, or inside a zone. A prior if not known."""
        if one == other:
            return PRIORS_US[Tier.ZONE]
        usual_us = self._usual_us.get(frozenset((one.region, other.region)))
        if usual_us is not None:
            return usual_us
        return PRIORS_US[Tier.REGION if one.region == other.region else Tier.REMOTE]

    def zone_costs(self, origin: ZoneKey, zones: Iterable[ZoneKey]) -> dict[ZoneKey, tuple[float, Source]]:
        """The cost of a round trip from ``origin`` to each of these zones, and where it comes from.

        O(zones) if all were measured from ``origin``. Otherwise one run of Dijkstra over the measured pairs
        is added.
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
                # Zones of one region are about equally far apart, so a detour says little there. The way
                # to another region is about as long as the way to any zone of it.
                worth = 1.0 if origin.region == zone.region else _DETOUR
                is_path = path_us < usual_us * worth
                costs[zone] = (path_us, Source.PATH) if is_path else (usual_us, Source.PRIOR)
        return costs

    def cost_us(self, one: NodeName, other: NodeName) -> float:
        """The cost of a round trip between any two nodes. Raises KeyError for an unknown node."""
        start, end = self._paths[one], self._paths[other]
        if one == other:
            return 0.0
        ends: tuple[Vertex, Vertex] = (("node", one), ("node", other))
        if self._graph.has_edge(*ends):
            rtt_us: float = self._graph.edges[ends]["rtt_us"]
            return rtt_us
        zones = _zone_of(start), _zone_of(end)
        if zones[0] is None or zones[1] is None:
            return PRIORS_US[Tier.REMOTE]
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
        return self._inside_us.get(zone, PRIORS_US[Tier.ZONE])

    def _weight(self, one: Vertex, other: Vertex, edge: dict[str, Any]) -> float:
        """The cost that one zone pair adds to a path.

        A measured pair includes half of the inside of each of its zones. For the two ends of a path,
        `zone_costs` adds these halves once, so they are left out here.
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
