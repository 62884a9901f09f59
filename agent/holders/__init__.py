"""Which other nodes have a digest, or know a tag."""
