"""Which peers an agent with default settings measures."""

from agent.config import LatencySettings
from topology.measuring import MeasureLimits, choose_measured
from topology.placement import NodeName, ZoneKey
from topology.snapshot import Snapshot

DEFAULTS = LatencySettings()
_LIMITS = MeasureLimits(
    own_zone=DEFAULTS.own_zone, other_zones=DEFAULTS.other_zones, total=DEFAULTS.connections_max
)


def measured_peers(snapshot: Snapshot, turn: int) -> tuple[NodeName, ...]:
    """The peers that the snapshot's node measures in a turn."""
    own = snapshot.own
    zones: dict[ZoneKey | None, list[NodeName]] = {}
    for name in snapshot.standings:
        if name != own:
            zones.setdefault(snapshot.zone_of(name), []).append(name)
    return choose_measured(zones, own=own, own_zone=snapshot.zone_of(own), limits=_LIMITS, turn=turn)
