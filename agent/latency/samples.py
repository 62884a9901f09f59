"""Adding a round trip that the kernel measured to the topology and to the metrics."""

from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from topology.placement import NodeName


def add_sample(roster: Roster, metrics: Metrics, name: NodeName, rtt_us: float, source: str) -> bool:
    """Add one sample. False if its value is absurd; it is then left out.

    ``source``: what measured it: a ``probe``, a new ``connection``, an ``upload``, or the ``kernel``'s own
    callback.
    """
    plausible = roster.sample(name, rtt_us)
    if plausible:
        metrics.rtt(roster.locality(name), rtt_us, source)
    return plausible
