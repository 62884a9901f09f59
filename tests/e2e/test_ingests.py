"""A real containerd's ingest is followed across its commit, and however else a pull may end.

The containerds discard the layers that they have unpacked, so nothing of a layer is left after the pull.
"""

import hashlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.content.containerd import Client
from agent.content.containerd import Containerd as ContainerdContent
from agent.content.store import ContentGone, GrowingBlob
from agent.oci.digest import Digest
from benchmarks.lab.containerd import NAMESPACE, Containerd, PullFailed, discarding
from benchmarks.lab.folders import make_folder
from benchmarks.lab.image import build_image
from benchmarks.lab.process import LabError
from tests.conformance.running import RunningStore
from tests.e2e.gatedregistry import GatedRegistry
from tests.server.agents import fresh_address

pytestmark = pytest.mark.e2e

_MIB = 1 << 20
_LAYER_BYTES = 8 * _MIB
_seeds = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What a follower got. ``gone``: why it was not all; empty if it was."""

    content: bytes
    gone: str


class Pull:
    """A pull that has begun: its registry, what containerd says in the end, and one who follows the layer."""

    def __init__(self, node: "Puller", registry: GatedRegistry, pool: ThreadPoolExecutor) -> None:
        self.registry = registry
        self._node = node
        self.layer = Digest(registry.layer)
        self._host = f"r{registry.layer[7:20]}.test"
        node.containerd.use_mirrors(self._host, registry.endpoint, [])
        self._pulled: Future[str] = pool.submit(self.pull)
        node.view.wait_for(lambda: node.view.store.growing(self.layer) is not None, "the ingest is there")
        self.blob: GrowingBlob = node.view.call(node.view.store.open_growing(self.layer))
        self._following: Future[Followed] = pool.submit(self._follow)

    def pull(self) -> str:
        """Pull the image. Returns what was wrong, or nothing."""
        try:
            self._node.containerd.pull(f"{self._host}/app:v1")
        except (PullFailed, LabError) as error:
            return str(error)
        return ""

    def grow_to(self, until: int) -> None:
        """Wait until so much of the layer is there."""

        def is_there() -> bool:
            growing = self._node.view.store.growing(self.layer)
            return growing is not None and growing.available_bytes >= until

        self.registry.release(until + _MIB)
        self._node.view.wait_for(is_there, f"{until} bytes are there")

    @property
    def outcome(self) -> str:
        """What was wrong with the pull, or nothing."""
        return self._pulled.result(60)

    @property
    def followed(self) -> Followed:
        """What the follower got in the end."""
        return self._following.result(60)

    def read_again(self) -> bytes:
        """All that the follower's descriptor gives now."""
        return self._node.view.call(self.blob.read(0, self.blob.size_bytes))

    def _follow(self) -> Followed:
        content = b""
        while len(content) < self.blob.size_bytes:
            try:
                self._node.view.call(self.blob.wait_beyond(len(content)), at_most_s=60.0)
            except ContentGone as gone:
                return Followed(content=content, gone=str(gone))
            content += self._node.view.call(self.blob.read(len(content), 1 << 30))
        return Followed(content=content, gone="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Puller:
    """A containerd, and our view of its store."""

    containerd: Containerd
    view: RunningStore
    folder: Path

    @contextmanager
    def pulling(self, *, sends: Callable[[bytes], bytes] | None = None) -> Iterator[Pull]:
        """Begin to pull a new image, whose registry gives nothing of the layer yet.

        ``sends``: makes what it sends in the layer's place.
        """
        seed = next(_seeds)
        image = build_image(
            self.folder / f"image-{seed}", layer_bytes=[_LAYER_BYTES], seed=seed, compression=("none",)
        )
        with ThreadPoolExecutor(2) as pool, GatedRegistry(image, fresh_address()) as registry:
            registry.sends = None if sends is None else sends(registry.content)
            pull = Pull(self, registry, pool)
            try:
                yield pull
            finally:
                registry.release()
                registry.break_off()
                pull.blob.close()


def _puller(
    version: str, prepare: Callable[[Path], None] = lambda _root: None, *, discards: bool = True
) -> Iterator[Puller]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for containerd: run `make test` as root")
    folder = make_folder("shlab", "ingests-")
    try:
        prepare(folder / "containerd/root/io.containerd.content.v1.content")
        daemon = Containerd(
            folder / "containerd", netns=None, version=version, config=discarding(version) if discards else ""
        )
        try:
            with RunningStore(
                lambda: ContainerdContent(client=Client(daemon.socket, NAMESPACE), root=daemon.root)
            ) as view:
                yield Puller(containerd=daemon, view=view, folder=folder)
        finally:
            daemon.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", params=["1.6", "1.7", "2.1"])
def puller(request: pytest.FixtureRequest) -> Iterator[Puller]:
    """One containerd of each version."""
    yield from _puller(request.param)


def _mount_small(path: Path) -> None:
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(path)], check=True)


