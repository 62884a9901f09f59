"""Where nodes are and who is near: labels to placement, graph, ranking. Pure; knows no I/O."""
