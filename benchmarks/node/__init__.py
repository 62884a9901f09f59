"""What an agent costs its node: memory, processor time for each byte, and what it does when nobody asks."""
