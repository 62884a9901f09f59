"""Checks of a node that need no eBPF programs. Each finding says what to do about it.

The checks only read and change nothing. They decide nothing about flows, which is up to the programs'
evidence. They do not import rich, bcc or aiohttp, so that whoever runs them stays small.
"""

from agent.preflight.check import Check, PreflightTarget, Status
from agent.preflight.mirrors import ToldMirrors, mirrors
from agent.preflight.node import NETWORK_NAMESPACE
from agent.preflight.run import run_checks

__all__ = [
    "NETWORK_NAMESPACE",
    "Check",
    "PreflightTarget",
    "Status",
    "ToldMirrors",
    "mirrors",
    "run_checks",
]
