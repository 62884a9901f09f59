"""What this node has: blobs and names, read from a store that somebody else writes."""
