"""Real containerds pull through real agents: who serves, and what happens when something is gone."""

import concurrent.futures
import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab.cluster import ADMIN_PORT, LOCAL_PORT, REGISTRY, SERVICE_PORT, Cluster, Node
from benchmarks.lab.containerd import PullFailed
from benchmarks.lab.image import build_image
from benchmarks.lab.network import inside
from benchmarks.lab.process import run
from tests.e2e.conftest import Push
from tests.server.agents import log_lines

pytestmark = pytest.mark.e2e


def until(condition: Callable[[], bool], what: str, at_most_s: float = 20.0) -> None:
    """Wait for a condition, with a bound that only a failure reaches."""
    end_s = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {at_most_s} s: {what}"
        time.sleep(0.01)


def served(node: Node, since: int, path: str = "hostport") -> list[dict[str, Any]]:
    """What the node's agent answered to its own containerd since its ``since``-th log entry."""
    return [entry for entry in list(node.requests())[since:] if entry["path"] == path]


def pull_and_tell(node: Node, reference: str) -> list[dict[str, Any]]:
    """Pull, and return the blob requests that the node's agent answered."""
    since = len(list(node.requests()))
    node.pull(reference)
    return [entry for entry in served(node, since) if entry["kind"] == "blob" and entry["method"] == "GET"]


def asked_of_registry(cluster: Cluster, reference: str) -> list[tuple[str, str, str, int]]:
    """The GETs that the registry answered for this repository."""
    repository = reference.removeprefix(f"{REGISTRY}/").partition(":")[0]
    return [
        entry for entry in cluster.registry.served() if entry[1] == "GET" and f"/{repository}/" in entry[2]
    ]


def names_known(node: Node, reference: str) -> bool:
    """Whether the node's agent answers the tag itself."""
    name, _, tag = reference.removeprefix(f"{REGISTRY}/").rpartition(":")
    reply = node.get(f"/v2/{name}/manifests/{tag}?ns={REGISTRY}", method="HEAD")
    return reply.status == 200 and "tier=node" in reply.headers["Shorthaul-Source"]


def test_each_node_takes_every_layer_from_the_nearest_holder(cluster: Cluster, push: Push) -> None:
    reference = push()
    expected = {"c1": None, "b1": "c1", "a1": "b1", "a2": "a1", "a3": "a1"}
    tiers = {"b1": "remote", "a1": "region", "a2": "zone", "a3": "rack"}
    for name, holder in expected.items():
        blobs = pull_and_tell(cluster.node(name), reference)
        assert len(blobs) == 4, "a config and three layers"
        if holder is None:
            assert {blob["status"] for blob in blobs} == {404}
        else:
            assert {(blob["node"], blob["tier"]) for blob in blobs} == {(holder, tiers[name])}
        until(lambda name=name: names_known(cluster.node(name), reference), "the image in the store")  # type: ignore[misc]
    fetched = asked_of_registry(cluster, reference)
    assert {client for client, *_ in fetched} == {cluster.node("c1").address}
    assert len(fetched) == 5, "each of its five blobs once"


def test_the_next_nearest_serves_when_the_nearest_dies(cluster: Cluster, push: Push) -> None:
    reference = push()
    near, far, client = cluster.node("a1"), cluster.node("c1"), cluster.node("a3")
    near.pull(reference)
    far.pull(reference)
    until(lambda: names_known(near, reference) and names_known(far, reference), "both holders")
    before = len(asked_of_registry(cluster, reference))
    near.agent.kill()
    try:
        blobs = pull_and_tell(client, reference)
        assert {blob["status"] for blob in blobs} == {200}
        assert {blob["node"] for blob in blobs} == {"c1"}
        assert len(asked_of_registry(cluster, reference)) == before
    finally:
        near.start_agent()


