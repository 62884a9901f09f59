"""Where the nodes are, and how each of them sees the cluster: the product's own topology, shared.

All nodes of a rack see the same: so each rack has one `ClusterTopology`, made for somebody who is in the rack
and is no member. Its tables are those of the zone, and what differs within the rack lies over them. A node's
snapshot is these tables with its own name.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from benchmarks.simulator.scenario import Numbers, Scenario
from topology.cluster import ClusterTopology
from topology.placement import NodeName, Placement, Region, Zone, ZoneKey
from topology.snapshot import Snapshot, Standing
from topology.spread import AnyZone
from topology.zones import Report

V = TypeVar("V")


class Over(dict[NodeName, V]):
    """A few entries that lie over a large table."""

    def __init__(self, top: Mapping[NodeName, V], below: Mapping[NodeName, V]) -> None:
        super().__init__(top)
        self._below = below

    def __missing__(self, node: NodeName) -> V:
        return self._below[node]

    def get(self, node: NodeName, default: V | None = None) -> V | None:  # type: ignore[override]
        """See dict."""
        try:
            return self[node]
        except KeyError:
            return default

    def __contains__(self, node: object) -> bool:
        return dict.__contains__(self, node) or node in self._below

    def __iter__(self) -> Iterator[NodeName]:
        return iter({**self._below, **dict(self.items())})

    def __len__(self) -> int:
        return len(self._below)


class Places:
    """The nodes of a scenario by number, and by name. A node that is replaced gets another name."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario, self._jitter = scenario, scenario.links.jitter
        self.zones: Numbers = np.repeat(
            np.arange(len(scenario.zones)), [plan.nodes for plan in scenario.zones]
        )
        self.zone_of: list[int] = self.zones.tolist()
        self._zone_rtts_s = [
            [_usual_rtt_s(scenario, one, other) for other in range(len(scenario.zones))]
            for one in range(len(scenario.zones))
        ]
        self.placements: list[Placement] = []
        self.racks: list[tuple[int, int]] = []  # zone and rack of each node
        for zone, plan in enumerate(scenario.zones):
            for number in range(plan.nodes):
                rack = number * plan.racks // plan.nodes if plan.racks else -1
                self.racks.append((zone, rack))
                self.placements.append(_placement(plan.name, plan.region, rack))
        self.names = [
            NodeName(f"{scenario.zones[zone].name}-{number:05}")
            for number, (zone, _) in enumerate(self.racks)
        ]
        self.number_of = {name: number for number, name in enumerate(self.names)}
        self.zone_keys: list[AnyZone] = [
            ZoneKey(region=Region(plan.region), zone=Zone(plan.name)) for plan in scenario.zones
        ]
        self.zone_number = {key: number for number, key in enumerate(self.zone_keys)}
        self.members: set[NodeName] = set(self.names)
        self._topologies: dict[tuple[int, int], ClusterTopology] = {}
        self._bases: dict[tuple[int, int], Snapshot] = {}
        self.generation = 0
        self.members_now: frozenset[NodeName] = frozenset(self.members)

    def rename(self, number: int) -> NodeName:
        """The node was replaced: another one is in its place. It is no member yet."""
        name = NodeName(f"{self.names[number]}.")
        self.names[number] = name
        self.number_of[name] = number
        return name

    def change(self, *, gone: Iterable[NodeName] = (), come: Iterable[NodeName] = ()) -> None:
        """The members changed, as all nodes know by now."""
        self.members = (self.members - {*gone}) | {*come}
        self.members_now = frozenset(self.members)
        self.generation += 1
        self._bases.clear()

    def base(self, number: int) -> Snapshot:
        """The snapshot of a node's rack."""
        rack = self.racks[number]
        known = self._bases.get(rack)
        if known is None:
            known = self._bases[rack] = self._of_rack(rack)
        return known

    def seen_by(self, number: int) -> Snapshot:
        """The cluster as this node sees it."""
        return replace(self.base(number), own=self.names[number])

    def rtt_s(self, one: int, other: int) -> float:
        """The round trip between two nodes: the same each time, and another one for each pair."""
        low, high = (one, other) if one < other else (other, one)
        lot = (low * 2654435761 ^ high * 40503) & 0xFFFF
        mean_s = self._zone_rtts_s[self.zone_of[one]][self.zone_of[other]]
        return mean_s * (1 + self._jitter * (lot / 0x8000 - 1))

    def zone_rtt_s(self, zone: int, other: int) -> float:
        """The usual round trip between nodes of two zones."""
        return self._zone_rtts_s[zone][other]

    def between_us(self, one: AnyZone, other: AnyZone) -> float:
        """The measured round trip between two zones."""
        return 1e6 * self.zone_rtt_s(self.zone_number[one], self.zone_number[other])

    def _of_rack(self, rack: tuple[int, int]) -> Snapshot:
        zone, place = rack
        topology = self._topology((zone, -1), (self._scenario.zones[zone].racks and -2) or -1)
        snapshot = topology.update(self._present(None), 0.0)
        snapshot = self._measured(topology, zone)
        if place < 0:
            return snapshot
        near = self._topology(rack, place).update(self._present(rack), 0.0)
        return replace(
            snapshot,
            standings=Over[Standing](_without(near.standings, near.own), snapshot.standings),
            keys=Over[int](_without(near.keys, near.own), snapshot.keys),
        )

    def _topology(self, rack: tuple[int, int], place: int) -> ClusterTopology:
        known = self._topologies.get(rack)
        if known is None:
            plan = self._scenario.zones[rack[0]]
            known = self._topologies[rack] = ClusterTopology(
                own=NodeName(f"seen from {plan.name}/{place}"),
                placement=_placement(plan.name, plan.region, place),
            )
        return known

    def _present(self, rack: tuple[int, int] | None) -> dict[NodeName, Placement]:
        return {
            name: self.placements[number]
            for name, number in self.number_of.items()
            if name in self.members and (rack is None or self.racks[number] == rack)
        }

    def _measured(self, topology: ClusterTopology, zone: int) -> Snapshot:
        """A few nodes of the zone report what they measured to each zone, as they do all the time."""
        zones = {
            key: self.zone_rtt_s(zone, other) * 1e6
            for other, key in enumerate(self.zone_keys)
            if key is not None
        }
        reporters = (self.names[number] for number in self._scenario.zone_nodes(zone)[:3])
        for name in reporters:
            topology.add_report(name, Report(zones=zones, nodes={}), 0.0)
        return topology.refresh(0.0)


def _usual_rtt_s(scenario: Scenario, zone: int, other: int) -> float:
    links, plans = scenario.links, scenario.zones
    if zone == other:
        return links.zone_rtt_s
    return links.region_rtt_s if plans[zone].region == plans[other].region else links.remote_rtt_s


def _without(table: Mapping[NodeName, V], node: NodeName) -> dict[NodeName, V]:
    return {name: value for name, value in table.items() if name != node}


def _placement(zone: str, region: str, rack: int) -> Placement:
    finer = () if rack == -1 else (("rack", f"{zone}-{rack}"),)
    return Placement(region=Region(region), zone=Zone(zone), finer=finer)
