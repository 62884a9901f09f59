"""What an upgrade of the agents costs their clients. Needs root."""
