"""Simulated clusters for the contest: true round trips between all nodes, and the nodes' labels."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.topology.cloud import in_zone, range_us, zone_key
from topology.placement import Placement, Tier, ZoneKey, relation

_REGION_ZONES = ((0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5))
_ACCESS_US = 30.0
_UNLABELLED = 0.05


@dataclass(frozen=True, slots=True)
class World:
    """A cluster: true round trips by the numbers of two nodes, and the nodes' labels."""

    zones: Sequence[ZoneKey]
    rtt_us: Sequence[Sequence[float]]
    unlabelled: frozenset[int]

    @classmethod
    def drawn(cls, nodes: int, dice: random.Random, *, by_zones: bool) -> "World":
        """Make a random world. ``by_zones``: each pair of zones has its own delay, and two nodes differ
        from it by up to 5 %. Otherwise every pair of nodes has its own delay.
        """
        zones = [zone_key(*_REGION_ZONES[number % len(_REGION_ZONES)]) for number in range(nodes)]
        access_us = [dice.expovariate(1 / _ACCESS_US) for _ in range(nodes)]
        usual_us = {
            frozenset(pair): dice.uniform(*range_us(zone_tier(*pair)))
            for pair in itertools.combinations_with_replacement(sorted(set(zones), key=str), 2)
        }
        rtt_us = [[0.0] * nodes for _ in range(nodes)]
        for one, other in itertools.combinations(range(nodes), 2):
            if by_zones:
                way_us = usual_us[frozenset((zones[one], zones[other]))] * dice.uniform(0.95, 1.05)
            else:
                way_us = dice.uniform(*range_us(zone_tier(zones[one], zones[other])))
            rtt_us[one][other] = rtt_us[other][one] = way_us + access_us[one] + access_us[other]
        unlabelled = frozenset(dice.sample(range(nodes), round(nodes * _UNLABELLED)))
        return cls(zones, rtt_us, unlabelled)

    def label(self, number: int) -> Placement:
        """The placement by the node's labels."""
        return Placement() if number in self.unlabelled else in_zone(self.zones[number])


def zone_tier(one: ZoneKey, other: ZoneKey) -> Tier:
    """The tier of two nodes in these zones."""
    return Tier.ZONE if one == other else relation(in_zone(one).path, in_zone(other).path)[0]
