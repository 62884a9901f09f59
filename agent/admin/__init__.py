"""The admin port: what the agent says of itself, as typed documents."""
