"""Fixtures for all: a site of one's own, and one agent with two registries' images to read from."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest

from .agents import Image, Node, Site, make_image
from .proofs import OPEN


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Nodes for one test. ``PEERING`` of the test's module is that of each node."""
    with Site(getattr(request.module, "PEERING", None)) as made:
        yield made


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """One agent with content of its own and without peers; its tests only read."""

    node: Node
    image: Image  # registry.test/library/app:v1, and registry.test/library/shared:v1
    other: Image  # other.test/library/shared:v1

    @property
    def layer(self) -> bytes:
        """A blob of some hundred KiB."""
        return self.image.layers[0]


@pytest.fixture(scope="session")
def shelf() -> Iterator[Shelf]:
    """The one agent that all reading tests share."""
    randomness = Random(1)
    image = make_image(randomness.randbytes(300_000), randomness.randbytes(17), note="one")
    other = make_image(randomness.randbytes(1000), note="two")
    with Site() as made:
        node = made.add("shelf", http={"idle_s": 2.0}, peering=OPEN)
        node.put_image(image, "registry.test/library/app:v1", "registry.test/library/shared:v1")
        node.put_image(image, *(f"registry.test/library/app:{tag}" for tag in ("latest", "v0")))
        node.put_image(other, "other.test/library/shared:v1")
        node.put(b"")
        made.start()
        yield Shelf(node=node, image=image, other=other)
