"""What came of a simulation, as arrays. Contents, nodes and zones are numbers, as in the scenario."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from benchmarks.simulator.scenario import Scenario

Seconds = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.int64]


class Origin(IntEnum):
    """Where bytes come from. The first four are tiers of `topology.placement.Tier`."""

    RACK = 0
    ZONE = 1
    REGION = 2
    REMOTE = 3
    REGISTRY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryFetch:
    """One request to the registry for a content, from this byte on."""

    node: int
    content: int
    at_s: float
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``began_s[content, node]``, ``finished_s[content, node]``: nan: never.

    ``image_began_s[start]``, ``image_finished_s[start]``: for each `Start`, of its nodes in their order.
    ``received_bytes[origin, content, node]``. ``crossed_bytes[zone, zone]``: from zone to zone.
    ``registry_bytes[zone]``: from the registry. ``dials[node]``: requests to other nodes; ``dead_dials``:
    those to nodes that were gone, or could not be reached. ``shared``: answers that sent a node on to others.
    ``failed_pulls``: pulls of an image that the kubelet had to begin anew.
    ``events``, ``steps``, ``cpu_s``, ``wall_s``, ``peak_rss_bytes``: what the simulation itself took.
    """

    scenario: Scenario
    policy: str
    began_s: Seconds
    finished_s: Seconds
    image_began_s: tuple[Seconds, ...]
    image_finished_s: tuple[Seconds, ...]
    received_bytes: Bytes
    crossed_bytes: Bytes
    registry_bytes: Bytes
    fetches: tuple[RegistryFetch, ...]
    dials: Bytes
    dead_dials: Bytes
    lookups: int
    shared: int
    starved: int
    busy: int
    broken: int
    failed_pulls: int
    ended_s: float
    events: int
    steps: int
    cpu_s: float
    wall_s: float
    peak_rss_bytes: int

    def image_s(self, start: int = 0) -> Seconds:
        """How long each node of a start needed for the image, in seconds. nan: it did not finish."""
        return self.image_finished_s[start] - self.image_began_s[start]

    def fetches_of(self, content: int) -> int:
        """How often the registry was asked for a content."""
        return sum(1 for fetch in self.fetches if fetch.content == content)
