"""The cluster as one node sees it at one moment. Ranking, look-ups and the API read it. Immutable."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from topology.labels import LabelProblem
from topology.placement import NodeName, Path, Placement, Tier, ZoneKey
from topology.rtt import Estimate

LOG_STEP = 1.02  # costs are stored in steps of two per cent, which is finer than any measurement here
TIER_WIDTH = 1 << 12
SEED_BITS = 30
# Measured in clouds: 0.26 to 0.41 ms in the same zone, 0.8 to 1.1 ms to another zone. Another region is
# assumed to be as far as across a continent.
PRIORS_US: Mapping[Tier, float] = {
    Tier.NODE: 0.0,
    Tier.RACK: 250.0,
    Tier.ZONE: 320.0,
    Tier.REGION: 900.0,
    Tier.REMOTE: 30_000.0,
}


class Source(Enum):
    """Where a cost comes from, most specific first."""

    SELF = "self"
    MEASURED = "measured"  # to this very node
    SAYS_SLOWER = "says_slower"  # the node says that it is slower than its zone
    ZONE_PAIR = "zone_pair"  # the median of the two zones, or of the level at which the nodes meet
    PATH = "path"  # the shortest path over other zones' medians
    PRIOR = "prior"  # the usual value between such zones, or in such a tier


class Standing(NamedTuple):
    """How near one node is to the node that owns the snapshot."""

    placement: Placement  # includes an inferred zone
    tier: Tier
    shared: int  # steps of the path in common
    cost_us: float  # round trip
    source: Source
    estimate: Estimate | None
    inferred: bool  # its zone comes from latency, not from labels
    suspect: str | None  # why its latency contradicts its labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All standings, and the tables that ranking needs.

    ``keys``: one number per node with everything that ranking needs, so that thousands of nodes cost one
    look-up each. The high bits are the node's place, made of tier and cost: a lower place is nearer. A tier
    is `TIER_WIDTH` places wide, and a cost counts in steps of `LOG_STEP` within it. The low `SEED_BITS` are
    an odd pseudo-random number for the hash.
    """

    own: NodeName
    standings: Mapping[NodeName, Standing]
    keys: Mapping[NodeName, int]
    zones: Mapping[ZoneKey, int]  # how many nodes each zone has
    problems: tuple[LabelProblem, ...]
    made_s: float
    generation: int  # changes when the members or their placements change

    def tier(self, node: NodeName) -> Tier:
        """How near a node is. REMOTE for an unknown node."""
        standing = self.standings.get(node)
        return Tier.REMOTE if standing is None else standing.tier

    def key(self, node: NodeName) -> int:
        """The node's number in ``keys``. An unknown node comes behind all others."""
        known = self.keys.get(node)
        return _NOWHERE << SEED_BITS | seed_of(node) if known is None else known

    def zone_of(self, node: NodeName) -> ZoneKey | None:
        """The node's zone, labelled or inferred."""
        standing = self.standings.get(node)
        return None if standing is None else standing.placement.zone_key


def tier_key(tier: Tier, path: Path, shared: int) -> int:
    """The tier as a number. Within a zone, more shared levels make a lower number."""
    deeper = 0
    if tier is Tier.RACK:
        above = sum(1 for level, _ in path if level in ("region", "zone"))
        deeper = min(_DEPTH_MAX, shared - above)
    return (int(tier) * (_DEPTH_MAX + 1) - deeper) * TIER_WIDTH


_DEPTH_MAX = 31


def cost_steps(cost_us: float) -> int:
    """A cost on the log scale of ``keys``."""
    return min(TIER_WIDTH - 1, max(0, int(math.log(max(cost_us, 1.0)) / _LOG)))


_LOG = math.log(LOG_STEP)
_NOWHERE = tier_key(Tier.REMOTE, (), 0) + TIER_WIDTH - 1


def seed_of(text: str) -> int:
    """An odd number of `SEED_BITS` bits that looks random. The same on every node."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 32 - SEED_BITS | 1
