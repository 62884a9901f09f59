"""How a newer agent of the same node takes over: listening sockets go from process to process.

The newer one asks over a Unix socket and gets the very same sockets (SCM_RIGHTS). So there is no moment
without a listener, and nothing that waits to be accepted is lost. See docs/decisions/0029-upgrades.md.
"""
