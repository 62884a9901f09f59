"""Shapes of clusters, and scenes: topologies with measurements, for timing and for memory."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.topology.cloud import in_zone, node_name, range_us, zone_key
from benchmarks.topology.measuring import DEFAULTS, measured_peers
from topology.cluster import ClusterTopology
from topology.placement import NodeName, Placement

OWN = node_name(0)
_AWS_LAYER = "topology.k8s.aws/network-node-layer-"
_LAYER_WIDTHS = (128, 32, 8)  # nodes per network node of each layer
_TURNS = 4  # turns of measuring before a scene is timed
_WINDOW = 10  # samples that fill a window
_LATE_US = 100.0  # mean extra time of a sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A cluster by its labels. ``loaded``: the number of holders with a known load."""

    name: str
    zones: int = 10
    layers: bool = False
    measured: bool = True
    loaded: int = 0

    def placements(self, nodes: int) -> dict[NodeName, Placement]:
        """The placements of all nodes. The first is the own node."""
        return {node_name(number): self._placement(number) for number in range(nodes)}

    def _placement(self, number: int) -> Placement:
        zone_number, place = number % self.zones, number // self.zones
        zone = zone_key(zone_number * 2 // self.zones, zone_number)
        if not self.layers:
            return in_zone(zone)
        finer = (
            (f"{_AWS_LAYER}{layer}", f"nn-{zone_number}-{layer}-{place // width}")
            for layer, width in enumerate(_LAYER_WIDTHS, start=1)
        )
        return in_zone(zone, *finer)


PLAIN = Shape(name="10 zones")
LAYERED = Shape(name="10 zones with AWS layers", layers=True)
SHAPES = (
    PLAIN,
    LAYERED,
    Shape(name="one zone, all equal", zones=1, measured=False),
    Shape(name="one zone, measured", zones=1),
    Shape(name="10 zones, 60 loaded", loaded=60),
)


def without_own(placements: Mapping[NodeName, Placement]) -> dict[NodeName, Placement]:
    """These placements without the own node."""
    return {name: placement for name, placement in placements.items() if name != OWN}


@dataclass(slots=True)
class Scene:
    """The topology of a shape's first node. It is filled by turns of measuring, like an agent's."""

    placements: dict[NodeName, Placement]
    topology: ClusterTopology
    measured: tuple[NodeName, ...] = ()
    now_s: float = 0.0

    @classmethod
    def of(cls, shape: Shape, nodes: int, dice: random.Random) -> "Scene":
        """A scene after some turns of measuring, unless the shape stays unmeasured."""
        scene = cls.unmeasured(shape.placements(nodes))
        if shape.measured:
            scene.measure(_TURNS, dice)
        return scene

    @classmethod
    def unmeasured(
        cls, placements: dict[NodeName, Placement], peers: Mapping[NodeName, Placement] | None = None
    ) -> "Scene":
        """A scene before any measuring. ``peers``: the placements without the own node, if already made."""
        topology = ClusterTopology(own=OWN, placement=placements[OWN])
        topology.update(without_own(placements) if peers is None else peers, 0.0)
        return cls(placements=placements, topology=topology)

    def measure(self, turns: int, dice: random.Random) -> None:
        """Measure for so many turns. Each measured peer gets a full window of samples."""
        for turn in range(turns):
            self.measured = measured_peers(self.topology.snapshot, turn)
            self._measure(dice)

    def _measure(self, dice: random.Random) -> None:
        for _ in range(_WINDOW):
            self.now_s += DEFAULTS.interval_s
            for name in self.measured:
                late_us = dice.expovariate(1 / _LATE_US)
                self.topology.sample(name, self.true_us(name) + late_us, self.now_s)
        self.topology.refresh(self.now_s)

    def true_us(self, name: NodeName) -> float:
        """A round trip that fits the node's tier. Always the same for the same node."""
        return random.Random(name).uniform(*range_us(self.topology.snapshot.tier(name)))
