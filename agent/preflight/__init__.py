"""What there is to say about a node before eBPF programs are loaded, each with what to do about it.

Looks only, changes nothing. It decides nothing about flows: that is for the programs' own evidence. Kept free
of rich, bcc and aiohttp, as the probe runs it at its start and has to stay small.
"""

from agent.preflight.check import Check, Status, Subject
from agent.preflight.run import run_checks

__all__ = ["Check", "Status", "Subject", "run_checks"]
