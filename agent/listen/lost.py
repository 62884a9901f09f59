"""Agents that come to a listener which is not for them, because a list of peers has a wrong port.

They are told so, which is what makes that mistake easy to find. Nobody else learns anything there.
"""

from aiohttp import web

from agent.holders.wire import PATH as HOLDERS_PATH
from agent.latency.wire import PATH as LATENCY_PATH
from agent.peering.gate import Gate
from agent.peering.reach import PATH as REACH_PATH

CHANNELS = (HOLDERS_PATH, LATENCY_PATH)
"""The paths of standing connections between agents."""

BETWEEN_AGENTS = (*CHANNELS, REACH_PATH)
"""All paths that only agents ask for."""


def is_lost_agent(gate: Gate, request: web.BaseRequest) -> bool:
    """Whether a request on another listener than that for peers comes from an agent that proves to be one."""
    if request.raw_path not in BETWEEN_AGENTS:
        return False
    checked = gate.check(request.method, request.raw_path, request.headers, request.remote or "")
    return checked.node is not None
