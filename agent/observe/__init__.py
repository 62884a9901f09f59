"""What the agent tells about itself: metrics, logs, the record of each request."""
