"""Where nodes are and which are near: labels, placements, graph, ranking. Pure: no I/O."""
