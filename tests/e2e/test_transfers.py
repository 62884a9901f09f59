"""Real containerds pull large layers over shaped links while holders are killed, frozen, or corrupt.

Two nodes hold what others ask for. Those that ask (containerd 1.6, 2.1, and 2.1 in parallel chunks) are
in the same zone and do not know each other.
"""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from benchmarks.lab.cluster import Cluster, Node, Place
from benchmarks.lab.image import Image, build_image
from tests.e2e.asking import (
    Pulled,
    blob_path,
    complaints,
    fetched_from_registry,
    fill,
    holds,
    ingested_bytes,
    introduce,
    is_whole,
    layer_of,
    records,
    try_pull,
    waits_of,
)
from tests.server.agents import PATIENT, wait_for

pytestmark = pytest.mark.e2e

_MIB = 1 << 20
_MEDIUM_BYTES = 128 * _MIB
_SMALL_BYTES = 16 * _MIB
_CHUNK_BYTES = 8 * _MIB

_BOUND_S = 30.0
"""No pull takes longer. Undisturbed, the links need 4.3 s. containerd alone would wait for minutes."""

_HOLDERS = ("one", "other")
_ASKING = ("old", "new", "chunks")
_PLACES = [Place(name=name, region="r", zone="a") for name in (*_HOLDERS, *_ASKING)]
_VERSIONS = ("1.6", "1.6", "1.6", "2.1", "2.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An image of one layer that both holders have."""

    image: Image
    reference: str

    @property
    def layer(self) -> str:
        """The layer's digest."""
        return layer_of(self.image)[0]

    @property
    def config(self) -> str:
        """The config's digest."""
        return next(digest for digest in self.image.blobs if digest not in (self.layer, self.image.manifest))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two holders and three nodes that ask."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with Cluster(_PLACES, versions=_VERSIONS, settings=PATIENT) as made:
        chunks = made.node("chunks").containerd
        assert chunks is not None
        chunks.fetch_in_chunks(_CHUNK_BYTES, at_once=4)
        holders = [made.node(name) for name in _HOLDERS]
        asking = [made.node(name) for name in _ASKING]
        for name in _HOLDERS:
            introduce(made.node(name), asking)  # not to each other; they answer only whom they know
        for name in _ASKING:
            introduce(made.node(name), holders)
        made.start_agents()
        yield made


@pytest.fixture(autouse=True)
def complaining(cluster: Cluster) -> Iterator[set[str]]:
    """The nodes whose agents may log errors in this test: none, unless it adds them."""
    expected: set[str] = set()
    before = {node.name: node.log.stat().st_size for node in cluster.nodes.values()}
    yield expected
    for node in cluster.nodes.values():
        if node.name not in expected:
            assert complaints(node, before[node.name]) == [], node.name


_seeds = itertools.count(1)


def _hold(cluster: Cluster, layer_bytes: int) -> Pushed:
    """A new image at both holders."""
    seed = next(_seeds)
    folder = cluster.folder / f"image-{seed}"
    image = build_image(folder, layer_bytes=[layer_bytes], seed=seed, compression=("none",))
    pushed = Pushed(image=image, reference=cluster.registry.push(image, f"transfers/app{seed}", "v1"))
    with ThreadPoolExecutor(len(_HOLDERS)) as pool:
        list(pool.map(lambda name: fill(cluster.node(name), pushed.reference, image), _HOLDERS))
    return pushed


@pytest.fixture(scope="module")
def medium(cluster: Cluster) -> Pushed:
    """A layer of 128 MiB."""
    return _hold(cluster, _MEDIUM_BYTES)


@contextmanager
def shaped(cluster: Cluster, mbit_s: float, *names: str) -> Iterator[None]:
    """Links of this rate, for a while."""
    try:
        for name in names:
            cluster.shape(name, mbit_s)
        yield
    finally:
        for name in names:
            cluster.shape(name, None)


@contextmanager
def afresh(cluster: Cluster, name: str, **settings: Any) -> Iterator[Node]:
    """The node with these settings on top of its own, an agent that has learned nothing yet; with what it
    pulled forgotten in the end.
    """
    node = cluster.node(name)
    node.agent.stop()
    node.start_agent(**settings)
    try:
        yield node
    finally:
        node.agent.stop()
        assert node.containerd is not None
        node.containerd.forget_everything()
        node.start_agent()


@contextmanager
def killed(node: Node) -> Iterator[None]:
    """The node's agent is killed outright, and started again afterwards."""
    node.agent.kill()
    try:
        yield
    finally:
        node.start_agent()


@contextmanager
def frozen(node: Node) -> Iterator[None]:
    """The node's agent is stopped in its tracks, and wakes up afterwards."""
    node.agent.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.agent.signal(signal.SIGCONT)


Disturbance = Callable[[Node], AbstractContextManager[None]]


def _pull_disturbed(
    cluster: Cluster, asker: Node, pushed: Pushed, disturbance: Disturbance, *, behind_bytes: int
) -> Pulled:
    """Pull, and disturb the holder that has sent most once containerd has that many bytes of the layer."""
    holders = [cluster.node(name) for name in _HOLDERS]
    before = {holder.name: holder.sent_bytes() for holder in holders}
    with ThreadPoolExecutor(1) as pool:
        pull = pool.submit(try_pull, asker, pushed.reference)
        wait_for(
            lambda: ingested_bytes(asker) >= behind_bytes or pull.done(), "a pull under way", at_most_s=60.0
        )
        assert not pull.done(), f"over before it could be disturbed: {pull.result()}"
        serving = max(holders, key=lambda holder: holder.sent_bytes() - before[holder.name])
        with disturbance(serving):
            return pull.result()


def _assert_whole_and_from_peers(cluster: Cluster, asker: Node, pushed: Pushed, pulled: Pulled) -> None:
    assert not pulled.error, pulled.error
    assert is_whole(asker, pushed.layer)
    assert fetched_from_registry(cluster, asker, pushed.reference) == []


@pytest.mark.parametrize("stripe_buffer_bytes", [0, 32 * _MIB], ids=["one after another", "several at once"])
def test_holder_that_is_killed_or_frozen_in_mid_pull_costs_one_wait_at_most_and_no_byte_of_the_registry(
    cluster: Cluster, medium: Pushed, stripe_buffer_bytes: int
) -> None:
    transfer = {"stripe_buffer_bytes": stripe_buffer_bytes}
    # A killed holder is known to be gone by its FIN or RST, a frozen one by a single stall.
    cases: list[tuple[Disturbance, int]] = [(killed, 0), (frozen, 1)]
    with shaped(cluster, 250, "one", "other", "old"):
        for disturbance, waits_most in cases:
            with afresh(cluster, "old", transfer=transfer) as asker:
                pulled = _pull_disturbed(cluster, asker, medium, disturbance, behind_bytes=_MEDIUM_BYTES // 4)
                _assert_whole_and_from_peers(cluster, asker, medium, pulled)
                assert waits_of(asker) <= waits_most, disturbance
                assert pulled.seconds < _BOUND_S, disturbance
                (record,) = records(asker, medium.layer)  # one response
                assert record["resumes"] <= 1, disturbance
                assert {source["node"] for source in record["sources"]} == set(_HOLDERS)
                assert sum(source["bytes"] for source in record["sources"]) == record["bytes"]


def test_bytes_of_two_slow_holders_add_up_to_one_whole_layer(cluster: Cluster, medium: Pushed) -> None:
    before = {name: cluster.node(name).sent_bytes() for name in _HOLDERS}
    with shaped(cluster, 150, *_HOLDERS), afresh(cluster, "old") as asker:
        pulled = try_pull(asker, medium.reference)
        _assert_whole_and_from_peers(cluster, asker, medium, pulled)
        for name in _HOLDERS:
            assert cluster.node(name).sent_bytes() - before[name] > _MEDIUM_BYTES // 4, name
        assert asker.metric("shorthaul_striped_bodies_total") == 1
        (record,) = records(asker, medium.layer)
        assert {source["node"] for source in record["sources"]} == set(_HOLDERS)
        assert sum(source["bytes"] for source in record["sources"]) == record["bytes"]


def test_containerd_that_fetches_in_chunks_gets_a_layer_in_one_stream(
    cluster: Cluster, medium: Pushed
) -> None:
    with afresh(cluster, "chunks") as asker:
        pulled = try_pull(asker, medium.reference)
        _assert_whole_and_from_peers(cluster, asker, medium, pulled)
        (record,) = records(asker, medium.layer)
        assert (record["status"], record["result"]) == (200, "ok")


def test_holder_that_dies_fails_no_pull_of_a_containerd_that_fetches_in_chunks(
    cluster: Cluster, medium: Pushed
) -> None:
    with shaped(cluster, 400, *_HOLDERS), afresh(cluster, "chunks") as asker:
        pulled = _pull_disturbed(cluster, asker, medium, killed, behind_bytes=_MEDIUM_BYTES // 4)
        _assert_whole_and_from_peers(cluster, asker, medium, pulled)


@pytest.mark.parametrize("name", ["old", "new"])
def test_redirecting_agent_moves_no_bytes_of_layers(cluster: Cluster, name: str) -> None:
    # One that fetches in chunks is relayed all the same.
    pushed = _hold(cluster, _SMALL_BYTES)
    with afresh(cluster, name, transfer={"mode": "redirect"}) as asker:
        pulled = try_pull(asker, pushed.reference)
        _assert_whole_and_from_peers(cluster, asker, pushed, pulled)
        assert asker.metric("shorthaul_redirects_total") >= 1
        assert asker.metric("shorthaul_bytes_total", path="hostport") < 1 * _MIB, "manifest and config"
        assert asker.metric("shorthaul_sent_bytes_total") < 1 * _MIB


@pytest.mark.parametrize("name", ["old", "new"])
def test_redirected_pull_goes_on_when_its_holder_is_killed(
    cluster: Cluster, medium: Pushed, name: str
) -> None:
    # Not in chunks: containerd gives a pull up when any chunk of it breaks off. What it resumes is relayed.
    with shaped(cluster, 400, *_HOLDERS), afresh(cluster, name, transfer={"mode": "redirect"}) as asker:
        pulled = _pull_disturbed(cluster, asker, medium, killed, behind_bytes=_MEDIUM_BYTES // 4)
        _assert_whole_and_from_peers(cluster, asker, medium, pulled)
        assert asker.metric("shorthaul_redirects_total") >= 1
        assert asker.metric("shorthaul_sent_bytes_total") < _MEDIUM_BYTES, "the rest only"


@contextmanager
def corrupted(node: Node, digest: str) -> Iterator[None]:
    """A bit of the blob's file is flipped, as a disk does it; a right file takes its place afterwards."""
    path = blob_path(node, digest)
    right = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(right) // 2)
        file.write(bytes([right[len(right) // 2] ^ 1]))
    try:
        yield
    finally:
        new = path.with_suffix(".new")
        new.write_bytes(right)
        new.rename(path)


def test_scrub_withdraws_a_corrupt_layer_until_its_file_is_replaced(
    cluster: Cluster, complaining: set[str]
) -> None:
    pushed = _hold(cluster, _SMALL_BYTES)
    with ExitStack() as stack:
        one = stack.enter_context(_scrubbing(cluster, "one"))
        complaining.add("one")
        with corrupted(one, pushed.layer):
            wait_for(
                lambda: one.metric("shorthaul_corrupt_blobs_total", found_by="scrub") == 1,
                "the scrub finds it",
                at_most_s=60.0,
            )
            assert not holds(one, pushed.layer)
            asker = stack.enter_context(afresh(cluster, "old"))
            pulled = try_pull(asker, pushed.reference)
            _assert_whole_and_from_peers(cluster, asker, pushed, pulled)
            assert {record["node"] for record in records(asker, pushed.layer)} == {"other"}
        wait_for(lambda: holds(one, pushed.layer), "the right file counts again")


@contextmanager
def _scrubbing(cluster: Cluster, name: str) -> Iterator[Node]:
    """The node with an agent that reads all of its store again and again."""
    node = cluster.node(name)
    node.agent.stop()
    node.start_agent(scrub={"bytes_per_s": 1 << 30, "round_s": 1})
    try:
        yield node
    finally:
        node.agent.stop()
        node.start_agent()


def test_config_that_is_corrupt_at_every_holder_is_found_when_read_and_comes_from_the_registry(
    cluster: Cluster, complaining: set[str]
) -> None:
    pushed = _hold(cluster, _SMALL_BYTES)
    complaining.update(_HOLDERS)
    holders = [cluster.node(name) for name in _HOLDERS]
    before = [holder.metric("shorthaul_corrupt_blobs_total", found_by="read") for holder in holders]
    with ExitStack() as stack:
        for holder in holders:
            stack.enter_context(corrupted(holder, pushed.config))
        asker = stack.enter_context(afresh(cluster, "old"))
        pulled = try_pull(asker, pushed.reference)
        assert not pulled.error, pulled.error
        fetched = fetched_from_registry(cluster, asker, pushed.reference)
        assert [uri.rpartition("/")[2].partition("?")[0] for uri, _ in fetched] == [pushed.config]
        found = [holder.metric("shorthaul_corrupt_blobs_total", found_by="read") for holder in holders]
        assert found == [number + 1 for number in before]
