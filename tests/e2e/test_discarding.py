"""Nodes whose containerds discard what they have unpacked share a layer as it arrives, and never later."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.lab.cluster import Cluster, Place
from benchmarks.lab.image import build_image
from tests.e2e.asking import (
    blob_path,
    fetched_from_registry,
    holds,
    ingested_bytes,
    layer_of,
    records,
    try_pull,
)
from tests.server.agents import PATIENT, wait_for

pytestmark = pytest.mark.e2e

_MIB = 1 << 20
_LAYER_BYTES = 8 * _MIB
_SLOW_MBIT_S = 5  # the layer would take 14 s: the others begin in time
_PLACES = [Place(name=name, region="r", zone="a") for name in ("old", "middle", "new")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A containerd of each version, and a registry behind a narrow link."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with Cluster(_PLACES, versions=("1.6", "1.7", "2.1"), settings=PATIENT) as made:
        for node in made.nodes.values():
            assert node.containerd is not None
            node.containerd.discard_layers()
        made.start_agents()
        yield made


@pytest.mark.parametrize("first", ["old", "middle", "new"])
def test_layer_that_is_discarded_is_fetched_once_and_reaches_the_others_as_it_arrives(
    cluster: Cluster, first: str
) -> None:
    seed = 1 + ["old", "middle", "new"].index(first)
    image = build_image(
        cluster.folder / f"discarded-{seed}", layer_bytes=[_LAYER_BYTES], seed=seed, compression=("none",)
    )
    reference = cluster.registry.push(image, f"discarded/app{seed}", "v1")
    layer, size_bytes = layer_of(image)
    fetching = cluster.node(first)
    others = [node for node in cluster.nodes.values() if node is not fetching]
    cluster.shape("registry", _SLOW_MBIT_S)
    with ThreadPoolExecutor(3) as pool:
        pulls = [pool.submit(try_pull, fetching, reference)]
        wait_for(lambda: ingested_bytes(fetching) > _MIB, "the layer arrives")
        pulls += [pool.submit(try_pull, node, reference) for node in others]
        wait_for(lambda: all(ingested_bytes(node) > 0 for node in others), "the others follow")
        cluster.shape("registry", None)
        assert [pull.result().error for pull in pulls] == ["", "", ""]
    for node in others:
        assert [uri for uri, _ in fetched_from_registry(cluster, node, reference) if layer in uri] == []
        record = records(node, layer)[0]
        assert (record["result"], sum(each["bytes"] for each in record["sources"])) == ("ok", size_bytes)
    for node in cluster.nodes.values():
        assert node.containerd is not None
        node.containerd.collect_garbage()
        assert not blob_path(node, layer).exists()
        wait_for(lambda node=node: not holds(node, layer), "it is not offered any more")  # type: ignore[misc]
