"""What one agent costs in a large cluster: memory, start, processor, and how long its pages take."""
