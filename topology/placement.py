"""Placements, and how far apart two of them are.

Decides how far apart two nodes are by their labels alone. Knows nothing of sockets, time or blobs.
Source: Kubernetes well-known labels topology.kubernetes.io/region and /zone. The levels below a zone
(network layers, blocks, racks, hosts) differ between clouds and can be of any depth.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NewType

NodeName = NewType("NodeName", str)
Region = NewType("Region", str)
Zone = NewType("Zone", str)

Step = tuple[str, str]
"""One level of a placement: the level's name ("region", "zone", or a finer label's key) and its value."""

Path = tuple[Step, ...]
"""The levels from the top of the cluster down to a node, widest level first."""


class Tier(IntEnum):
    """How near two placements are, nearest first. Holders are asked and chosen tier by tier."""

    NODE = 0
    RACK = 1  # the same zone, and at least one finer level in common
    ZONE = 2
    REGION = 3
    REMOTE = 4

    @property
    def label(self) -> str:
        """The tier's name in headers, metrics and logs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneKey:
    """A zone within its region. Cloud providers name a zone within its region: zone "a" of one region
    is not zone "a" of another.
    """

    region: Region | None
    zone: Zone

    def __str__(self) -> str:
        return f"{self.region}/{self.zone}" if self.region is not None else str(self.zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a node sits. None: the node does not have that label.

    ``finer``: the levels below the zone, widest first, of any depth. ``partial``: a level that is missing
    here is one that is not known yet, and not one that the node lacks.
    """

    region: Region | None = None
    zone: Zone | None = None
    finer: Path = ()
    partial: bool = False
    # Computed once, because they are read for every node whenever zones move.
    path: Path = field(init=False, repr=False, compare=False)
    zone_key: ZoneKey | None = field(init=False, repr=False, compare=False)

    def with_zone(self, zone: ZoneKey | None) -> "Placement":
        """The same placement, in this zone if it has none of its own."""
        if zone is None or self.zone is not None:
            return self
        return replace(self, region=zone.region, zone=zone.zone)

    def __post_init__(self) -> None:
        """Compute ``path`` (a missing level is left out) and ``zone_key``."""
        steps: list[Step] = []
        if self.region is not None:
            steps.append(("region", self.region))
        if self.zone is not None:
            steps.append(("zone", self.zone))
        key = None if self.zone is None else ZoneKey(region=self.region, zone=self.zone)
        object.__setattr__(self, "path", (*steps, *self.finer))
        object.__setattr__(self, "zone_key", key)


def shared_steps(one: Path, other: Path) -> int:
    """How many steps two paths have in common from the top."""
    count = 0
    for step, other_step in zip(one, other, strict=False):
        if step != other_step:
            break
        count += 1
    return count


def relation(one: Path, other: Path) -> tuple[Tier, int]:
    """How near two different nodes are, and how many steps they share.

    A level that both nodes lack does not separate them: if no node has a region label, two nodes of zone
    "a" are in the same zone. A level that only one of them has does separate them, because nothing says
    that the other one is there too.
    """
    shared = shared_steps(one, other)
    if shared == 0:
        return Tier.REMOTE, 0
    tier = _TIERS.get(one[shared - 1][0], Tier.RACK)
    if tier is Tier.RACK and not any(level == "zone" for level, _ in one[:shared]):
        # Without a zone, "rack 1" says little: any zone may have one.
        tier = Tier.REGION if one[0][0] == "region" else Tier.REMOTE
    return tier, shared


_TIERS = {"region": Tier.REGION, "zone": Tier.ZONE}
