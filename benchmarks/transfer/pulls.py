"""Pulls by real containerds, and where their bytes came from."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.lab.cluster import ADMIN_PORT, REGISTRY, Cluster, Node
from benchmarks.lab.containerd import Containerd, PullFailed
from benchmarks.lab.image import Image, build_image
from benchmarks.lab.process import LabError
from benchmarks.transfer.testbed import QUIET, asked_of_registry

REPOSITORY = "bench/transfer"
REFERENCE = f"{REGISTRY}/{REPOSITORY}:v1"
_PULL_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """How long one pull took, and how long its blobs took by the agent's log, from the first request to the
    last byte. ``failure``: containerd's error if the pull failed.
    """

    seconds: float
    blobs_s: float
    registry_bytes: int
    failure: str = ""


class Scene:
    """Nodes that have an image, and nodes that pull it repeatedly."""

    def __init__(self, cluster: Cluster, layer_bytes: Sequence[int], holders: Sequence[str]) -> None:
        self.cluster = cluster
        self.holders = [cluster.node(name) for name in holders]
        self.image = self._push(layer_bytes)
        cluster.start_agents(**QUIET)
        for holder in self.holders:
            holder.pull(REFERENCE)

    @contextmanager
    def pulling(self, node: Node) -> Iterator["Future[Pulled]"]:
        """A context during which a pull runs. The node removes the image afterwards."""
        with ThreadPoolExecutor(1, f"{node.name} pulls") as executor:
            pull = executor.submit(self._pull, node)
            yield pull
            pull.result()
        _daemon(node).remove(REFERENCE)
        _until(lambda: not self._has_layers(node), f"{node.name} still has what it removed")

    def rest(self, node: Node) -> None:
        """Wait until the next pull starts under equal conditions: every holder is known, and none is
        cooling off.
        """
        digest = max(self.image.blobs, key=lambda each: self.image.blobs[each])
        names = {holder.name for holder in self.holders}

        def sees_all() -> bool:
            found = node.get(f"/api/explain?digest={digest}", port=ADMIN_PORT).json()
            avoided = node.get("/api/transfers", port=ADMIN_PORT).json()["not_asked"]
            holding = {each["node"] for each in found["holders"]}
            return holding >= names and not avoided and not found["not_asked_in_full"]

        _until(sees_all, f"{node.name} does not see every holder")

    def _pull(self, node: Node) -> Pulled:
        before, answered = asked_of_registry(self.cluster, REPOSITORY), len(list(node.requests()))
        failure, started_s = "", time.monotonic()
        try:
            node.pull(REFERENCE, at_most_s=_PULL_S)
        except PullFailed as error:
            failure = str(error)
        seconds = time.monotonic() - started_s
        asked = asked_of_registry(self.cluster, REPOSITORY) - before
        blobs_s = _span_s(itertools.islice(node.requests(), answered, None))
        return Pulled(seconds=seconds, blobs_s=blobs_s, registry_bytes=asked, failure=failure)

    def _push(self, layer_bytes: Sequence[int]) -> Image:
        layout = self.cluster.folder / "image"
        image = build_image(layout, layer_bytes=layer_bytes, seed=1, compression=("none",))
        self.cluster.registry.push(image, REPOSITORY, "v1")
        return image

    def _has_layers(self, node: Node) -> bool:
        return any((_daemon(node).blobs / digest.partition(":")[2]).exists() for digest in self.image.blobs)


def _daemon(node: Node) -> Containerd:
    assert node.containerd is not None
    return node.containerd


def _span_s(requests: Iterable[dict[str, Any]]) -> float:
    """Seconds from the arrival of the first request for a blob to the end of the last one."""
    ends = [
        (datetime.fromisoformat(each["time"]).timestamp(), each["seconds"])
        for each in requests
        if each["path"] == "hostport" and each["kind"] == "blob"
    ]
    return max(end_s for end_s, _ in ends) - min(end_s - took_s for end_s, took_s in ends) if ends else 0.0


def _until(condition: Callable[[], bool], problem: str, *, at_most_s: float = 120.0) -> None:
    until_s = time.monotonic() + at_most_s
    while not condition():
        if time.monotonic() > until_s:
            raise LabError(problem)
        time.sleep(0.05)
