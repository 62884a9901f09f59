"""The cluster as one node sees it at one moment: what ranking, lookups and the API read. Immutable."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from topology.labels import LabelProblem
from topology.placement import Locality, NodeName, Path, Placement, ZoneKey
from topology.rtt import Estimate

LOG_STEP = 1.02  # costs are kept in steps of two per cent: finer than any measurement here
TIER_WIDTH = 1 << 12
SEED_BITS = 30
# Same zone 0.26 to 0.41 ms, other zone 0.8 to 1.1 ms: measured in clouds. Beyond a region: a continent.
PRIORS_US: Mapping[Locality, float] = {
    Locality.NODE: 0.0,
    Locality.RACK: 250.0,
    Locality.ZONE: 320.0,
    Locality.REGION: 900.0,
    Locality.REMOTE: 30_000.0,
}


class Source(Enum):
    """Where a cost comes from, the most specific first."""

    SELF = "self"
    MEASURED = "measured"  # to this very node
    SAYS_SLOWER = "says_slower"  # the node says that it is slower than its zone
    ZONE_PAIR = "zone_pair"  # the median of the two zones, or of the level at which the nodes meet
    PATH = "path"  # the shortest path over other zones' medians
    PRIOR = "prior"  # what is usual between such zones, or in such a tier


class Standing(NamedTuple):
    """How one node stands to the node whose snapshot this is."""

    placement: Placement  # with what was inferred
    locality: Locality
    shared: int  # steps of the path in common
    cost_us: float  # round trip
    source: Source
    estimate: Estimate | None
    inferred: bool  # its zone comes from latency, not from labels
    suspect: str | None  # why its latency contradicts its labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All standings, and the tables that ranking needs of them.

    ``keys``: all that ranking needs of a node in one number, so that thousands cost one look each. The
    high bits are its place: tier and cost, the nearer the lower; a tier is `TIER_WIDTH` wide, within it
    a cost counts in steps of `LOG_STEP`. The low `SEED_BITS` are a random odd number for the hash.
    """

    own: NodeName
    standings: Mapping[NodeName, Standing]
    keys: Mapping[NodeName, int]
    zones: Mapping[ZoneKey, int]  # how many nodes each zone has
    problems: tuple[LabelProblem, ...]
    made_s: float
    generation: int  # changes when members or their places do

    def locality(self, node: NodeName) -> Locality:
        """How near a node is; REMOTE for one that is not there."""
        standing = self.standings.get(node)
        return Locality.REMOTE if standing is None else standing.locality

    def key(self, node: NodeName) -> int:
        """See ``keys``; behind everyone for a node that is not there."""
        known = self.keys.get(node)
        return _NOWHERE << SEED_BITS | seed_of(node) if known is None else known

    def zone_of(self, node: NodeName) -> ZoneKey | None:
        """The node's zone, inferred or labelled."""
        standing = self.standings.get(node)
        return None if standing is None else standing.placement.zone_key


def tier_key(locality: Locality, path: Path, shared: int) -> int:
    """The tier as a number: the locality, and below the zone the deeper the better."""
    deeper = 0
    if locality is Locality.RACK:
        above = sum(1 for level, _ in path if level in ("region", "zone"))
        deeper = min(_DEPTH_MAX, shared - above)
    return (int(locality) * (_DEPTH_MAX + 1) - deeper) * TIER_WIDTH


_DEPTH_MAX = 31


def cost_steps(cost_us: float) -> int:
    """A cost on the log scale of ``keys``."""
    return min(TIER_WIDTH - 1, max(0, int(math.log(max(cost_us, 1.0)) / _LOG)))


_LOG = math.log(LOG_STEP)
_NOWHERE = tier_key(Locality.REMOTE, (), 0) + TIER_WIDTH - 1


def seed_of(text: str) -> int:
    """An odd number of `SEED_BITS` that looks random and is the same everywhere."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 32 - SEED_BITS | 1