def test_a_frozen_peer_delays_a_pull_shortly_and_breaks_none(cluster: Cluster, push: Push) -> None:
    reference = push()
    frozen, far, client = cluster.node("a1"), cluster.node("b1"), cluster.node("a3")
    frozen.pull(reference)
    far.pull(reference)
    until(lambda: names_known(frozen, reference) and names_known(far, reference), "both holders")
    frozen.agent.signal(signal.SIGSTOP)
    try:
        blobs = pull_and_tell(client, reference)
        assert {blob["node"] for blob in blobs if blob["status"] == 200} == {"b1"}
        assert {blob["status"] for blob in blobs} == {200}
    finally:
        frozen.agent.signal(signal.SIGCONT)


def test_a_pull_succeeds_from_peers_while_the_registry_is_down(cluster: Cluster, push: Push) -> None:
    reference = push()
    cluster.node("b1").pull(reference)
    until(lambda: names_known(cluster.node("b1"), reference), "the first copy")
    cluster.registry.stop()
    try:
        blobs = pull_and_tell(cluster.node("a2"), reference)
        assert {blob["node"] for blob in blobs} == {"b1"}
    finally:
        cluster.registry.start()


def test_a_pull_succeeds_from_the_registry_while_the_agent_is_down(cluster: Cluster, push: Push) -> None:
    reference = push()
    node = cluster.node("a2")
    node.agent.stop()
    try:
        node.pull(reference)
        assert {client for client, *_ in asked_of_registry(cluster, reference)} == {node.address}
    finally:
        node.start_agent()


def test_a_containerd_whose_files_are_closed_to_the_agent_is_read_over_its_api(
    cluster: Cluster, push: Push
) -> None:
    reference = push()
    holder, client = cluster.node("a2"), cluster.node("a1")
    assert holder.containerd is not None
    root = holder.containerd.root
    mode = root.stat().st_mode & 0o777
    holder.pull(reference)
    until(lambda: names_known(holder, reference), "the image in the store")
    cluster.registry.stop()
    holder.agent.stop()
    # Root without the right to pass over permissions meets them as an ordinary user does.
    before = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
    os.chown(root, 65534, 65534)
    root.chmod(0o700)
    try:
        lines = len(log_lines(holder.log))
        holder.start_agent(before=before)
        until(lambda: names_known(holder, reference), "the image, over the API")
        blobs = pull_and_tell(client, reference)
        assert {(blob["node"], blob["status"]) for blob in blobs} == {("a2", 200)}
        log = [json.loads(line) for line in log_lines(holder.log)[lines:]]
        assert any("content API" in entry["message"] and "ermission" in entry["message"] for entry in log)
        assert [entry for entry in log if "traceback" in entry or entry["level"] == "error"] == []
        told = holder.get("/readyz?verbose", port=ADMIN_PORT)
        assert told.status == 200  # it serves, at a higher cost
        assert "[!] reading the store's files: blobs come from containerd's content API" in told.body.decode()
    finally:
        os.chown(root, 0, 0)
        root.chmod(mode)
        cluster.registry.start()
        holder.agent.stop()
        holder.start_agent()


def test_an_unknown_image_is_refused_by_the_registry_not_by_the_mirror(cluster: Cluster) -> None:
    with pytest.raises(PullFailed, match="not found"):
        cluster.node("a1").pull(f"{REGISTRY}/e2e/none:v1")


def test_skopeo_copies_an_image_out_of_the_mirror(cluster: Cluster, push: Push, tmp_path: Path) -> None:
    reference = push(compression=("gzip", "zstd", "none"))
    cluster.node("a1").pull(reference)
    until(lambda: names_known(cluster.node("a1"), reference), "the image in the store")
    name = reference.removeprefix(f"{REGISTRY}/")
    source = f"docker://127.0.0.1:{LOCAL_PORT}/{name}"
    command = ["skopeo", "--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false", source]
    run([*command, f"dir:{tmp_path}/out"], netns=cluster.node("c1").netns)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert len(manifest["layers"]) == 3
    for layer in manifest["layers"]:
        path = tmp_path / "out" / layer["digest"].partition(":")[2]
        assert path.stat().st_size == layer["size"]


