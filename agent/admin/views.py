"""What the agent knows, as JSON: ``/api/topology``, ``/api/latency``, ``/api/costs``, ``/api/flows``,
``/api/transfers``.

Round trips in microseconds, ages in seconds. Every number is finite: what is not known is null. The
larger ones let other work go on between their parts, as pulls are served by the same loop.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from agent.flows.book import FlowBook
from agent.listen.traffic import Traffic
from agent.members.roster import Roster
from agent.pull.regard import Regard
from agent.transfer.executor import Puller
from topology.labels import path_levels
from topology.ledger import Entry
from topology.placement import NodeName, ZoneKey
from topology.rtt import Estimate
from topology.snapshot import Source, Standing


async def topology_view(roster: Roster, regard: Regard, now_s: float) -> dict[str, Any]:
    """Every node with its place and cost, the zones and the matrix between them, and label problems."""
    snapshot = roster.snapshot
    zones = sorted(snapshot.zones, key=str)
    standings = sorted(snapshot.standings.items(), key=lambda item: (item[1].placement.path, item[0]))
    return {
        "node": snapshot.own,
        "age_s": _round(max(0.0, now_s - snapshot.made_s)),
        "levels": path_levels(standing.placement.path for _, standing in standings),
        "nodes": await _nodes(standings, roster, regard, now_s),
        "zones": [
            {"region": zone.region, "zone": zone.zone, "nodes": snapshot.zones[zone]} for zone in zones
        ],
        **await _matrix(roster, zones),
        "problems": [
            {"node": problem.node, "problem": problem.problem, "hint": problem.hint}
            for problem in roster.problems
        ],
    }


async def latency_view(roster: Roster, probed: Iterable[NodeName], now_s: float) -> dict[str, Any]:
    """What this node measured itself, peer by peer, and what is known between zones."""
    snapshot = roster.snapshot
    open_probes = frozenset(probed)
    measured = []
    for name in sorted(roster.peers):
        estimate = roster.topology.estimate(name, now_s)
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
        **await _matrix(roster, zones),
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


def flows_view(book: FlowBook, now_s: float) -> dict[str, Any]:
    """Whether the local path is proved, the last canaries, and the last connections judged."""
    proved, why = book.proved(now_s)
    return {
        "probe": book.connected,
        "proved": proved,
        "why": why,
        "canaries": [
            {
                "endpoint": canary.endpoint.value,
                "address": canary.address,
                "verdict": canary.verdict.value,
                "reason": canary.reason,
                "went": canary.went,
                "answered_by": canary.answered_by,
                "rtt_us": canary.rtt_us,
                "age_s": _round(max(0.0, now_s - canary.at_s)),
            }
            for canary in book.proof.canaries
        ],
        "flows": [
            {
                "endpoint": flow.endpoint.value,
                "verdict": flow.verdict.value,
                "reason": flow.reason,
                "client": str(flow.client),
                "asked": str(flow.asked),
                "went": None if flow.went is None else str(flow.went),
                "process": flow.comm,
                "pid": flow.pid,
                "rtt_us": flow.rtt_us,
                "cookie": flow.cookie,
            }
            for flow in book.newest_first()
        ],
    }


def transfers_view(puller: Puller, traffic: Traffic, now_s: float) -> dict[str, Any]:
    """The bodies under way in both directions, and the peers that are not asked, and why."""
    admission, regard = traffic.admission, puller.policy.regard
    return {
        "downloads": [
            {
                "digest": pull.digest,
                "node": None if pull.holder is None else pull.holder.node,
                "bytes": pull.offset,
                "length": pull.length,
                "resumes": pull.resumes,
            }
            for pull in puller.running
        ],
        "uploads": [
            {
                "to": upload.peer,
                "bytes": upload.sent_bytes,
                "left_bytes": upload.left_bytes,
                "age_s": _round(now_s - upload.started_s),
            }
            for upload in admission
        ],
        "uploads_refused": admission.refused,
        "cooling": [
            {"node": node, "left_s": _round(regard.cooling_s(node, now_s))} for node in regard.cooling(now_s)
        ],
        "not_asked": [
            {"digest": digest, "node": node, "left_s": _round(left_s)}
            for digest, node, left_s in regard.trust.entries(now_s)
        ],
    }


_AT_ONCE = 500  # nodes, some milliseconds
_ESTIMATE = ("low_us", "min_us", "jitter_us", "samples", "age_s", "weight")


def _node(name: NodeName, standing: Standing, roster: Roster, regard: Regard, now_s: float) -> dict[str, Any]:
    own = roster.own
    return {
        "name": name,
        "self": name == own,
        "placement": [list(step) for step in standing.placement.path],
        "tier": standing.locality.label,
        "cost_us": _round(standing.cost_us),
        "source": standing.source.value,
        "rtt": _estimate(roster.topology.estimate(name, now_s)),
        "inferred": standing.inferred,
        "suspect": standing.suspect,
        "cooling": regard.is_cooling(name, now_s),
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {key: _round(getattr(estimate, key)) for key in _ESTIMATE}


async def _nodes(
    standings: list[tuple[NodeName, Standing]], roster: Roster, regard: Regard, now_s: float
) -> list[dict[str, Any]]:
    nodes = []
    for number, (name, standing) in enumerate(standings):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        nodes.append(_node(name, standing, roster, regard, now_s))
    return nodes


async def _matrix(roster: Roster, zones: list[ZoneKey]) -> dict[str, Any]:
    """The cost between each two zones, and its source; null where a zone went away meanwhile."""
    topology = roster.topology
    rows_us: list[list[float | None]] = []
    rows_source: list[list[str | None]] = []
    for one in zones:
        await asyncio.sleep(0)
        row = topology.matrix_row(one)
        rows_us.append([_round(row[other][0]) if other in row else None for other in zones])
        rows_source.append(
            [
                None if other not in row else _source(row[other][1], is_own=topology.is_own_vote(one, other))
                for other in zones
            ]
        )
    return {"matrix_us": rows_us, "matrix_source": rows_source}


def _source(source: Source, *, is_own: bool) -> str:
    if source is Source.ZONE_PAIR:
        return "measured" if is_own else "told"
    return str(source.value)


def _round(number: float) -> float:
    return number if isinstance(number, int) else round(number, 3)
