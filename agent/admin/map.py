"""The cluster to be drawn: ``/api/map``, and what changes in it.

A map of thousands of nodes is made in steps, and other tasks run in between. What changed is found without a
look at each node: a standing that was not made anew is the same object, and few nodes are in a special state.
"""

import asyncio
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.admin.views import zone_matrix
from agent.documents.events import NodesDocument
from agent.documents.map import ChosenEntry, MapDocument, MapZoneEntry, NodeState
from agent.documents.times import Moment
from agent.members.roster import Roster
from agent.pull.policy import Policy
from topology.placement import NodeName, ZoneKey
from topology.ranking import rank
from topology.snapshot import Snapshot, Standing

CHOSEN_MAX = 8
_AT_ONCE = 1000  # this many nodes take a millisecond
_WORTH = 0.05  # a round trip that moved by less is not told again
_STEADY = 0.5  # nor one that moved by fewer microseconds


@dataclass(slots=True, kw_only=True)
class Drawn:
    """One map, kept up to date. ``places``: of the nodes in the columns."""

    number: int
    generation: int
    trouble: str
    zones: tuple[ZoneKey | None, ...]
    names: tuple[NodeName, ...]
    zone_index: tuple[int, ...]
    racks: tuple[str | None, ...]
    places: dict[NodeName, int]
    states: list[NodeState]
    rtt_us: list[float | None]
    matrix_us: tuple[tuple[float | None, ...], ...]
    matrix_source: tuple[tuple[str | None, ...], ...]
    chosen: tuple[ChosenEntry, ...]
    standings: Mapping[NodeName, Standing]
    special: Mapping[NodeName, NodeState] = field(default_factory=dict)

    def document(self, own: NodeName, moment: Moment) -> MapDocument:
        """The map with all that changed since it was drawn."""
        return MapDocument(
            time=moment.text,
            node=own,
            map=self.number,
            own_trouble=self.trouble,
            zones=self._zones(),
            names=self.names,
            zone_index=self.zone_index,
            racks=self.racks,
            states=tuple([state.value for state in self.states]),
            rtt_us=tuple(self.rtt_us),
            matrix_us=self.matrix_us,
            matrix_source=self.matrix_source,
            chosen=self.chosen,
        )

    def _zones(self) -> tuple[MapZoneEntry, ...]:
        nodes, silent, cooling = ([0] * len(self.zones) for _ in range(3))
        for zone, state in zip(self.zone_index, self.states, strict=True):
            nodes[zone] += 1
            silent[zone] += state is NodeState.SILENT or state is NodeState.DOUBTFUL
            cooling[zone] += state is NodeState.COOLING
        return tuple(
            MapZoneEntry(
                region=None if key is None else key.region,
                zone=None if key is None else key.zone,
                nodes=nodes[place],
                answering=nodes[place] - silent[place] - cooling[place],
                silent=silent[place],
                cooling=cooling[place],
            )
            for place, key in enumerate(self.zones)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MapView:
    """Draws maps. ``trouble``: why this node could not ask others a moment ago; empty: it could.

    ``doubtful``: who did not answer when nobody did. ``told``: the nodes that say of themselves that they are
    not ready, or stop.
    """

    roster: Roster
    policy: Policy
    trouble: Callable[[float], str]
    told: Callable[[], Mapping[NodeName, NodeState]]
    doubtful: Callable[[], Collection[NodeName]] = frozenset

    async def draw(self, moment: Moment, number: int = 0) -> Drawn:
        """A new map. O(nodes × log nodes), in steps."""
        snapshot = self.roster.snapshot
        zones = zones_of(snapshot)
        names = await _in_order(snapshot, zones)
        indexes = {zone: place for place, zone in enumerate(zones)}
        special = self._special(moment.now_s)
        zone_index, racks, states, rtt_us = [], [], [], []
        for place, name in enumerate(names):
            if place % _AT_ONCE == 0:
                await asyncio.sleep(0)
            standing = snapshot.standings[name]
            zone_index.append(indexes[standing.placement.zone_key])
            racks.append(_rack(standing))
            states.append(special.get(name) or _usual(standing))
            rtt_us.append(_rtt_us(standing))
        matrix_us, matrix_source = await self._matrix(zones)
        return Drawn(
            number=number,
            generation=snapshot.generation,
            trouble=self.trouble(moment.now_s),
            zones=zones,
            names=names,
            zone_index=tuple(zone_index),
            racks=tuple(racks),
            places={name: place for place, name in enumerate(names)},
            states=states,
            rtt_us=rtt_us,
            matrix_us=matrix_us,
            matrix_source=matrix_source,
            chosen=self.chosen(moment.now_s),
            standings=snapshot.standings,
            special=special,
        )

    async def document(self, moment: Moment) -> MapDocument:
        """A map for one answer."""
        drawn = await self.draw(moment)
        return drawn.document(self.roster.own, moment)

    def changes(self, drawn: Drawn, moment: Moment) -> NodesDocument | None:
        """What changed in the map since it was drawn, or since the last call. None: nothing. Updates it."""
        standings, special = self.roster.snapshot.standings, self._special(moment.now_s)
        trouble = self.trouble(moment.now_s)
        moved = {*_moved(drawn.standings, standings)}
        moved |= {name for name, state in special.items() if drawn.special.get(name) is not state}
        moved |= drawn.special.keys() - special.keys()
        drawn.standings, drawn.special = standings, special
        changed = [place for name in moved if (place := self._redraw(drawn, name)) is not None]
        if not changed and trouble == drawn.trouble:
            return None
        drawn.trouble = trouble
        changed.sort()
        return NodesDocument(
            time=moment.text,
            map=drawn.number,
            own_trouble=trouble,
            indexes=tuple(changed),
            states=tuple([drawn.states[place].value for place in changed]),
            rtt_us=tuple([drawn.rtt_us[place] for place in changed]),
        )

    async def look_again(self, drawn: Drawn, moment: Moment) -> bool:
        """Bring the costs between zones and this node's choice up to date. Whether that is worth telling."""
        matrix_us, matrix_source = await self._matrix(drawn.zones)
        chosen = self.chosen(moment.now_s)
        before_us = itertools.chain.from_iterable(drawn.matrix_us)
        moved = any(map(_differs, itertools.chain.from_iterable(matrix_us), before_us))
        nodes, before = ([one.node for one in those] for those in (chosen, drawn.chosen))
        if not moved and nodes == before and matrix_source == drawn.matrix_source:
            return False
        drawn.matrix_us, drawn.matrix_source, drawn.chosen = matrix_us, matrix_source, chosen
        return True

    async def _matrix(
        self, zones: Sequence[ZoneKey | None]
    ) -> tuple[tuple[tuple[float | None, ...], ...], tuple[tuple[str | None, ...], ...]]:
        """Between zones. Of nodes without a zone nobody knows how far they are from one."""
        known = [zone for zone in zones if zone is not None]
        matrix_us, matrix_source = await zone_matrix(self.roster, known)
        if len(known) == len(zones):
            return matrix_us, matrix_source
        unknown = (None,) * len(zones)
        return (
            (*((*row, None) for row in matrix_us), unknown),
            (*((*row, None) for row in matrix_source), unknown),
        )

    def _redraw(self, drawn: Drawn, name: NodeName) -> int | None:
        """Bring a node up to date. Returns its place if that is worth telling."""
        place, standing = drawn.places.get(name), drawn.standings.get(name)
        if place is None or standing is None:
            return None  # it came or left: the next map has it
        state, rtt_us = drawn.special.get(name) or _usual(standing), _rtt_us(standing)
        if state is drawn.states[place] and not _differs(rtt_us, drawn.rtt_us[place]):
            return None
        drawn.states[place], drawn.rtt_us[place] = state, rtt_us
        return place

    def chosen(self, now_s: float) -> tuple[ChosenEntry, ...]:
        """The nodes that this one would ask first for a content that all have."""
        peers = tuple(self.roster.peers)
        conditions = self.policy.regard.conditions(now_s)
        ranked = rank(peers, self.roster.snapshot, digest="", conditions=conditions, limit=CHOSEN_MAX)
        return tuple(ChosenEntry(node=one.node, tier=one.tier.label, reason=one.reason) for one in ranked)

    def _special(self, now_s: float) -> dict[NodeName, NodeState]:
        """The nodes whose state their standing does not tell, the gravest state of each."""
        regard = self.policy.regard
        silent = frozenset(regard.silent())
        doubtful = silent if self.trouble(now_s) else silent.intersection(self.doubtful())
        return {
            **self.told(),
            **dict.fromkeys(regard.cooling(now_s), NodeState.COOLING),
            **dict.fromkeys(silent, NodeState.SILENT),
            **dict.fromkeys(doubtful, NodeState.DOUBTFUL),
            self.roster.own: NodeState.SELF,
        }


def zones_of(snapshot: Snapshot) -> tuple[ZoneKey | None, ...]:
    """All zones by name, and then None if there are nodes without one."""
    zones = sorted(snapshot.zones, key=str)
    placed = sum(snapshot.zones.values())
    return (*zones, None) if placed < len(snapshot.standings) else tuple(zones)


async def _in_order(snapshot: Snapshot, zones: Iterable[ZoneKey | None]) -> tuple[NodeName, ...]:
    """All nodes, zone by zone, by name in each; those without a zone last."""
    by_zone: dict[ZoneKey | None, list[NodeName]] = {zone: [] for zone in zones}
    for place, (name, standing) in enumerate(snapshot.standings.items()):
        if place % _AT_ONCE == 0:
            await asyncio.sleep(0)
        by_zone[standing.placement.zone_key].append(name)
    names: list[NodeName] = []
    for those in by_zone.values():
        await asyncio.sleep(0)
        those.sort()
        names += those
    return tuple(names)


def _moved(before: Mapping[NodeName, Standing], after: Mapping[NodeName, Standing]) -> Iterable[NodeName]:
    if before is after:
        return ()
    return [name for name, standing in after.items() if before.get(name) is not standing]


def _usual(standing: Standing) -> NodeState:
    if standing.suspect is not None:
        return NodeState.SUSPECT
    return NodeState.UNMEASURED if standing.estimate is None else NodeState.OK


def _rtt_us(standing: Standing) -> float | None:
    return None if standing.estimate is None else round(standing.estimate.low_us, 1)


def _differs(one_us: float | None, other_us: float | None) -> bool:
    if one_us is None or other_us is None:
        return one_us is not other_us
    return abs(one_us - other_us) > max(_STEADY, _WORTH * other_us)


def _rack(standing: Standing) -> str | None:
    finer = standing.placement.finer
    return finer[-1][1] if finer else None
