"""What encryption between agents costs."""
