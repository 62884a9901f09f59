"""What is simulated: nodes and their links, images, who pulls what when, and what goes wrong.

Nodes have numbers, from 0 on, in the order of the zones. Bytes per second are bytes, not bits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random

import numpy as np
import numpy.typing as npt

from agent.config import ColdStartSettings, PullSettings, TransferSettings
from agent.config.settings import LookupSettings
from topology.snapshot import Snapshot

MIB = 1 << 20
Numbers = npt.NDArray[np.int64]
"""Numbers of nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZonePlan:
    """One zone and its nodes.

    ``racks``: into how many racks its nodes are divided; 0: they have no label below the zone.
    ``nic_bytes_per_s``: another rate than `Links.nic_bytes_per_s`. ``uplink_bytes_per_s``: what the zone's
    link to everything outside carries in each direction; None: more than its nodes can send.
    """

    name: str
    nodes: int
    region: str = "r"
    racks: int = 0
    nic_bytes_per_s: float | None = None
    uplink_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image: the sizes of its layers, in bytes. Its manifest and its config are added."""

    name: str
    layer_sizes: tuple[int, ...]
    manifest_bytes: int = 4 << 10
    config_bytes: int = 8 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """These nodes begin to pull an image, spread evenly at random over ``spread_s`` from ``at_s`` on."""

    nodes: Sequence[int]
    image: int = 0
    at_s: float = 0.0
    spread_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """These nodes have all of an image before the simulation begins."""

    nodes: Sequence[int]
    image: int = 0


class FaultKind(Enum):
    """What goes wrong."""

    DIE = "die"  # the nodes are gone, without a word; after `for_s` they are back, empty
    FREEZE = "freeze"  # the nodes stand still, with their connections open
    SLOW = "slow"  # the nodes' links have `factor` of their rate
    REPLACE = "replace"  # the nodes are drained and deleted, and new ones with other names take their places
    CUT_OFF = "cut_off"  # the zone reaches nobody outside, the registry neither
    INDEX_LOST = "index_lost"  # the server of the index is gone; afterwards it is empty
    REGISTRY_DOWN = "registry_down"  # the registry answers 503
    JOIN = "join"  # nodes of `Scenario.absent` are there from now on


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``for_s``: how long it lasts; None: to the end. ``zone``: the number of the zone that is cut off."""

    at_s: float
    kind: FaultKind
    nodes: Sequence[int] = ()
    zone: int = 0
    for_s: float | None = None
    factor: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The network, and the ends of it.

    ``nic_bytes_per_s``: of each node, in each direction. ``registry_bytes_per_s``: of all that the registry
    sends; ``registry_stream_bytes_per_s``: of one body; ``registry_first_byte_s``: from the request to its
    first byte, with token and redirect. ``stream_bytes_per_s``: what one TCP connection carries at most.
    ``containerd_bytes_per_s``: how fast one containerd takes one body. ``commit_s``: from its last byte until
    the store has it. ``*_rtt_s``: round trips. ``jitter``: by how much each pair of nodes differs, at most.
    ``served_s``: what an agent needs to answer a request.
    """

    nic_bytes_per_s: float = 1.25e9
    registry_bytes_per_s: float = 2.5e9
    registry_stream_bytes_per_s: float = 200e6
    registry_first_byte_s: float = 0.3
    stream_bytes_per_s: float = 1.25e9
    containerd_bytes_per_s: float = 500e6
    commit_s: float = 0.05
    zone_rtt_s: float = 0.00032
    region_rtt_s: float = 0.0009
    remote_rtt_s: float = 0.03
    jitter: float = 0.25
    served_s: float = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexPlan:
    """The index.

    ``server``: whether there is a server; else all nodes are asked (`scatter`). ``latency_s``: of a look-up.
    ``timeout_s``: how long it is waited for. ``announce_s``: within this time the others learn of what a node
    got.
    """

    server: bool = True
    latency_s: float = 0.001
    timeout_s: float = 0.15
    announce_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Departures:
    """After what time all nodes know of a change. ``died_s``: of a node that is gone without a word."""

    died_s: float = 45.0
    drained_s: float = 1.0
    joined_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A cluster, and what happens in it. The same scenario gives the same result, bit for bit.

    ``quantum_s``: rates change at multiples of it only. Messages do not wait for it. A follower has what its
    source had a quantum ago, so a chain of ten steps is late by ten quanta at most.
    ``nics``: the rate of single nodes' links. ``absent``: nodes that are not there yet, until a fault JOIN.
    ``until_s``: the simulation ends then, whoever has not finished; it ends sooner if everybody has.
    """

    zones: tuple[ZonePlan, ...]
    images: tuple[Image, ...]
    starts: tuple[Start, ...]
    held: tuple[Held, ...] = ()
    faults: tuple[Fault, ...] = ()
    links: Links = field(default_factory=Links)
    index: IndexPlan = field(default_factory=IndexPlan)
    departures: Departures = field(default_factory=Departures)
    cold_start: ColdStartSettings = field(default_factory=ColdStartSettings)
    pull: PullSettings = field(default_factory=PullSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    lookup: LookupSettings = field(default_factory=LookupSettings)
    nics: Mapping[int, float] = field(default_factory=dict)
    absent: Sequence[int] = ()
    slots: int = 3
    quantum_s: float = 0.01
    seed: int = 0
    until_s: float = 600.0

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return sum(zone.nodes for zone in self.zones)

    def zone_nodes(self, zone: int) -> range:
        """The numbers of a zone's nodes."""
        first = sum(plan.nodes for plan in self.zones[:zone])
        return range(first, first + self.zones[zone].nodes)

    def contents(self) -> Iterator[tuple[int, int]]:
        """Image and size of each content, in the order of their numbers: manifest, config, layers."""
        for number, image in enumerate(self.images):
            for size_bytes in (image.manifest_bytes, image.config_bytes, *image.layer_sizes):
                yield number, size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing:
    """A node that asks whom to fetch a content from.

    ``complete``, ``arriving``: who has it, or a part of it. ``zones``: of each node, the number of its zone.
    ``have_bytes``, ``sending``: of each node, how much of it there is, and how many bodies it sends now.
    ``rtt_s``: the round trip from the asker. ``snapshot``: the cluster as the asker sees it.
    """

    asker: int
    content: int
    complete: Numbers
    arriving: Numbers
    zones: Numbers
    have_bytes: Numbers
    sending: Numbers
    rtt_s: Callable[[int], float]
    snapshot: Snapshot
    names: Sequence[str]
    now_s: float
    lot: Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Approach:
    """How nodes choose. ``choose``: returns the numbers of the nodes to try, in order; None: as the product.

    ``claims``: whether a node asks whose turn it is before it goes to the registry. ``follows``: whether it
    takes what is still arriving at another node.
    """

    name: str
    claims: bool = True
    follows: bool = True
    choose: Callable[[Choosing], Sequence[int]] | None = None


PRODUCT = Approach(name="shorthaul")
