"""What one client may take of this agent, so that no client can hurt another. Pure."""
