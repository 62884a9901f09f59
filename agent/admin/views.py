"""Makes the documents of the admin API from the present state of the agent's parts.

While a large document is made, other tasks can run in between, because the same loop serves the pulls.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from agent.admin.sums import usd_of
from agent.documents.flows import CanaryEntry, FlowsDocument
from agent.documents.requests import RequestDocument
from agent.documents.times import Moment
from agent.documents.topology import (
    LatencyDocument,
    NodeEntry,
    PeerLatencyEntry,
    ProblemEntry,
    RttEntry,
    TopologyDocument,
    ZoneEntry,
    ZoneNameEntry,
)
from agent.documents.transfers import (
    CoolingEntry,
    CostsDocument,
    DistrustEntry,
    DownloadEntry,
    TransfersDocument,
    UploadEntry,
    ZonePairCostEntry,
)
from agent.flows.book import FLOWS_KEPT, FlowBook
from agent.flows.entry import flow_entry
from agent.flows.messages import Canary
from agent.listen.traffic import Traffic
from agent.members.problems import Problem
from agent.members.roster import Roster
from agent.observe.requests import RecentRequests
from agent.pull.absence import ago
from agent.pull.regard import Regard
from agent.transfer.executor import Puller
from topology.labels import LabelProblem, path_levels
from topology.ledger import CostLedger
from topology.placement import NodeName, ZoneKey
from topology.rtt import Estimate
from topology.snapshot import Source, Standing

_AT_ONCE = 500  # this many nodes take some milliseconds
_REQUESTS_AT_ONCE = 100  # with their steps these take a millisecond or two

_Costs = tuple[tuple[float | None, ...], ...]
_Sources = tuple[tuple[str | None, ...], ...]


async def topology_view(
    roster: Roster,
    regard: Regard,
    moment: Moment,
    problems: Sequence[Problem] = (),
) -> TopologyDocument:
    """Every node with its placement and cost, the zones, the matrix between them, and all problems.

    ``problems``: those that are not about labels.
    """
    snapshot, now_s = roster.snapshot, moment.now_s
    zones = sorted(snapshot.zones, key=str)
    standings = sorted(snapshot.standings.items(), key=lambda item: (item[1].placement.path, item[0]))
    silent = _silent(regard, now_s)
    nodes = await _nodes(standings, roster, regard, silent, now_s)
    matrix_us, matrix_source = await zone_matrix(roster, zones)
    return TopologyDocument(
        time=moment.text,
        node=snapshot.own,
        age_s=round(max(0.0, now_s - snapshot.made_s), 3),
        levels=path_levels(standing.placement.path for _, standing in standings),
        nodes=nodes,
        zones=tuple(
            ZoneEntry(region=zone.region, zone=zone.zone, nodes=snapshot.zones[zone]) for zone in zones
        ),
        matrix_us=matrix_us,
        matrix_source=matrix_source,
        problems=(*map(_problem, problems), *map(_problem, roster.problems)),
    )


def _problem(found: Problem | LabelProblem) -> ProblemEntry:
    return ProblemEntry(node=found.node, problem=found.problem, hint=found.hint)


async def latency_view(roster: Roster, connected: Iterable[NodeName], moment: Moment) -> LatencyDocument:
    """What this node measured itself, for each peer, and the costs between zones."""
    snapshot, now_s = roster.snapshot, moment.now_s
    open_now = frozenset(connected)
    measured = []
    for name in sorted(roster.peers):
        rtt = _rtt(roster.topology.estimate(name, now_s))
        if rtt is not None or name in open_now:
            tier = snapshot.tier(name).label
            measured.append(_peer_latency(name, tier, rtt, measuring=name in open_now))
    zones = sorted(snapshot.zones, key=str)
    matrix_us, matrix_source = await zone_matrix(roster, zones)
    return LatencyDocument(
        time=moment.text,
        node=snapshot.own,
        peers=tuple(measured),
        zones=tuple(ZoneNameEntry(region=zone.region, zone=zone.zone) for zone in zones),
        matrix_us=matrix_us,
        matrix_source=matrix_source,
    )


async def requests_view(recent: RecentRequests, limit: int) -> tuple[RequestDocument, ...]:
    """The last requests, newest first."""
    documents = []
    for number, record in enumerate(recent.newest(limit), start=1):
        documents.append(record.document())
        if number % _REQUESTS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return tuple(documents)


def costs_view(ledger: CostLedger, since: Moment, moment: Moment) -> CostsDocument:
    """Bytes and US dollars for each pair of zones, and what was saved. ``since``: the agent's start."""
    pairs = tuple(
        ZonePairCostEntry(
            source_zone=entry.source,
            destination_zone=entry.destination,
            size_bytes=entry.size_bytes,
            usd=usd_of(entry.usd),
        )
        for entry in ledger.entries()
    )
    saved, usd = ledger.savings, sum(pair.usd for pair in pairs)
    return CostsDocument(
        time=moment.text,
        since=since.text,
        pairs=pairs,
        size_bytes=sum(pair.size_bytes for pair in pairs),
        usd=usd_of(usd),
        registry_bytes_saved=saved.size_bytes,
        registry_usd_saved=usd_of(saved.usd),
        net_usd_saved=usd_of(saved.usd - usd),
    )


def flows_view(book: FlowBook, moment: Moment, *, limit: int = FLOWS_KEPT) -> FlowsDocument:
    """Whether the local path is proved, the last canaries, and the last verdicts on connections."""
    proved, why = book.proved(moment.now_s)
    return FlowsDocument(
        time=moment.text,
        probe=book.connected,
        proved=proved,
        why=why,
        foreign=book.foreign,
        canaries=tuple(_canary(canary, moment) for canary in book.proof.canaries),
        flows=tuple(flow_entry(flow, moment.text_of(at_s)) for at_s, flow in book.newest_first(limit)),
    )


