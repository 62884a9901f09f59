"""The figures of many nodes as one document: ``/api/cluster``. Pure.

Each node speaks for itself only. What can't be true is left out of all sums, and said to be so at that node.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.admin.gatherer import Answer
from agent.admin.map import zones_of
from agent.admin.sums import usd_of
from agent.documents.cluster import ClusterDocument, ClusterNodeEntry, ClusterZoneEntry, FiguresEntry
from agent.documents.map import NodeState
from agent.documents.sums import SumsEntry, TierBytesEntry
from agent.documents.times import Moment
from topology.placement import NodeName, Tier, ZoneKey
from topology.snapshot import Snapshot

TOLD, SILENT, NOTHING, WAITING, ABSURD = "told", "silent", "nothing", "waiting", "absurd"

_BYTES_PER_S = 50e9  # no node's network is faster
_USD_PER_BYTE = 1e-8  # ten dollars for a GB
_PER_S = 1e6  # requests
_UPTIME_MAX_S = 10 * 365 * 86_400.0
_VERSIONS_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What was gathered. ``asked``: who is asked in turn, without this node. ``own``: what it says itself.

    ``silent``: the peers that gave no sign of life since they failed, as far as anything here knows.
    ``window_s``: over so long the figures of an agent count that is old enough.
    """

    snapshot: Snapshot
    own: FiguresEntry
    asked: Collection[NodeName]
    answers: Mapping[NodeName, Answer]
    silent: Collection[NodeName]
    round_s: float
    trouble: str
    window_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    node: NodeName
    zone: ZoneKey | None
    says: str
    at_s: float | None
    figures: FiguresEntry | None  # None but for those that told


def cluster_view(gathered: Gathered, moment: Moment) -> ClusterDocument:
    """The document."""
    snapshot = gathered.snapshot
    lines = [_line(gathered, name, moment.now_s) for name in _in_order(gathered)]
    zones, placed = zones_of(snapshot), sum(snapshot.zones.values())
    members, asked = len(snapshot.standings), len(lines)
    told = [line for line in lines if line.figures is not None]
    window = _joined([line.figures.window for line in told if line.figures is not None])
    return ClusterDocument(
        time=moment.text,
        node=snapshot.own,
        members=members,
        asked=asked,
        told=len(told),
        silent=sum(line.says == SILENT for line in lines),
        sampled=asked < members,
        scope=_scope(members, asked, len(told)),
        round_s=round(gathered.round_s, 1),
        own_trouble=gathered.trouble,
        window_s=round(min(gathered.window_s, window.seconds), 3),
        window=window,
        total=_joined([line.figures.total for line in told if line.figures is not None]),
        zones=tuple(
            _zone(
                zone,
                snapshot.zones[zone] if zone is not None else members - placed,
                [line for line in lines if line.zone == zone],
                moment.now_s,
            )
            for zone in zones
        ),
        nodes=tuple(_node(line, zones, moment.now_s) for line in lines),
    )


def told_states(answers: Mapping[NodeName, Answer]) -> dict[NodeName, NodeState]:
    """The nodes that say of themselves that they are not ready, or stop."""
    found = {}
    for name, answer in answers.items():
        if answer.figures is None or answer.figures.ready:
            continue
        stops = answer.figures.phase == "stopping"
        found[name] = NodeState.DRAINING if stops else NodeState.UNREADY
    return found


def is_plausible(figures: FiguresEntry) -> bool:
    """Whether these can be the figures of one node."""
    counts = (figures.unreadable, figures.corrupt, figures.uploads, figures.downloads)
    if not 0 <= figures.uptime_s <= _UPTIME_MAX_S or min(counts) < 0 or max(counts) > 1 << 40:
        return False
    return _can_be(figures.window, 1000.0) and _can_be(figures.total, figures.uptime_s + 60)


def _can_be(sums: SumsEntry, seconds: float) -> bool:
    most_bytes = seconds * _BYTES_PER_S
    sizes = [*(each.size_bytes for each in sums.bytes_by_tier), sums.saved_bytes, sums.crossing_bytes]
    counts = (sums.requests, sums.served, sums.failed)
    money = (sums.usd, sums.usd_saved)
    tiers = tuple(each.tier for each in sums.bytes_by_tier)
    return (
        tiers == _TIERS
        and 0 <= sums.seconds <= seconds
        and all(0 <= size_bytes <= most_bytes for size_bytes in sizes)
        and all(0 <= count <= seconds * _PER_S for count in counts)
        and max(sums.served, sums.failed) <= sums.requests
        and all(0 <= usd <= most_bytes * _USD_PER_BYTE for usd in money)
    )


_TIERS = tuple(tier.label for tier in Tier)


