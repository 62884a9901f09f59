"""Whom to measure.

Decides which peers have a probe connection: some of every zone, so that no zone goes unmeasured
however large the cluster is (of 15 peers taken at random from a cluster with 5 % of them in the zone,
none is in it 46 % of the time), and the set rotates, so that every peer has its turn. Pure: the same
nodes and turn give the same choice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from topology.placement import NodeName, ZoneKey
from topology.snapshot import seed_of
from topology.zones import REPORT_ZONES_MAX

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLimits:
    """How many connections: in this node's zone, in each other zone, in all."""

    own_zone: int = 32
    other_zones: int = 3
    total: int = 192


def choose_probed(
    zones: Mapping[ZoneKey | None, Sequence[NodeName]],
    *,
    own: NodeName,
    own_zone: ZoneKey | None,
    limits: ProbeLimits,
    turn: int,
) -> tuple[NodeName, ...]:
    """The peers to probe in this turn. Each turn exchanges a quarter of a zone's probed peers, one at least.

    ``zones``: the peers by zone; under None those of which no zone is known (for a node without a zone
    they are its own). With more zones than ``total`` has room for, the zones take turns as well.
    O(peers × log peers).
    """
    others = sorted((zone for zone in zones if zone != own_zone and zones[zone]), key=str)
    if limits.other_zones == 0:
        others = []
    # The own zone leaves the others what they need, up to half of all.
    own_most = limits.total - min(len(others) * limits.other_zones, limits.total // 2)
    chosen = list(_turn_of(zones.get(own_zone, ()), min(limits.own_zone, own_most), own, turn))
    room = (limits.total - len(chosen)) // limits.other_zones if others else 0
    if room >= len(others):
        for zone in others:
            chosen.extend(_turn_of(zones[zone], limits.other_zones, own, turn))
    elif room > 0:
        # The zones take turns; a zone's peers move on when all zones had theirs.
        cycles, start = divmod(turn * max(1, room // 4), len(others))
        for place in range(start, start + room):
            zone = others[place % len(others)]
            chosen.extend(_turn_of(zones[zone], limits.other_zones, own, cycles + place // len(others)))
    return tuple(chosen)


def _turn_of(members: Sequence[_T], count: int, own: NodeName, turn: int) -> Iterable[_T]:
    if len(members) <= count:
        return members
    if count <= 0:
        return ()
    # Every node has its own order, so that the peers of a zone are measured by different nodes.
    order = sorted(members, key=lambda member: (seed_of(f"{own}\0{member}"), str(member)))
    start = turn * max(1, count // 4)
    return [order[(start + place) % len(order)] for place in range(count)]


def probe_bytes_per_s(
    connections: int, *, interval_s: float, report_s: float, rotate_s: float, zones: int
) -> float:
    """What a node's probing puts on the wire, both directions, headers included; an upper bound.

    A probe is a frame of 6 bytes and its acknowledgement; a report has up to 60 bytes a zone (names of
    some 25 characters each); a connection costs about 1.6 kB to make and end, and at most a third of
    them is exchanged in a turn (one of three in other zones, a quarter in the own).
    """
    headers = 14 + 20 + 32  # Ethernet, IPv4, TCP with timestamps
    probe = headers + 6 + headers
    report = 200 + 60 * min(zones, REPORT_ZONES_MAX)
    made = connections / 3 / rotate_s * 1600
    return connections * (probe / interval_s + report / report_s) + made