def transfers_view(puller: Puller, traffic: Traffic, moment: Moment) -> TransfersDocument:
    """The bodies under way in both directions, and the peers that are not asked."""
    admission, regard, now_s = traffic.admission, puller.policy.regard, moment.now_s
    return TransfersDocument(
        time=moment.text,
        downloads=tuple(
            DownloadEntry(
                digest=pull.digest,
                node=None if pull.holder is None else pull.holder.node,
                received_bytes=pull.offset,
                length_bytes=pull.length,
                resumes=pull.resumes,
                in_flight=None if pull.holder is None else pull.holder.condition.in_flight,
            )
            for pull in puller.running
        ),
        uploads=tuple(
            UploadEntry(
                started_at=moment.text_of(upload.started_s),
                peer=upload.peer,
                sent_bytes=upload.sent_bytes,
                left_bytes=upload.left_bytes,
                age_s=round(now_s - upload.started_s, 3),
            )
            for upload in admission
        ),
        uploads_refused=admission.refused,
        cooling=tuple(
            CoolingEntry(
                node=node,
                left_s=round(regard.cooling_s(node, now_s), 3),
                reason=puller.policy.why_cooling(node, now_s),
            )
            for node in regard.cooling(now_s)
        ),
        not_asked=_distrusted(regard, now_s, is_out=True),
        asked_last=_distrusted(regard, now_s, is_out=False),
    )


def _distrusted(regard: Regard, now_s: float, *, is_out: bool) -> tuple[DistrustEntry, ...]:
    return tuple(
        DistrustEntry(digest=digest, node=node, left_s=round(left_s, 3), reason=reason.value)
        for digest, node, reason, left_s in regard.not_trusted(now_s)
        if reason.is_out is is_out
    )


async def _nodes(
    standings: Sequence[tuple[NodeName, Standing]],
    roster: Roster,
    regard: Regard,
    silent: Mapping[NodeName, str],
    now_s: float,
) -> tuple[NodeEntry, ...]:
    nodes = []
    for number, (name, standing) in enumerate(standings):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        nodes.append(_node(name, standing, roster, regard, silent.get(name), now_s))
    return tuple(nodes)


def _silent(regard: Regard, now_s: float) -> dict[NodeName, str]:
    """The peers that gave no sign of life since they failed, and how they failed."""
    return {
        node: ago(failure.words, now_s - failure.at_s)
        for node, failure in regard.failures()
        if regard.silence(node) is not None
    }


def _node(
    name: NodeName, standing: Standing, roster: Roster, regard: Regard, silent: str | None, now_s: float
) -> NodeEntry:
    return NodeEntry(
        name=name,
        own=name == roster.own,
        placement=standing.placement.path,
        tier=standing.tier.label,
        cost_us=round(standing.cost_us, 3),
        source=standing.source.value,
        rtt=_rtt(roster.topology.estimate(name, now_s)),
        inferred=standing.inferred,
        suspect=standing.suspect,
        cooling=regard.is_cooling(name, now_s),
        silent=silent,
    )


def _rtt(estimate: Estimate | None) -> RttEntry | None:
    if estimate is None:
        return None
    return RttEntry(
        low_us=round(estimate.low_us, 3),
        min_us=round(estimate.min_us, 3),
        jitter_us=round(estimate.jitter_us, 3),
        samples=estimate.samples,
        age_s=round(estimate.age_s, 3),
        weight=round(estimate.weight, 3),
    )


def _peer_latency(name: NodeName, tier: str, rtt: RttEntry | None, *, measuring: bool) -> PeerLatencyEntry:
    return PeerLatencyEntry(
        node=name,
        tier=tier,
        measuring=measuring,
        low_us=None if rtt is None else rtt.low_us,
        min_us=None if rtt is None else rtt.min_us,
        jitter_us=None if rtt is None else rtt.jitter_us,
        samples=None if rtt is None else rtt.samples,
        age_s=None if rtt is None else rtt.age_s,
        weight=None if rtt is None else rtt.weight,
    )


async def zone_matrix(roster: Roster, zones: Sequence[ZoneKey]) -> tuple[_Costs, _Sources]:
    """The cost between each two zones, and its source. None if a zone disappeared meanwhile."""
    topology = roster.topology
    rows_us: list[tuple[float | None, ...]] = []
    rows_source: list[tuple[str | None, ...]] = []
    for one in zones:
        await asyncio.sleep(0)
        row = topology.matrix_row(one)
        rows_us.append(tuple(round(row[other][0], 3) if other in row else None for other in zones))
        rows_source.append(
            tuple(
                None if other not in row else _source(row[other][1], is_own=topology.is_own_vote(one, other))
                for other in zones
            )
        )
    return tuple(rows_us), tuple(rows_source)


def _source(source: Source, *, is_own: bool) -> str:
    if source is Source.ZONE_PAIR:
        return "measured" if is_own else "told"
    return str(source.value)


def _canary(canary: Canary, moment: Moment) -> CanaryEntry:
    return CanaryEntry(
        sent_at=moment.text_of(canary.at_s),
        endpoint=canary.endpoint.value,
        address=canary.address,
        verdict=canary.verdict.value,
        reason=canary.reason,
        went=canary.went,
        answered_by=canary.answered_by,
        rtt_us=canary.rtt_us,
        age_s=round(max(0.0, moment.now_s - canary.at_s), 3),
    )
