"""The stream of what changes, for a page that stays open: ``/api/events``.

The other events of the stream are documents that have pages of their own.
"""

from dataclasses import dataclass
from typing import ClassVar

EVENTS_PATH = "/api/events"


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloDocument:
    """The first event. ``instance``: another one than before means that the agent was started anew.

    ``interval_s``: so often the agent looks for changes. ``beat_s``: after so long without an event comes a
    beat. ``tabs_max``: so many streams may be open.
    """

    EVENT: ClassVar[str] = "hello"

    time: str
    node: str
    version: str
    instance: str
    interval_s: float
    beat_s: float
    tabs_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatDocument:
    """Nothing changed. Whoever gets no beat has lost the agent."""

    EVENT: ClassVar[str] = "beat"

    time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesDocument:
    """What changed in a map. ``map``: in which one. ``indexes``: of nodes in it, with their values of now.

    ``own_trouble``: as in the map.
    """

    EVENT: ClassVar[str] = "nodes"

    time: str
    map: int
    own_trouble: str
    indexes: tuple[int, ...]
    states: tuple[str, ...]
    rtt_us: tuple[float | None, ...]
