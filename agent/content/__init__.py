"""What this node has: blobs and image names, read from a store that another program writes."""
