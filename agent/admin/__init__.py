"""The admin port: health, metrics, and the agent's state as typed documents."""
