"""What the topology looks like as JSON: ``/api/topology``, ``/api/latency``, ``/api/costs``.

Round trips in microseconds, ages in seconds. Every number is finite: what is not known is null.
"""

from collections.abc import Iterable
from typing import Any

from agent.members.neighbourhood import Neighbourhood
from topology.labels import path_levels
from topology.ledger import Entry
from topology.placement import NodeName, ZoneKey
from topology.rtt import Estimate
from topology.snapshot import Source, Standing


def topology_view(neighbourhood: Neighbourhood, now_s: float) -> dict[str, Any]:
    """Every node with its place and cost, the zones and the matrix between them, and label problems."""
    snapshot = neighbourhood.snapshot
    zones = sorted(snapshot.zones, key=str)
    standings = sorted(snapshot.standings.items(), key=lambda item: (item[1].placement.path, item[0]))
    return {
        "node": snapshot.own,
        "age_s": _round(max(0.0, now_s - snapshot.made_s)),
        "levels": path_levels(standing.placement.path for _, standing in standings),
        "nodes": [_node(name, standing, neighbourhood, now_s) for name, standing in standings],
        "zones": [
            {"region": zone.region, "zone": zone.zone, "nodes": snapshot.zones[zone]} for zone in zones
        ],
        **_matrix(neighbourhood, zones),
        "problems": [
            {"node": problem.node, "problem": problem.problem, "hint": problem.hint}
            for problem in neighbourhood.problems
        ],
    }


def latency_view(neighbourhood: Neighbourhood, probed: Iterable[NodeName], now_s: float) -> dict[str, Any]:
    """What this node measured itself, peer by peer, and what is known between zones."""
    snapshot = neighbourhood.snapshot
    open_probes = frozenset(probed)
    measured = []
    for name in sorted(neighbourhood.peers):
        estimate = neighbourhood.topology.estimate(name, now_s)
        if estimate is not None or name in open_probes:
            measured.append(
                {
                    "node": name,
                    "tier": snapshot.locality(name).label,
                    "probed": name in open_probes,
                    **(_estimate(estimate) or dict.fromkeys(_ESTIMATE)),
                }
            )
    zones = sorted(snapshot.zones, key=str)
    return {
        "node": snapshot.own,
        "peers": measured,
        "zones": [{"region": zone.region, "zone": zone.zone} for zone in zones],
        **_matrix(neighbourhood, zones),
    }


def costs_view(entries: Iterable[Entry]) -> dict[str, Any]:
    """Bytes and money by pair of zones since the agent started."""
    pairs: list[dict[str, Any]] = [
        {
            "source_zone": entry.source,
            "destination_zone": entry.destination,
            "bytes": entry.size_bytes,
            "usd": round(entry.usd, 9),
        }
        for entry in entries
    ]
    return {
        "pairs": pairs,
        "bytes": sum(pair["bytes"] for pair in pairs),
        "usd": round(sum(pair["usd"] for pair in pairs), 9),
    }


_ESTIMATE = ("low_us", "min_us", "jitter_us", "samples", "age_s", "weight")


def _node(name: NodeName, standing: Standing, neighbourhood: Neighbourhood, now_s: float) -> dict[str, Any]:
    own = neighbourhood.own
    return {
        "name": name,
        "self": name == own,
        "placement": [list(step) for step in standing.placement.path],
        "tier": standing.locality.label,
        "cost_us": _round(standing.cost_us),
        "source": standing.source.value,
        "rtt": _estimate(neighbourhood.topology.estimate(name, now_s)),
        "inferred": standing.inferred,
        "suspect": standing.suspect,
        "cooling": neighbourhood.is_cooling(name, now_s),
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {key: _round(getattr(estimate, key)) for key in _ESTIMATE}


def _matrix(neighbourhood: Neighbourhood, zones: list[ZoneKey]) -> dict[str, Any]:
    topology = neighbourhood.topology
    costs = topology.matrix()

    def source(one: ZoneKey, other: ZoneKey) -> str | None:
        cost = costs.get((one, other))
        if cost is None:
            return None
        if cost[1] is Source.ZONE_PAIR:
            return "measured" if topology.is_own_vote(one, other) else "told"
        return str(cost[1].value)

    return {
        "matrix_us": [
            [_round(costs[one, other][0]) if (one, other) in costs else None for other in zones]
            for one in zones
        ],
        "matrix_source": [[source(one, other) for other in zones] for one in zones],
    }


def _round(number: float) -> float:
    return number if isinstance(number, int) else round(number, 3)
