"""What the product's choice of a source is compared with: how others choose. Each is one function.

All of them run in the same executor, over the same network: a pull resumes, gives up and spreads what arrives
as the product does. Only whom a node asks is theirs, and whether it waits for anybody before it goes to the
registry. So a difference between two rows is a difference of choice.

Where there are no claims, everybody who finds nobody asks the registry. Systems with a central scheduler have
a seed instead: a node that begins `SEED_S` before the others, and has all of it then (`SEEDED`).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from benchmarks.simulator.judging import PRODUCT as PRODUCT_NAME
from benchmarks.simulator.scenario import Approach, Choosing, Numbers

_DHT_HOLDERS: Final = 3
_SAMPLE: Final = 15
_CONSIDERED: Final = 512  # of more holders, so many at random: the nearest of them is as near
_FOLLOWERS: Final = 2  # the oracle's: a node with so many below it still gives each half of its link


def random_of_three(choosing: Choosing) -> Sequence[int]:
    """Three of the complete holders, in any order: a DHT names a few, and knows nothing of places."""
    return _sample(choosing, choosing.complete, _DHT_HOLDERS)


def scored_sample(choosing: Choosing) -> Sequence[int]:
    """Fifteen of all holders, those of the own zone first, then those of the own region: as a central
    scheduler scores a random sample of a task's peers.
    """
    everyone = np.concatenate((choosing.complete, choosing.arriving))
    drawn = _sample(choosing, everyone, _SAMPLE)
    own_zone = choosing.zones[choosing.asker]
    arriving = set(choosing.arriving.tolist())
    return sorted(drawn, key=lambda node: (choosing.zones[node] != own_zone, node in arriving))


def zone_only(choosing: Choosing) -> Sequence[int]:
    """The holders of the own zone, the complete ones first, and never another zone's."""
    own_zone = choosing.zones[choosing.asker]
    near = [nodes[choosing.zones[nodes] == own_zone] for nodes in (choosing.complete, choosing.arriving)]
    return [*_shuffled(choosing, near[0]), *_shuffled(choosing, near[1])][:_SAMPLE]


def nearest_round_trip(choosing: Choosing) -> Sequence[int]:
    """The holders with the least round trip, whatever their labels say."""
    everyone = np.concatenate((choosing.complete, choosing.arriving))
    drawn = _sample(choosing, everyone, _CONSIDERED)
    return sorted(drawn, key=choosing.rtt_s)[:_SAMPLE]


def all_knowing(choosing: Choosing) -> Sequence[int]:
    """The least busy holder of the nearest place that has any: it knows what every node sends just now."""
    own_zone = choosing.zones[choosing.asker]
    found: list[tuple[int, ...]] = []
    for behind, nodes in enumerate((choosing.complete, choosing.arriving)):
        for node in nodes[nodes != choosing.asker].tolist():
            far = int(choosing.zones[node] != own_zone)
            busy = int(choosing.sending[node])
            found.append((far, int(busy >= _FOLLOWERS), busy if far else min(busy, _FOLLOWERS), behind, node))
    return [entry[-1] for entry in sorted(found)[:_SAMPLE]]


PRODUCT = Approach(name=PRODUCT_NAME)

POLICIES: Mapping[str, Approach] = {
    PRODUCT.name: PRODUCT,
    "dht-3": Approach(name="dht-3", claims=False, follows=False, choose=random_of_three),
    "sample-15": Approach(name="sample-15", claims=False, choose=scored_sample),
    "zone-only": Approach(name="zone-only", claims=False, choose=zone_only),
    "round-trip": Approach(name="round-trip", claims=False, choose=nearest_round_trip),
    "oracle": Approach(name="oracle", choose=all_knowing),
}
"""All policies by their names. The product's own is the first."""

SEEDED = frozenset(("sample-15", "round-trip"))
"""With these, one node fetches each content before the others want it."""

SEED_S = 5.0

DESCRIPTIONS: Mapping[str, str] = {
    PRODUCT.name: "the product's own code",
    "dht-3": "three random complete holders; else the registry, without waiting for anybody",
    "sample-15": "fifteen random holders, those of the own zone first; a seed has it already",
    "zone-only": "only holders of the own zone; else the registry, without waiting for anybody",
    "round-trip": "the least round trip, whatever the labels say; a seed has it already",
    "oracle": "our claims; knows what every node sends, and takes the least busy near one",
}


def _sample(choosing: Choosing, nodes: Numbers, most: int) -> list[int]:
    others = nodes[nodes != choosing.asker].tolist()
    return choosing.lot.sample(others, min(most, len(others)))


def _shuffled(choosing: Choosing, nodes: Numbers) -> list[int]:
    return _sample(choosing, nodes, len(nodes))
