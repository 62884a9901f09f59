"""Verdicts on the connections from containerd to the agent, from the kernel's evidence. Pure.

`verdicts` judges one flow. `table` keeps the flows and joins the evidence of both ends (in the probe).
`messages` carries the result to the agent. `book` holds what the agent knows about its own connections.
"""
