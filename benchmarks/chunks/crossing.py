"""One node after another pulls an image, and what crosses zones meanwhile.

The first node has it from the registry. Then each zone needs it once: the bound is the image's size times
the number of further zones.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.chunks.rows import Chunks
from benchmarks.chunks.stage import VERSION, Stage
from benchmarks.lab.cluster import ADMIN_PORT, Cluster, Node, places

_ZONES = {"r1": ["a", "b"], "r2": ["c"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossed:
    """What crossed zones. Sizes are in bytes.

    ``seconds``: of all pulls but the first, which is the registry's. ``crossed_bytes``: what left the links
    of other zones' nodes while a node pulled, as the kernel counts. ``recorded_bytes``,
    ``accounted_bytes``: what the receivers say of it, see `Outcome`.
    """

    failures: tuple[str, ...]
    seconds: float
    bound_bytes: int
    crossed_bytes: int
    recorded_bytes: int
    accounted_bytes: int
    registry_bytes: int

    @property
    def excess(self) -> float:
        """What crossed beyond the bound, as a share of the bound."""
        return self.crossed_bytes / self.bound_bytes - 1


@contextmanager
def crossing(
    layer_bytes: Sequence[int],
    *,
    settings: Mapping[str, Any] | None = None,
    zones: Mapping[str, Sequence[str]] = _ZONES,
) -> Iterator["Crossing"]:
    """Two nodes in each zone of each region: three zones, if nothing else is said."""
    nodes = sorted(places(zones, 2), key=lambda place: place.name[-1])  # a1, b1, c1, a2, b2, c2
    with Cluster(nodes, versions=(VERSION,)) as cluster:
        names = [place.name for place in nodes]
        yield Crossing(Stage(cluster, holders=(), askers=names, layer_bytes=layer_bytes, settings=settings))


class Crossing:
    """The nodes of all zones on one stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def run(self, chunks: Chunks) -> Crossed:
        """Let every node pull in turn. Afterwards none has the image."""
        stage = self._stage
        with stage.ready(stage.askers, chunks, ()):
            registry_bytes = stage.cluster.registry.sent_bytes()
            crossed_bytes, failures, seconds = 0, [], 0.0
            for number, node in enumerate(stage.askers):
                stage.wait_until_all_seen(node, [other.name for other in stage.askers[:number]])
                far = [other for other in stage.askers if other.place.zone != node.place.zone]
                before = sum(other.sent_bytes() for other in far)
                pulled = stage.pull(node)
                seconds += pulled.seconds if node is not stage.askers[0] else 0.0
                failures += [pulled.failure] if pulled.failure else []
                crossed_bytes += sum(other.sent_bytes() for other in far) - before
                if not pulled.failure:
                    stage.wait_until_held(node)  # else the next one may not find it here yet
            zones = {node.place.zone for node in stage.askers}
            return Crossed(
                failures=tuple(failures),
                seconds=seconds,
                bound_bytes=stage.image.size_bytes * (len(zones) - 1),
                crossed_bytes=crossed_bytes,
                recorded_bytes=sum(self._recorded_bytes(node) for node in stage.askers),
                accounted_bytes=sum(_accounted_bytes(node) for node in stage.askers),
                registry_bytes=stage.cluster.registry.sent_bytes() - registry_bytes,
            )

    def _recorded_bytes(self, node: Node) -> int:
        return sum(
            source["received_bytes"]
            for record in self._stage.records(node)
            for source in record["sources"]
            if source["tier"] in ("region", "remote")
        )


def _accounted_bytes(node: Node) -> int:
    costs = node.get("/api/costs", port=ADMIN_PORT).json()
    return sum(pair["bytes"] for pair in costs["pairs"] if pair["source_zone"] != pair["destination_zone"])
