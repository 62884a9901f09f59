"""What a node can't commit is never held against its peers, and its next pull needs no registry."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from benchmarks.lab.cluster import ADMIN_PORT, LOCAL_PORT, REGISTRY, Cluster, Node, Place
from benchmarks.lab.containerd import Containerd
from benchmarks.lab.image import Image, build_image
from benchmarks.lab.process import LabError
from tests.e2e.asking import fill, ingested_bytes, try_pull
from tests.server.agents import PATIENT, wait_for

pytestmark = pytest.mark.e2e

_LAYERS, _LAYER_BYTES = 24, 400_000
"""More layers than containerd fetches at once. Each is too large for the agent to verify it on the way."""

_ROOT_MIB = 256
_LEFT_BYTES = 3 << 20  # of that when the disk is full: not enough for the image
_NOWHERE = "10.9.0.2:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A node that asks, whose containerd has a small disk of its own, and one that holds everything."""

    cluster: Cluster
    numbers: "count[int]"

    @property
    def asking(self) -> Node:
        return self.cluster.node("n2")

    @property
    def containerd(self) -> Containerd:
        assert self.asking.containerd is not None
        return self.asking.containerd

    def held_image(self) -> tuple[Image, str]:
        """An image that only the holder has, and its reference."""
        number = next(self.numbers)
        image = build_image(
            self.cluster.folder / f"image-{number}",
            layer_bytes=[_LAYER_BYTES] * _LAYERS,
            seed=number,
            compression=("none",),
        )
        reference = self.cluster.registry.push(image, f"own/app{number}", "v1")
        fill(self.cluster.node("n1"), reference, image)
        return image, reference

    @contextmanager
    def registry_down(self, containerd: Containerd) -> Iterator[None]:
        """Nobody answers where this containerd expects the registry."""
        mirrors = [f"127.0.0.1:{LOCAL_PORT}"]
        containerd.use_mirrors(REGISTRY, _NOWHERE, mirrors)
        try:
            yield
        finally:
            containerd.use_mirrors(REGISTRY, self.cluster.registry.endpoint, mirrors)

    @property
    def committed(self) -> int:
        """How many blobs containerd has committed."""
        return len(list(self.containerd.blobs.glob("*")))

    def require_no_blame(self) -> None:
        """Nobody is suspect, left out, asked last, or asked to prove anything."""
        node = self.asking
        transfers = node.get("/api/transfers", port=ADMIN_PORT).json()
        assert (transfers["not_asked"], transfers["asked_last"]) == ([], [])
        assert node.metric("shorthaul_suspect_sources_total") == 0
        assert node.metric("shorthaul_suspect_checks_total") == 0

    def settled(self) -> None:
        """containerd has dropped what it could not commit, and no body moves."""
        wait_for(lambda: ingested_bytes(self.asking) == 0, "what failed is dropped")
        wait_for(self._is_idle, "no body moves")

    def _is_idle(self) -> bool:
        return not self.asking.get("/api/transfers", port=ADMIN_PORT).json()["downloads"]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Two nodes. The disk of the one that asks is a tmpfs."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    places = [Place(name=name, region="r", zone="a") for name in ("n1", "n2")]
    with Cluster(places, versions=("1.6", "2.1"), settings=PATIENT) as cluster:
        containerd = cluster.node("n2").containerd
        assert containerd is not None
        containerd.stop()
        options = f"size={_ROOT_MIB}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "shlab", str(containerd.root)], check=True)
        containerd.start()
        cluster.start_agents()
        yield Scene(cluster=cluster, numbers=count(1))


def test_second_containerd_behind_the_same_port_makes_nobody_suspect(scene: Scene) -> None:
    """Its blobs never appear in the store that the agent watches, and it requests them again and again."""
    _, seen = scene.held_image()
    scene.asking.pull(seen)  # so that the store has shown commits
    _, reference = scene.held_image()
    second = Containerd(scene.asking.folder / "second", netns=scene.asking.netns, version="1.6")
    try:
        with scene.registry_down(second):
            for _ in range(2):
                second.pull(reference)
                second.forget_everything()
        with scene.registry_down(scene.containerd):
            scene.asking.pull(reference)
    finally:
        second.stop()
    scene.require_no_blame()


def test_disk_that_is_full_for_a_while_makes_nobody_suspect(scene: Scene) -> None:
    _, reference = scene.held_image()
    filler = scene.containerd.root / "filler"
    for _ in range(2):
        _fill_disk(filler)
        assert try_pull(scene.asking, reference).error, "there was room after all"
        scene.settled()
        filler.unlink()
    with scene.registry_down(scene.containerd):
        scene.asking.pull(reference)
    scene.require_no_blame()


def test_containerd_that_is_killed_during_a_pull_makes_nobody_suspect(scene: Scene) -> None:
    image, reference = scene.held_image()
    committed = scene.committed
    scene.cluster.shape("n1", 50)
    try:
        with ThreadPoolExecutor(1) as pool:
            pulling = pool.submit(try_pull, scene.asking, reference)
            wait_for(lambda: scene.committed > committed + 8, "some layers came")
            scene.containerd.kill()
            with pytest.raises(LabError):
                pulling.result()
    finally:
        scene.cluster.shape("n1", None)
    assert scene.committed < committed + len(image.blobs), "not in mid-pull"
    scene.containerd.start()
    wait_for(scene.asking.is_ready, "the agent sees that it is back")
    with scene.registry_down(scene.containerd):
        scene.asking.pull(reference)
    scene.require_no_blame()


def _fill_disk(path: Path) -> None:
    status = os.statvfs(path.parent)
    with path.open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, status.f_bavail * status.f_frsize - _LEFT_BYTES)
