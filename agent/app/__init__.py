"""The wiring: makes every part of the agent from its settings, and connects the parts."""
