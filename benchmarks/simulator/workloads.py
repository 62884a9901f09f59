"""What the simulated clusters go through: who pulls what, when, and what goes wrong meanwhile.

A workload makes a scenario for any number of nodes, and says in words what happens.
The links are the same everywhere (`Links`): 10 Gbit/s for a node, 20 Gbit/s for the registry, of which one
body gets 1.6 Gbit/s at most; zones are joined by 100 Gbit/s each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from agent.config import ColdStartSettings
from benchmarks.simulator.scenario import Fault, FaultKind, Held, Image, Scenario, Start, ZonePlan

MB = 1_000_000
_LAYERS = 4
_ZONES = 10
_LEAST_IN_ZONE = 3
_UPLINK = 12.5e9
_UNTIL_S = 4 * 3600.0
_AT_ONCE_S = 1.0  # all at once: within a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a run is. ``cluster``: whether claims are for the cluster, and not for each zone."""

    nodes: int
    image_bytes: int = 1000 * MB
    cluster: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """``words``: what happens. ``make``: the scenario. ``weight``: its work, as a multiple of `everyone`."""

    words: str
    make: Callable[[Size], Scenario]
    weight: float = 1.0


def _everyone(size: Size) -> Scenario:
    return _scenario(size, starts=(_all_at_once(size),))


