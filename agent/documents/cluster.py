"""The figures of many nodes, as they tell them: ``/api/cluster``; and what each node tells."""

from dataclasses import dataclass
from typing import ClassVar

from agent.documents.sums import SumsEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresEntry:
    """What a node tells others about itself, when they ask.

    ``phase``: one word: starting, serving, standing_by, stopping. ``proved``: whether its local path is
    proved; null: no probe runs. ``index_down``: the index's server is not asked now.
    """

    version: str
    uptime_s: float
    ready: bool
    why_not_ready: str
    phase: str
    proved: bool | None
    index_down: bool
    unreadable: int
    corrupt: int
    uploads: int
    downloads: int
    window: SumsEntry
    total: SumsEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNodeEntry:
    """One node that was asked. ``says``: told, silent (it does not answer), nothing (its release knows no
    such question), waiting (it was not asked yet), absurd (what it told can't be true, and counts nowhere).

    ``age_s``: how old the answer is. The rest is what it said itself; null: it did not.
    """

    node: str
    zone_index: int
    says: str
    age_s: float | None
    version: str | None
    uptime_s: float | None
    ready: bool | None
    why_not_ready: str | None
    proved: bool | None
    window_bytes: int | None
    window_failed: int | None
    uploads: int | None
    downloads: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterZoneEntry:
    """The sums of one zone, over the nodes that told. ``nodes``: how many it has. ``asked``: of how many.

    ``told``: how many told. ``ready``, ``proved``, ``index_down``: how many of these say so. ``no_probe``:
    how many of these have none. ``versions``: all that were named. ``oldest_s``: the oldest answer's age.
    """

    region: str | None
    zone: str | None
    nodes: int
    asked: int
    told: int
    silent: int
    ready: int
    proved: int
    no_probe: int
    index_down: int
    versions: tuple[str, ...]
    oldest_s: float | None
    window: SumsEntry
    total: SumsEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDocument:
    """The cluster, gathered by the asked node, which counts too.

    ``sampled``: there are too many nodes to ask all of them: sums are those of a sample of each zone, and
    ``scope`` says so in words. Nothing is scaled up. ``round_s``: how long it takes to ask all of them once.
    ``own_trouble``: why this node could not ask others a moment ago; empty: it could.
    """

    PATH: ClassVar[str] = "/api/cluster"

    time: str
    node: str
    members: int
    asked: int
    told: int
    silent: int
    sampled: bool
    scope: str
    round_s: float
    own_trouble: str
    window_s: float
    window: SumsEntry
    total: SumsEntry
    zones: tuple[ClusterZoneEntry, ...]
    nodes: tuple[ClusterNodeEntry, ...]
