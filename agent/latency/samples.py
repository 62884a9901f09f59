"""Taking a round trip that the kernel measured: into the topology, and into the metrics."""

from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from topology.placement import NodeName


def take_sample(roster: Roster, metrics: Metrics, name: NodeName, rtt_us: float, source: str) -> bool:
    """Take what a ``probe``, a new ``connection``, an ``upload`` or the ``kernel``'s own callback measured.

    False if it can't be true.
    """
    taken = roster.sample(name, rtt_us)
    if taken:
        metrics.rtt(roster.locality(name), rtt_us, source)
    return taken