def test_a_multi_arch_index_is_pulled_through_the_mirror(cluster: Cluster, push: Push) -> None:
    reference = push(platforms=("amd64", "arm64"))
    cluster.node("a1").pull(reference)
    until(lambda: names_known(cluster.node("a1"), reference), "the image in the store")
    since = len(list(cluster.node("a2").requests()))
    cluster.node("a2").pull(reference)
    answered = served(cluster.node("a2"), since)
    manifests = [
        e for e in answered if e["kind"] == "manifest" and e["method"] == "GET" and e["status"] == 200
    ]
    assert len(manifests) == 2, "the index and the manifest of this platform"
    assert {entry["node"] for entry in answered} == {"a1"}


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_layers_of_every_compression_arrive_whole(cluster: Cluster, push: Push, compression: str) -> None:
    reference = push(compression=(compression,), layer_bytes=[2_000_000, 500])
    cluster.node("b1").pull(reference)
    until(lambda: names_known(cluster.node("b1"), reference), "the first copy")
    blobs = pull_and_tell(cluster.node("a3"), reference)  # containerd verifies and unpacks what it gets
    assert {(blob["node"], blob["result"]) for blob in blobs} == {("b1", "ok")}


@pytest.mark.parametrize("name", ["a1", "a2", "a3"])
def test_a_blob_that_garbage_collection_took_is_not_offered(cluster: Cluster, push: Push, name: str) -> None:
    node, asker = cluster.node(name), cluster.node("c1")  # a1, a2, a3 run containerd 1.6, 1.7 and 2.1
    reference = push()
    node.pull(reference)
    until(lambda: names_known(node, reference), "the image in the store")
    digest = next(e["digest"] for e in reversed(list(node.requests())) if e["kind"] == "blob" and e["digest"])
    explain = f"/api/explain?digest={digest}"

    def offered() -> bool:
        return bool(asker.get(explain, port=9090).json()["holders"])

    assert offered()
    assert node.containerd is not None
    node.containerd.remove(reference)
    path = node.containerd.blobs / digest.partition(":")[2]
    until(lambda: not path.exists(), "garbage collection", at_most_s=60.0)
    until(lambda: not offered(), "the holder forgotten")


def test_one_connection_serves_many_blobs(cluster: Cluster, push: Push) -> None:
    reference = push(layer_bytes=[200_000] * 3)
    cluster.node("a1").pull(reference)
    until(lambda: names_known(cluster.node("a1"), reference), "the image in the store")
    name = reference.removeprefix(f"{REGISTRY}/").partition(":")[0]
    for node in (cluster.node("a1"), cluster.node("a2")):  # by sendfile, and by relay

        def many(node: Node = node) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", LOCAL_PORT, timeout=60)
            connection.request("GET", f"/v2/{name}/manifests/v1?ns={REGISTRY}")
            layers = json.loads(connection.getresponse().read())["layers"]
            opened = connection.sock
            for number in range(60):
                layer = layers[number % 3]
                connection.request("GET", f"/v2/{name}/blobs/{layer['digest']}?ns={REGISTRY}")
                assert len(connection.getresponse().read()) == layer["size"]
                assert connection.sock is opened
            connection.close()
            return len(layers)

        assert inside(node.netns, many) == 3


def test_eight_images_at_once_arrive_whole(cluster: Cluster, push: Push) -> None:
    references = [push(layer_bytes=[1_500_000] * 2) for _ in range(8)]
    for reference in references:
        cluster.node("b1").pull(reference)
    until(lambda: names_known(cluster.node("b1"), references[-1]), "the first copies")
    node = cluster.node("a2")
    since = len(list(node.requests()))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(node.pull, references))
    blobs = [entry for entry in served(node, since) if entry["kind"] == "blob"]
    assert len(blobs) == 8 * 3
    assert {(entry["node"], entry["result"]) for entry in blobs} == {("b1", "ok")}


