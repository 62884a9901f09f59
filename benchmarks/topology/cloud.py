"""A simulated cloud: names of nodes and zones, and how long frames take between them.

Round trips, jitter and spikes were measured in clouds: 0.26 to 0.41 ms in the same zone, 0.8 to 1.1 ms to
another zone, and some frames late by up to 12 ms.
"""

import random

from topology.placement import NodeName, Placement, Region, Tier, Zone, ZoneKey

SEED = 2004  # of all random numbers, so that two runs use the same clusters
EQUAL_RATIO = 1.6  # a round trip up to so many times the smallest counts as nearest
SAME_ZONE_US = (260.0, 410.0)
OTHER_ZONE_US = (800.0, 1100.0)
OTHER_REGION_US = (8_000.0, 12_000.0)
JITTER_US, SPIKE_SHARE, SPIKE_US = 50.0, 0.01, 12_000.0  # per direction


def node_name(number: int) -> NodeName:
    """A node name in the style of AWS."""
    return NodeName(f"ip-10-0-{number // 256}-{number % 256}.ec2.internal")


def zone_key(region: int, zone: int) -> ZoneKey:
    """The zone with these numbers."""
    return ZoneKey(region=Region(f"r{region}"), zone=Zone(f"z{zone}"))


def in_zone(zone: ZoneKey, *finer: tuple[str, str]) -> Placement:
    """A placement in a zone, with optional levels below it."""
    return Placement(region=zone.region, zone=zone.zone, finer=finer)


def range_us(tier: Tier) -> tuple[float, float]:
    """The shortest and the longest round trip between nodes of this tier."""
    if tier <= Tier.ZONE:
        return SAME_ZONE_US
    return OTHER_ZONE_US if tier is Tier.REGION else OTHER_REGION_US


def jitter_us(dice: random.Random) -> float:
    """What jitter adds to one round trip, in both directions, like the lab's switch."""
    extra_us = 0.0
    for _ in range(2):
        extra_us += dice.expovariate(1.0) * JITTER_US
        if dice.random() < SPIKE_SHARE:
            extra_us += dice.random() * SPIKE_US
    return extra_us
