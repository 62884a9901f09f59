"""The cluster to be drawn: ``/api/map``. Columns, because thousands of nodes are in it."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class NodeState(Enum):
    """How the asked node sees a node. The value is the word in documents."""

    SELF = "self"
    OK = "ok"
    UNMEASURED = "unmeasured"
    """Nothing speaks against it, and this node did not measure the way to it."""
    COOLING = "cooling"
    """It failed a moment ago, and others are preferred to it."""
    SILENT = "silent"
    """It gave no sign of life since it failed."""
    DOUBTFUL = "doubtful"
    """It was silent, and so were others, or this node could not ask: perhaps this node's network is down."""
    SUSPECT = "suspect"
    """Its latency contradicts its labels."""
    UNREADY = "unready"
    """It says itself that it is not ready."""
    DRAINING = "draining"
    """It says itself that it stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapZoneEntry:
    """A zone; both names null: the nodes without one.

    ``silent``, ``cooling``: how many of its nodes are so. ``answering``: how many are neither.
    """

    region: str | None
    zone: str | None
    nodes: int
    answering: int
    silent: int
    cooling: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenEntry:
    """A node that would be asked for a content that all nodes have. ``reason``: why it has this place."""

    node: str
    tier: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MapDocument:
    """All nodes as the asked node sees them.

    ``map``: the number of this map: changes name the map that they are about. ``own_trouble``: why this node
    could not ask others a moment ago, in words; empty: it could. ``names``, ``zone_index`` (into ``zones``),
    ``racks``, ``states`` (see NodeState in the table below) and ``rtt_us`` (measured by this node itself;
    null: it was not) have one value for each node, this one included, in one order. The rows and columns of
    both matrices are ``zones``. ``chosen``: the nodes that this one would ask first now, at most 8.
    """

    PATH: ClassVar[str] = "/api/map"

    time: str
    node: str
    map: int
    own_trouble: str
    zones: tuple[MapZoneEntry, ...]
    names: tuple[str, ...]
    zone_index: tuple[int, ...]
    racks: tuple[str | None, ...]
    states: tuple[str, ...]
    rtt_us: tuple[float | None, ...]
    matrix_us: tuple[tuple[float | None, ...], ...]
    matrix_source: tuple[tuple[str | None, ...], ...]
    chosen: tuple[ChosenEntry, ...]
