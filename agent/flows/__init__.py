"""What became of each connection of the local leg: verdicts from the kernel's evidence. Pure.

`verdicts` judges one flow, `table` keeps the flows and joins both ends' evidence (in the probe),
`messages` carries the result to the agent, `book` is what the agent knows of its own connections.
"""
