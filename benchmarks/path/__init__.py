"""What each way to an agent costs: HostPort, port map, NodePort."""
