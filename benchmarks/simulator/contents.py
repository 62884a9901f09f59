"""The contents of a scenario: digests, sizes, and which nodes have them or fetch them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agent.oci.digest import Digest
from agent.oci.reference import Addressed, Kind, Repository
from benchmarks.simulator.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One content. ``manifest``: it is an image's manifest."""

    number: int
    image: int
    digest: Digest
    size_bytes: int
    target: Addressed
    manifest: bool


class Contents:
    """``complete[content, node]``, ``arriving[content, node]``: who has it, and whose containerd fetches it.

    ``changed``: is called with content and node when a node has a content.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.all: list[Content] = []
        self.of_image: list[list[int]] = [[] for _ in scenario.images]
        for number, (image, size_bytes) in enumerate(scenario.contents()):
            first = not self.of_image[image]
            self.of_image[image].append(number)
            self.all.append(_content(number, image, size_bytes, manifest=first))
        self.number_of = {content.digest: content.number for content in self.all}
        shape = (len(self.all), scenario.nodes)
        self.complete = np.zeros(shape, dtype=bool)
        self.arriving = np.zeros(shape, dtype=bool)
        self.changed: Callable[[int, int], None] = lambda _content, _node: None

    @property
    def sizes(self) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """The size of each content in bytes."""
        return np.array([content.size_bytes for content in self.all], dtype=np.int64)

    def commit(self, content: int, node: int) -> None:
        """The node's store has it."""
        self.complete[content, node], self.arriving[content, node] = True, False
        self.changed(content, node)


def _content(number: int, image: int, size_bytes: int, *, manifest: bool) -> Content:
    digest = Digest(f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}")
    kind = Kind.MANIFEST if manifest else Kind.BLOB
    target = Addressed(registry=None, repository=Repository(f"image{image}"), kind=kind, digest=digest)
    return Content(
        number=number, image=image, digest=digest, size_bytes=size_bytes, target=target, manifest=manifest
    )