def _in_order(gathered: Gathered) -> list[NodeName]:
    names = {gathered.snapshot.own, *gathered.asked} & gathered.snapshot.standings.keys()
    zone_of = gathered.snapshot.zone_of
    return sorted(names, key=lambda name: (zone_of(name) is None, str(zone_of(name)), name))


def _line(gathered: Gathered, name: NodeName, now_s: float) -> _Line:
    zone = gathered.snapshot.zone_of(name)
    if name == gathered.snapshot.own:
        return _Line(node=name, zone=zone, says=TOLD, at_s=now_s, figures=gathered.own)
    answer = gathered.answers.get(name)
    if name in gathered.silent or (answer is not None and answer.silent):
        at_s = None if answer is None or answer.figures is None else answer.at_s
        return _Line(node=name, zone=zone, says=SILENT, at_s=at_s, figures=None)
    if answer is None:
        return _Line(node=name, zone=zone, says=WAITING, at_s=None, figures=None)
    if answer.figures is None:
        return _Line(node=name, zone=zone, says=NOTHING, at_s=answer.at_s, figures=None)
    if not is_plausible(answer.figures):
        return _Line(node=name, zone=zone, says=ABSURD, at_s=answer.at_s, figures=None)
    return _Line(node=name, zone=zone, says=TOLD, at_s=answer.at_s, figures=answer.figures)


def _zone(zone: ZoneKey | None, nodes: int, lines: Sequence[_Line], now_s: float) -> ClusterZoneEntry:
    told = [line.figures for line in lines if line.figures is not None]
    ages_s = [now_s - line.at_s for line in lines if line.figures is not None and line.at_s is not None]
    return ClusterZoneEntry(
        region=None if zone is None else zone.region,
        zone=None if zone is None else zone.zone,
        nodes=nodes,
        asked=len(lines),
        told=len(told),
        silent=sum(line.says == SILENT for line in lines),
        ready=sum(each.ready for each in told),
        proved=sum(each.proved is True for each in told),
        no_probe=sum(each.proved is None for each in told),
        index_down=sum(each.index_down for each in told),
        versions=tuple(sorted({each.version for each in told})[:_VERSIONS_MAX]),
        oldest_s=round(max(ages_s), 1) if ages_s else None,
        window=_joined([each.window for each in told]),
        total=_joined([each.total for each in told]),
    )


def _node(line: _Line, zones: Sequence[ZoneKey | None], now_s: float) -> ClusterNodeEntry:
    figures = line.figures
    window = None if figures is None else figures.window
    return ClusterNodeEntry(
        node=line.node,
        zone_index=zones.index(line.zone),
        says=line.says,
        age_s=None if line.at_s is None else round(max(0.0, now_s - line.at_s), 1),
        version=None if figures is None else figures.version,
        uptime_s=None if figures is None else figures.uptime_s,
        ready=None if figures is None else figures.ready,
        why_not_ready=None if figures is None else figures.why_not_ready,
        proved=None if figures is None else figures.proved,
        window_bytes=None if window is None else _size_bytes(window),
        window_failed=None if window is None else window.failed,
        uploads=None if figures is None else figures.uploads,
        downloads=None if figures is None else figures.downloads,
    )


def _size_bytes(sums: SumsEntry) -> int:
    return sum(each.size_bytes for each in sums.bytes_by_tier)


def _joined(several: Sequence[SumsEntry]) -> SumsEntry:
    """The sum of these. ``seconds``: the longest time over which one of them counts."""
    tiers = zip(*([each.size_bytes for each in sums.bytes_by_tier] for sums in several), strict=True)
    sizes = [sum(column) for column in tiers] or [0] * len(_TIERS)
    usd, usd_saved = sum(each.usd for each in several), sum(each.usd_saved for each in several)
    return SumsEntry(
        seconds=max((each.seconds for each in several), default=0.0),
        requests=_sum(each.requests for each in several),
        served=_sum(each.served for each in several),
        failed=_sum(each.failed for each in several),
        bytes_by_tier=tuple(
            TierBytesEntry(tier=tier, size_bytes=size) for tier, size in zip(_TIERS, sizes, strict=True)
        ),
        saved_bytes=_sum(each.saved_bytes for each in several),
        crossing_bytes=_sum(each.crossing_bytes for each in several),
        usd=usd_of(usd),
        usd_saved=usd_of(usd_saved),
        net_usd_saved=usd_of(usd_saved - usd),
    )


def _sum(values: Iterable[int]) -> int:
    return sum(values)


def _scope(members: int, asked: int, told: int) -> str:
    if asked < members:
        return (
            f"the sums are those of {told} nodes, a sample of each zone: {asked} of the cluster's {members} "
            "nodes are asked"
        )
    if told < members:
        return f"the sums are those of {told} of {members} nodes: the others did not tell"
    if members == 1:
        return "the sums are those of this node: it knows no other"
    return f"the sums are those of all {members} nodes"
