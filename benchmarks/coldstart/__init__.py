"""Cold starts: many nodes pull at once what no node has yet, or what only one has."""