def test_the_service_listener_serves_another_nodes_fallback(cluster: Cluster, push: Push) -> None:
    reference = push()
    cluster.node("a1").pull(reference)
    until(lambda: names_known(cluster.node("a1"), reference), "the image in the store")
    name = reference.removeprefix(f"{REGISTRY}/").partition(":")[0]
    reply = cluster.node("b1").get(f"/v2/{name}/manifests/v1?ns={REGISTRY}", port=SERVICE_PORT)
    assert reply.status == 200
    assert reply.headers["Shorthaul-Source"].startswith("node=a1; tier=region; reason=")
    until(
        lambda: "nodeport" in {entry["path"] for entry in cluster.node("b1").requests()},
        "the request on the record",
    )


@pytest.fixture
def short_lived_tags(cluster: Cluster) -> Iterator[Cluster]:
    """The same cluster with tags that peers answer for twenty seconds."""
    names = ["a1", "b1", "c1"]
    for name in names:
        cluster.node(name).agent.stop()
    cluster.start_agents(names, tags={"max_age_s": 20})
    yield cluster
    for name in names:
        cluster.node(name).agent.stop()
    cluster.start_agents(names)


def test_a_moved_tag_is_seen_within_its_age_even_behind_two_mirrors(
    short_lived_tags: Cluster, push: Push
) -> None:
    cluster = short_lived_tags
    reference = push("e2e/moving", seed=901)
    cluster.node("a1").pull(reference)
    first_s = time.monotonic()
    until(lambda: names_known(cluster.node("a1"), reference), "the first copy")
    cluster.node("b1").pull(reference)  # resolved by a1: b1's copy is not younger for it
    assert time.monotonic() < first_s + 19.5, "the machine is too slow for this test's twenty seconds"
    push("e2e/moving", seed=902)
    time.sleep(max(0.0, first_s + 20.1 - time.monotonic()))
    reply = cluster.node("c1").get(f"/v2/e2e/moving/manifests/v1?ns={REGISTRY}", method="HEAD")
    assert reply.status == 404, "c1 has to ask the registry"


def test_latest_is_left_to_the_registry(cluster: Cluster, push: Push) -> None:
    reference = push("e2e/latest", tag="latest")
    cluster.node("a1").pull(reference)
    cluster.node("a2").pull(reference)
    heads = [e for e in cluster.node("a2").requests() if e["target"].endswith("e2e/latest:latest")]
    assert {entry["status"] for entry in heads} == {404}
    layers = [
        e for e in cluster.node("a2").requests() if "/e2e/latest@" in e["target"] and e["kind"] == "blob"
    ]
    assert {entry["node"] for entry in layers} == {"a1"}, "its bytes still come from the peer"


def test_a_layer_is_given_to_peers_while_the_rest_of_its_image_is_still_pulled(cluster: Cluster) -> None:
    peer, nodes = cluster.node("b1"), [cluster.node(name) for name in ("a1", "a2", "a3")]

    def pull_and_look(node: Node) -> None:
        folder = cluster.folder / f"early-{node.name}"
        image = build_image(folder, layer_bytes=[200_000, 8_000_000], seed=ord(node.name[1]))
        small = next(digest for digest, size in image.blobs.items() if 100_000 < size < 1_000_000)
        reference = cluster.registry.push(image, f"e2e/early-{node.name}", "v1")
        path = f"/v2/e2e/early-{node.name}/blobs/{small}?ns={REGISTRY}"
        pull = pool.submit(node.pull, reference)
        until(lambda: peer.get(path).status == 200 or pull.done(), "the layer is given", at_most_s=60.0)
        assert not pull.done(), "not before the whole image was there"
        assert node.containerd is not None
        assert reference not in node.containerd.ctr("images", "ls", "-q")

    with concurrent.futures.ThreadPoolExecutor(max_workers=6) as pool:
        for node in nodes:
            cluster.shape(node.name, 16.0)  # four seconds for the large layer
        try:
            for looking in [pool.submit(pull_and_look, node) for node in nodes]:
                looking.result()
        finally:
            for node in nodes:
                cluster.shape(node.name, None)