def _waves(size: Size) -> Scenario:
    order = _shuffled(size)
    share = -(-size.nodes // 5)
    starts = tuple(
        Start(nodes=sorted(order[first : first + share]), at_s=20.0 * number, spread_s=_AT_ONCE_S)
        for number, first in enumerate(range(0, size.nodes, share))
    )
    return _scenario(size, starts=starts)


def _bursts(size: Size) -> Scenario:
    order = _shuffled(size)
    old, new = order[: size.nodes // 2], order[size.nodes // 2 :]
    share = max(1, -(-len(new) // 10))
    starts = tuple(
        Start(nodes=sorted(new[first : first + share]), at_s=10.0 * number, spread_s=_AT_ONCE_S)
        for number, first in enumerate(range(0, len(new), share))
    )
    return _scenario(size, starts=starts, held=(Held(nodes=sorted(old)),))


def _hot(size: Size) -> Scenario:
    lot, cold = Random(size.seed), 20
    images = (
        _image(size),
        *(Image(name=f"cold-{number}", layer_sizes=(size.image_bytes // _LAYERS,)) for number in range(cold)),
    )
    held = tuple(
        Held(image=number, nodes=sorted(lot.sample(range(size.nodes), min(5, size.nodes))))
        for number in range(1, cold + 1)
    )
    share = max(1, size.nodes // 100)
    starts = tuple(
        Start(
            image=number,
            nodes=sorted(set(lot.sample(range(size.nodes), share)) - set(held[number - 1].nodes)),
            spread_s=10.0,
        )
        for number in range(1, cold + 1)
    )
    hot = Start(nodes=range(size.nodes), at_s=2.0, spread_s=_AT_ONCE_S)
    return _scenario(size, starts=(hot, *starts), held=held, images=images)


def _small_zone(size: Size) -> Scenario:
    small = max(_LEAST_IN_ZONE, size.nodes // 100)
    large = size.nodes // 2
    others = _zones(size.nodes - small - large, zones=max(1, _count_of_zones(size.nodes) - 2), first=1)
    zones = (
        ZonePlan(name="z0", nodes=large, region="near", uplink_bytes_per_s=_UPLINK),
        *others,
        ZonePlan(name="far", nodes=small, region="far", uplink_bytes_per_s=_UPLINK / 20),
    )
    return _scenario(size, starts=(_all_at_once(size),), zones=zones)


def _cut(size: Size) -> Scenario:
    return _scenario(
        size,
        starts=(_all_at_once(size),),
        faults=(Fault(at_s=3.0, kind=FaultKind.CUT_OFF, zone=1, for_s=20.0),),
    )


def _slow(size: Size) -> Scenario:
    nodes = sorted(_shuffled(size)[: max(1, size.nodes // 100)])
    return _scenario(
        size,
        starts=(_all_at_once(size),),
        faults=(Fault(at_s=0.0, kind=FaultKind.SLOW, nodes=nodes, factor=0.05),),
    )


_CHURN_S = 600.0
_CHURN_AN_HOUR = 0.10
_CHURN_IMAGES = 4


def _churn(size: Size) -> Scenario:
    """Half of those that go are drained, the others vanish without a word."""
    order, lot = _shuffled(size), Random(size.seed)
    gone = order[: max(2, round(size.nodes * _CHURN_AN_HOUR * _CHURN_S / 3600))]
    faults = tuple(
        Fault(
            at_s=lot.uniform(0, _CHURN_S),
            kind=FaultKind.REPLACE if number % 2 else FaultKind.DIE,
            nodes=(node,),
            for_s=None if number % 2 else 120.0,
        )
        for number, node in enumerate(gone)
    )
    images = tuple(
        Image(name=f"app-{number}", layer_sizes=_layers(size.image_bytes // _CHURN_IMAGES))
        for number in range(_CHURN_IMAGES)
    )
    apart_s = _CHURN_S / _CHURN_IMAGES
    starts = tuple(
        Start(image=number, nodes=range(size.nodes), at_s=number * apart_s, spread_s=0.9 * apart_s)
        for number in range(_CHURN_IMAGES)
    )
    return _scenario(size, starts=starts, images=images, faults=tuple(sorted(faults, key=lambda f: f.at_s)))


def _index_lost(size: Size) -> Scenario:
    order = _shuffled(size)
    first, second = sorted(order[: size.nodes // 2]), sorted(order[size.nodes // 2 :])
    return _scenario(
        size,
        starts=(Start(nodes=first, spread_s=_AT_ONCE_S), Start(nodes=second, at_s=5.0, spread_s=_AT_ONCE_S)),
        faults=(Fault(at_s=4.0, kind=FaultKind.INDEX_LOST, for_s=20.0),),
    )


WORKLOADS: Mapping[str, Workload] = {
    "everyone": Workload(words="a release: all nodes pull within a second what nobody has", make=_everyone),
    "waves": Workload(words="a rollout in five waves of 20 %, 20 s apart", make=_waves),
    "bursts": Workload(
        words="an autoscaler: half of the nodes have the image, the others join in ten bursts, 10 s apart",
        make=_bursts,
        weight=0.6,
    ),
    "hot": Workload(
        words="one image that all nodes want, among 20 that five nodes have and a few want",
        make=_hot,
        weight=1.3,
    ),
    "small-zone": Workload(
        words="one zone has half of the nodes, another one a hundredth, in a far region behind 5 Gbit/s",
        make=_small_zone,
    ),
    "cut": Workload(words="a zone is cut off from everything 3 s after all began, for 20 s", make=_cut),
    "slow": Workload(words="one node of a hundred has a twentieth of its link", make=_slow, weight=1.5),
    "churn": Workload(
        words="10 % of the nodes are replaced per hour, while all pull an image every 150 s for ten minutes",
        make=_churn,
        weight=4.0,
    ),
    "index-lost": Workload(
        words="the index's server is gone from 4 s to 24 s, then empty; half of the nodes begin meanwhile",
        make=_index_lost,
    ),
}
"""All workloads by their names."""


def _scenario(
    size: Size,
    *,
    starts: tuple[Start, ...],
    zones: tuple[ZonePlan, ...] | None = None,
    images: tuple[Image, ...] | None = None,
    held: tuple[Held, ...] = (),
    faults: tuple[Fault, ...] = (),
) -> Scenario:
    return Scenario(
        zones=zones or _zones(size.nodes),
        images=images or (_image(size),),
        starts=starts,
        held=held,
        faults=faults,
        cold_start=ColdStartSettings(scope="cluster" if size.cluster else "zone"),
        seed=size.seed,
        until_s=_UNTIL_S,
    )


def _zones(nodes: int, *, zones: int | None = None, first: int = 0) -> tuple[ZonePlan, ...]:
    """Zones of the same size, six of ten in one region. What does not divide goes to the first ones."""
    count = zones or _count_of_zones(nodes)
    return tuple(
        ZonePlan(
            name=f"z{first + number}",
            nodes=nodes // count + (number < nodes % count),
            region="near" if number < -(-6 * count // 10) else "far",
            uplink_bytes_per_s=_UPLINK,
        )
        for number in range(count)
    )


def _count_of_zones(nodes: int) -> int:
    return max(2, min(_ZONES, nodes // _LEAST_IN_ZONE))


def _image(size: Size) -> Image:
    return Image(name="release", layer_sizes=_layers(size.image_bytes))


def _layers(size_bytes: int) -> tuple[int, ...]:
    return (size_bytes // _LAYERS,) * _LAYERS


def _all_at_once(size: Size) -> Start:
    return Start(nodes=range(size.nodes), spread_s=_AT_ONCE_S)


def _shuffled(size: Size) -> Sequence[int]:
    nodes = list(range(size.nodes))
    Random(size.seed).shuffle(nodes)
    return nodes
