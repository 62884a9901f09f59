"""All agents of a cluster at once: runs a command in each one's pod, by the API server."""
