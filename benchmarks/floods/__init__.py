"""What one client that floods an agent costs the others: measured with real agents on loopback."""
