"""Placements and the relation of two of them.

Decides how far apart two nodes are by their labels alone. Knows nothing of sockets, time or blobs.
Source: Kubernetes well-known labels topology.kubernetes.io/region and /zone; rack is ours.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

NodeName = NewType("NodeName", str)
Region = NewType("Region", str)
Zone = NewType("Zone", str)
Rack = NewType("Rack", str)


class Locality(IntEnum):
    """The relation of two placements, nearest first; the tiers in which holders are asked and chosen."""

    NODE = 0
    RACK = 1
    ZONE = 2
    REGION = 3
    REMOTE = 4

    @property
    def label(self) -> str:
        """The tier's name in headers, metrics and logs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a node sits. None is a label the node does not have: it is never equal to another None."""

    region: Region | None = None
    zone: Zone | None = None
    rack: Rack | None = None

    def path(self, node: NodeName) -> tuple[str, ...]:
        """The way from the top of the tree down to the node: region, zone, rack, node.

        A missing level gets a name of the node's own, so that two nodes without a rack label do not
        count as rack neighbours. A level is meant within the one above it, as cloud providers mean it:
        zone "a" of one region is not zone "a" of another.
        """
        path: tuple[str, ...] = ()
        for level, label in (("region", self.region), ("zone", self.zone), ("rack", self.rack)):
            name = f"{level}={label}" if label is not None else f"{level} of {node}"
            path = (*path, name)
        return (*path, f"node={node}")
