"""A real cluster for the end-to-end tests. Without root they fail: what they claim was not shown."""

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from benchmarks.lab.cluster import Cluster, Place
from benchmarks.lab.image import build_image
from tests.server.agents import PATIENT

PLACES = [
    Place(name="a1", region="r1", zone="a", rack="a-1"),
    Place(name="a2", region="r1", zone="a", rack="a-2"),
    Place(name="a3", region="r1", zone="a", rack="a-1"),
    Place(name="b1", region="r1", zone="b", rack="b-1"),
    Place(name="c1", region="r2", zone="c", rack="c-1"),
]

Push = Callable[..., str]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Five nodes, containerd 1.6, 1.7 and 2.1 among them, all agents running."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with Cluster(PLACES, versions=("1.6", "1.7", "2.1"), settings=PATIENT) as made:
        made.start_agents()
        yield made


@pytest.fixture(scope="module")
def push(cluster: Cluster) -> Push:
    """Builds an image nobody has yet and pushes it; its reference. Takes `build_image`'s options."""
    numbers = itertools.count(1)

    def build_and_push(repository: str = "", tag: str = "v1", **options: object) -> str:
        number = next(numbers)
        settings = {"layer_bytes": [300_000] * 3, "seed": number, **options}
        image = build_image(cluster.folder / f"image-{number}", **settings)  # type: ignore[arg-type]
        return cluster.registry.push(image, repository or f"e2e/app{number}", tag)

    return build_and_push
