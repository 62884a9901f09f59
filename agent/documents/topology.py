"""Where each node is, and how far away: ``/api/topology`` and ``/api/latency``.

Round trips are in microseconds, ages in seconds. None means unknown.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from agent.documents.codec import json_key


@dataclass(frozen=True, slots=True, kw_only=True)
class RttEntry:
    """What the asked node measured for one peer. ``low_us``: the estimate that ranking uses.

    ``weight``: from 0 to 1, how much the samples count, in comparison with the usual value for such a peer.
    """

    low_us: float
    min_us: float
    jitter_us: float
    samples: int
    age_s: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEntry:
    """One node as the asked node sees it.

    ``own``: it is the asked node. ``placement``: pairs of level and value, coarse to fine; may be empty.
    ``source``: how its cost is known. ``inferred``: its zone comes from latency, not from labels.
    ``suspect``: why its latency contradicts its labels. ``cooling``: it failed and cools off.
    ``silent``: why the asked node takes it for one that does not answer, in words.
    """

    name: str
    own: bool = field(metadata=json_key("self"))
    placement: tuple[tuple[str, str], ...]
    tier: str
    cost_us: float | None
    source: str
    rtt: RttEntry | None
    inferred: bool
    suspect: str | None
    cooling: bool
    silent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneEntry:
    """A zone and how many nodes are in it."""

    region: str | None
    zone: str | None
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemEntry:
    """A problem with a node's labels, with its entry in the peers file, or with the asked node's settings."""

    node: str
    problem: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyDocument:
    """The cluster as one node sees it. The rows and columns of both matrices are ``zones``.

    A cell of ``matrix_source`` is None only if the cost is None: the cost between the two zones is unknown.
    ``levels``: the names of the levels of all placements, coarse to fine. ``age_s``: the age of the snapshot.
    ``time``: when the document was made, UTC. Ages count from there.
    """

    PATH: ClassVar[str] = "/api/topology"

    time: str
    node: str
    age_s: float
    levels: tuple[str, ...]
    nodes: tuple[NodeEntry, ...]
    zones: tuple[ZoneEntry, ...]
    matrix_us: tuple[tuple[float | None, ...], ...]
    matrix_source: tuple[tuple[str | None, ...], ...]
    problems: tuple[ProblemEntry, ...]

    @property
    def own_zone(self) -> int | None:
        """The index of the asked node's zone in ``zones``."""
        own = next((node for node in self.nodes if node.own), None)
        if own is None:
            return None
        labels = dict(own.placement)
        zones = [(zone.region, zone.zone) for zone in self.zones]
        sought = (labels.get("region"), labels.get("zone"))
        return zones.index(sought) if sought in zones else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLatencyEntry:
    """What the asked node measured for one peer; see `RttEntry`. All None before the first sample.

    ``measuring``: the asked node has a measuring connection to the peer now.
    """

    node: str
    tier: str
    measuring: bool
    low_us: float | None
    min_us: float | None
    jitter_us: float | None
    samples: int | None
    age_s: float | None
    weight: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneNameEntry:
    """The name of a zone."""

    region: str | None
    zone: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyDocument:
    """What the asked node measured itself, and the costs between zones; see `TopologyDocument`.

    ``time``: when the document was made, UTC. Ages count from there.
    """

    PATH: ClassVar[str] = "/api/latency"

    time: str
    node: str
    peers: tuple[PeerLatencyEntry, ...]
    zones: tuple[ZoneNameEntry, ...]
    matrix_us: tuple[tuple[float | None, ...], ...]
    matrix_source: tuple[tuple[str | None, ...], ...]
