"""Agreement with an oracle that knows every true round trip of random small clusters."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.reporting.recorder import Recorder
from benchmarks.topology.cloud import EQUAL_RATIO, SEED, SPIKE_US, in_zone, node_name, range_us, zone_key
from topology.cluster import ClusterTopology
from topology.placement import NodeName, Placement, Tier, relation
from topology.ranking import rank

_JITTER_US, _SPIKE_SHARE = 100.0, 0.02
_CHOICES = 4
_OWN = NodeName("own")


@dataclass(frozen=True, slots=True)
class SmallWorld:
    """A random cluster of at most 40 nodes, as one of them sees it."""

    placements: Mapping[NodeName, Placement]
    rtt_us: Mapping[NodeName, float]

    @classmethod
    def drawn(cls, dice: random.Random) -> "SmallWorld":
        """Make a cluster with one to six zones in one to three regions. In a quarter of them some links are
        slow.
        """
        zones = [zone_key(dice.randint(1, 3), number) for number in range(dice.randint(1, 6))]
        names = [_OWN, *(node_name(number) for number in range(dice.randint(2, 39)))]
        slow = 0.2 if dice.random() < 0.25 else 0.0
        placements = {name: in_zone(dice.choice(zones)) for name in names}
        access_us = {name: dice.uniform(20, 200) if dice.random() < slow else 0.0 for name in names}
        far_us = {zone: dice.uniform(5_000, 80_000) for zone in zones}
        rtt_us = {}
        for name in names[1:]:
            tier, _ = relation(placements[_OWN].path, placements[name].path)
            zone = placements[name].zone_key
            assert zone is not None
            if tier is Tier.REMOTE:
                way_us = far_us[zone] * dice.uniform(0.97, 1.03)
            else:
                way_us = dice.uniform(*range_us(tier))
            rtt_us[name] = way_us + access_us[_OWN] + access_us[name]
        return cls(placements, rtt_us)

    def topology(self, dice: random.Random) -> ClusterTopology:
        """The topology after 10 to 15 samples per measured peer: at least one per zone, and some others."""
        topology = ClusterTopology(own=_OWN, placement=self.placements[_OWN])
        topology.update({name: self.placements[name] for name in self.rtt_us}, 0.0)
        unmeasured, seen = dice.uniform(0.0, 0.6), set()
        for name, true_us in self.rtt_us.items():
            zone = self.placements[name].zone_key
            if zone in seen and dice.random() < unmeasured:
                continue
            seen.add(zone)
            for number in range(dice.randint(10, 15)):
                late_us = dice.expovariate(1 / _JITTER_US)
                if dice.random() < _SPIKE_SHARE:
                    late_us += dice.uniform(0, SPIKE_US)
                topology.sample(name, true_us + late_us, 1.0 + number)
        topology.refresh(16.0)
        return topology

    def nearest_us(self, holders: Sequence[NodeName]) -> float:
        """The shortest true round trip in the nearest tier with a holder."""
        own = self.placements[_OWN].path
        tiers = {name: relation(own, self.placements[name].path)[0] for name in holders}
        nearest = min(tiers.values())
        return min(self.rtt_us[name] for name in holders if tiers[name] is nearest)


def report_oracle(report: Recorder, clusters: int) -> None:
    """Measure and report this section."""
    report.begin(f"agreement with an oracle: {clusters} random clusters of 3 to 40 nodes")
    dice = random.Random(SEED)
    ratios = [ratio for number in range(clusters) for ratio in _ratios(number, dice)]
    near = sum(ratio <= EQUAL_RATIO for ratio in ratios)
    exact = sum(ratio == 1.0 for ratio in ratios)
    report.share(f"holder chosen is near ({EQUAL_RATIO} ×) for its tier", near, len(ratios), 99.0)
    report.share("  is the nearest of all; equals share by hash on purpose", exact, len(ratios))
    report.spread("  its round trip as a multiple of the nearest's", "×", ratios)


def _ratios(number: int, dice: random.Random) -> Iterable[float]:
    """The round trips to the chosen holders of one cluster, as multiples of the nearest one's."""
    world = SmallWorld.drawn(dice)
    snapshot = world.topology(dice).snapshot
    names = sorted(world.rtt_us)
    for choice in range(_CHOICES):
        holders = dice.sample(names, dice.randint(1, len(names)))
        chosen = rank(holders, snapshot, digest=f"sha256:{number}-{choice}", limit=1)[0].node
        yield world.rtt_us[chosen] / world.nearest_us(holders)