@pytest.fixture
def full() -> Iterator[Puller]:
    """A containerd whose disk has no room for the layer."""
    yield from _puller("1.7", _mount_small)


@pytest.fixture
def chunks() -> Iterator[Puller]:
    """A containerd that fetches a layer in parallel chunks, as it does when it keeps layers."""
    for puller in _puller("2.1", discards=False):
        puller.containerd.fetch_in_chunks(_MIB, at_once=4)
        puller.view.wait_for(lambda: puller.view.store.problem is None, "it works again")  # noqa: B023
        yield puller


def test_layer_that_is_fetched_in_parallel_chunks_is_followed_in_order(chunks: Puller) -> None:
    with chunks.pulling() as pull:
        pull.grow_to(3 * _MIB)
        pull.registry.release()
        assert (pull.outcome, pull.followed.gone) == ("", "")
        assert pull.followed.content == pull.registry.content
        assert len(pull.registry.asked) > 4, "it came in chunks"


def test_layer_is_followed_across_its_commit_and_its_removal(puller: Puller) -> None:
    with puller.pulling() as pull:
        pull.grow_to(3 * _MIB)
        pull.registry.release()
        assert (pull.outcome, pull.followed.gone) == ("", "")
        assert f"sha256:{hashlib.sha256(pull.followed.content).hexdigest()}" == pull.layer
        puller.containerd.collect_garbage()
        puller.view.wait_for(lambda: not puller.view.store.holds(pull.layer), "the layer is discarded")
        assert pull.read_again() == pull.registry.content, "the descriptor outlives it"


def test_pull_that_the_registry_ends_is_gone_for_its_followers(puller: Puller) -> None:
    with puller.pulling() as pull:
        pull.grow_to(3 * _MIB)
        pull.registry.refuses = 404
        pull.registry.break_off()
        assert pull.outcome
        assert pull.followed.gone
        assert pull.registry.content.startswith(pull.followed.content)
        assert len(pull.followed.content) >= 3 * _MIB
        puller.view.wait_for(lambda: puller.view.store.receiving(pull.layer) is False, "no trace is left")


def test_body_that_breaks_off_is_resumed_and_followed_on(puller: Puller) -> None:
    with puller.pulling() as pull:
        pull.grow_to(3 * _MIB)
        pull.registry.break_off()
        pull.registry.release()
        assert (pull.outcome, pull.followed.gone) == ("", "")
        assert pull.followed.content == pull.registry.content


def test_containerd_that_is_killed_goes_on_in_the_same_file_when_it_pulls_again(puller: Puller) -> None:
    with puller.pulling() as pull:
        pull.grow_to(3 * _MIB)
        puller.containerd.kill()
        assert pull.outcome
        puller.containerd.start()
        pull.registry.release()
        assert pull.pull() == ""
        assert pull.followed.content == pull.registry.content
        assert pull.registry.asked[-1].start >= 3 * _MIB, "it fetched the rest only"


def test_layer_larger_than_its_manifest_says_is_given_up_before_its_end(puller: Puller) -> None:
    with puller.pulling(sends=lambda content: content + bytes(4 * _MIB)) as pull:
        pull.registry.release(1 << 40)
        assert "size" in pull.outcome
        assert len(pull.followed.content) <= pull.blob.size_bytes
        puller.view.wait_for(lambda: puller.view.store.receiving(pull.layer) is False, "no trace is left")


def test_wrong_layer_is_followed_and_its_ingest_is_soon_gone(puller: Puller) -> None:
    with puller.pulling(sends=lambda content: bytes(len(content))) as pull:
        pull.registry.release()
        assert "digest" in pull.outcome
        assert pull.followed.content == pull.registry.sends, "nobody knows before the commit"
        puller.view.wait_for(lambda: puller.view.store.growing(pull.layer) is None, "it is not offered")


def test_pull_that_finds_the_disk_full_is_gone_for_its_followers(full: Puller) -> None:
    with full.pulling() as pull:
        pull.registry.release()
        assert "no space left on device" in pull.outcome
        assert pull.followed.gone
        assert 0 < len(pull.followed.content) < _LAYER_BYTES
        assert pull.registry.content.startswith(pull.followed.content)
