"""The cluster as a graph: region, zone, rack and node as vertices, "lies in" as edges.

Decides the locality of every node as seen from one node. An immutable snapshot is built when the
membership changes, and readers keep the one they have. Cost: one traversal, O(nodes).
"""

from collections.abc import Mapping

import networkx as nx

from topology.placement import Locality, NodeName, Placement

_Vertex = tuple[str, ...]
_TOP: _Vertex = ()


class TopologyGraph:
    """The tree of placements of a set of nodes, never changed after it is built."""

    def __init__(self, placements: Mapping[NodeName, Placement]) -> None:
        self._leaf: dict[NodeName, _Vertex] = {}
        self._tree: nx.Graph[_Vertex] = nx.Graph()
        self._tree.add_node(_TOP)
        for node, placement in placements.items():
            path = placement.path(node)
            self._leaf[node] = path
            nx.add_path(self._tree, [path[:depth] for depth in range(len(path) + 1)])

    def localities(self, origin: NodeName) -> dict[NodeName, Locality]:
        """The locality of every node as seen from ``origin``, itself included (NODE).

        Raises KeyError when ``origin`` is not in the graph. All leaves are equally deep, so two nodes
        that meet k levels up are exactly 2k edges apart.
        """
        edges = nx.single_source_shortest_path_length(self._tree, self._leaf[origin])
        return {node: Locality(edges[leaf] // 2) for node, leaf in self._leaf.items()}
