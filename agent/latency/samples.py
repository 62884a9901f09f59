"""Adds round trips that the kernel measured to the topology and to the metrics."""

from typing import Any

from agent.latency.tcpinfo import read_tcp_info
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from topology.placement import NodeName


def add_sample(roster: Roster, metrics: Metrics, name: NodeName, rtt_us: float, source: str) -> bool:
    """Add one sample. False if its value is absurd. Then it is left out.

    ``source``: ``measurement``, ``connection`` (a new one), ``upload``, or ``kernel`` (its own callback).
    """
    plausible = roster.sample(name, rtt_us)
    if plausible:
        metrics.rtt(roster.tier(name), rtt_us, source)
    return plausible


def add_handshake(roster: Roster, metrics: Metrics, peer: Peer, sock: Any) -> None:
    """Add the round trip that the handshake of a new connection to a peer measured."""
    info = read_tcp_info(sock)
    rtt_us = None if info is None else info.handshake_us
    if rtt_us is not None:
        add_sample(roster, metrics, peer.name, rtt_us, "connection")
