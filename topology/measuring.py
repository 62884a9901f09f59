"""Which peers to measure.

Decides which peers get a measuring connection. Some peers of every zone are measured, so that no zone goes
unmeasured in a large cluster. (If 5 % of the peers are in a zone, 15 peers chosen at random include none of
them 46 % of the time.) The set rotates, so that every peer gets its turn. Pure: the same nodes and turn
give the same choice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from topology.placement import NodeName, ZoneKey
from topology.snapshot import seed_of
from topology.zones import REPORT_ZONES_MAX

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureLimits:
    """How many measuring connections: in this node's zone, in each other zone, and in total."""

    own_zone: int = 32
    other_zones: int = 3
    total: int = 192


def choose_measured(
    zones: Mapping[ZoneKey | None, Sequence[NodeName]],
    *,
    own: NodeName,
    own_zone: ZoneKey | None,
    limits: MeasureLimits,
    turn: int,
) -> tuple[NodeName, ...]:
    """The peers to measure in this turn. Each turn replaces a quarter of a zone's peers, at least one.

    ``zones``: the peers by zone. Peers without a known zone are under None; a node without a zone treats
    them as its own zone. If ``total`` has no room for every zone, the zones take turns as well.
    O(peers × log peers).
    """
    others = sorted((zone for zone in zones if zone != own_zone and zones[zone]), key=str)
    if limits.other_zones == 0:
        others = []
    # This node's zone leaves the other zones what they need, up to half of the total.
    own_most = limits.total - min(len(others) * limits.other_zones, limits.total // 2)
    chosen = list(_turn_of(zones.get(own_zone, ()), min(limits.own_zone, own_most), own, turn))
    room = (limits.total - len(chosen)) // limits.other_zones if others else 0
    if room >= len(others):
        for zone in others:
            chosen.extend(_turn_of(zones[zone], limits.other_zones, own, turn))
    elif room > 0:
        # The zones take turns. A zone's peers rotate when all zones had their turn.
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
    # Every node has an order of its own, so that different nodes measure different peers of a zone.
    order = sorted(members, key=lambda member: (seed_of(f"{own}\0{member}"), str(member)))
    start = turn * max(1, count // 4)
    return [order[(start + place) % len(order)] for place in range(count)]


def measuring_bytes_per_s(
    connections: int, *, interval_s: float, report_s: float, rotate_s: float, zones: int
) -> float:
    """An upper bound of the bytes that a node's measuring puts on the wire: both directions, with headers.

    A message is a frame of 6 bytes and its acknowledgement. A report has up to 60 bytes per zone (names of
    about 25 characters each). Opening and closing a connection costs about 1.6 kB. A turn replaces at most
    a third of the connections (one of three in other zones, a quarter in the node's own zone).
    """
    headers = 14 + 20 + 32  # Ethernet, IPv4, TCP with timestamps
    message = headers + 6 + headers
    report = 200 + 60 * min(zones, REPORT_ZONES_MAX)
    made = connections / 3 / rotate_s * 1600
    return connections * (message / interval_s + report / report_s) + made
