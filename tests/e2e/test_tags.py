"""Who vouches for a tag, with real containerds: what spreads, for how long, and under which name."""

import itertools
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.lab.cluster import LOCAL_PORT, REGISTRY, Cluster, Node, Place
from benchmarks.lab.image import Image, build_image
from tests.server.agents import PATIENT

pytestmark = pytest.mark.e2e

_PLACES = [Place(name=f"n{number}", region="r1", zone="a", rack=f"a-{number}") for number in (1, 2, 3)]
_MAX_AGE_S = 15
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes of one zone: n1 runs containerd 1.6, n2 1.7, n3 2.1."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with Cluster(_PLACES, versions=("1.6", "1.7", "2.1"), settings=PATIENT) as made:
        made.start_agents()
        yield made


def until(condition: Callable[[], bool], what: str, at_most_s: float = 20.0) -> None:
    """Wait for a condition, with a bound that only a failure reaches."""
    end_s = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {at_most_s} s: {what}"
        time.sleep(0.02)


def build(cluster: Cluster) -> Image:
    """An image that nobody has yet."""
    number = next(_numbers)
    return build_image(cluster.folder / f"tags-{number}", layer_bytes=[20_000] * 2, seed=9000 + number)


def push(cluster: Cluster, name: str, image: Image | None = None) -> tuple[str, str]:
    """Push an image as ``NAME:TAG``. Returns its reference and its digest."""
    repository, _, tag = name.partition(":")
    made = image or build(cluster)
    return cluster.registry.push(made, repository, tag), made.manifest


def resolved(node: Node, reference: str) -> tuple[int, str, str]:
    """What the node's agent answers to a HEAD of a tag: status, digest, and Shorthaul-Source."""
    name, _, tag = reference.removeprefix(f"{REGISTRY}/").rpartition(":")
    reply = node.get(f"/v2/{name}/manifests/{tag}?ns={REGISTRY}", method="HEAD")
    found = reply.headers.get("Docker-Content-Digest", ""), reply.headers.get("Shorthaul-Source", "")
    return reply.status, *found


def stored(node: Node, reference: str) -> str:
    """The digest under this name in the node's containerd."""
    assert node.containerd is not None
    line = next(
        line for line in node.containerd.ctr("images", "ls").splitlines() if line.startswith(f"{reference} ")
    )
    return line.split()[2]


def tag_heads(cluster: Cluster, reference: str) -> int:
    """How often the registry was asked which digest this tag has."""
    name, _, tag = reference.removeprefix(f"{REGISTRY}/").rpartition(":")
    path = f"/v2/{name}/manifests/{tag}"
    return sum(
        method == "HEAD" and uri.partition("?")[0] == path for _, method, uri, _ in cluster.registry.served()
    )


def retag(node: Node, source: str, target: str) -> None:
    """Give content another name on one node, and wait until its agent knows the name."""
    assert node.containerd is not None
    node.containerd.ctr("images", "tag", "--force", source, target)
    name, _, tag = target.removeprefix(f"{REGISTRY}/").rpartition(":")
    path = f"/v2/{name}/manifests/{tag}?ns={REGISTRY}"
    until(lambda: b"this node has it, but" in node.get(path).body, "the new name is known, and in doubt")


def pull(node: Node, reference: str) -> None:
    """Pull, and wait until the node's own agent answers the tag from its store."""
    node.pull(reference)
    until(lambda: resolved(node, reference)[0] == 200, "the image in the store")


@pytest.mark.parametrize(("name", "other"), [("n1", "n2"), ("n2", "n3"), ("n3", "n1")])
def test_a_local_name_does_not_spread_and_a_pulled_one_does(cluster: Cluster, name: str, other: str) -> None:
    node, asker = cluster.node(name), cluster.node(other)
    tool, tool_digest = push(cluster, f"lab/tool-{name}:v1")
    app, app_digest = push(cluster, f"lab/app-{name}:v1")
    pull(node, tool)
    pull(node, app)
    heads = tag_heads(cluster, tool)
    pull(asker, tool)
    assert tag_heads(cluster, tool) == heads, "a pulled name spreads: the registry is not asked"
    assert stored(asker, tool) == tool_digest
    retag(node, tool, app)
    assert stored(node, app) == tool_digest
    heads = tag_heads(cluster, app)
    asker.pull(app)
    assert stored(asker, app) == app_digest, "what the registry has, not what somebody named so on one node"
    assert tag_heads(cluster, app) == heads + 1


@pytest.mark.parametrize("name", ["n1", "n2", "n3"])
def test_a_name_in_the_same_repository_that_containerd_did_not_ask_for_does_not_spread(
    cluster: Cluster, name: str
) -> None:
    node = cluster.node(name)
    asker = next(each for each in cluster.nodes.values() if each is not node)
    first, _ = push(cluster, f"lab/same-{name}:v1")
    second, second_digest = push(cluster, f"lab/same-{name}:v2")
    pull(node, first)
    retag(node, first, second)
    asker.pull(second)
    assert stored(asker, second) == second_digest


def test_an_import_is_shared_by_digest_and_by_tag_only_if_the_setting_says_so(
    cluster: Cluster, tmp_path: Path
) -> None:
    importer, asker = cluster.node("n1"), cluster.node("n3")
    image, reference = build(cluster), f"{REGISTRY}/lab/imported:v1"
    index = json.loads((image.layout / "index.json").read_text())
    index["manifests"][0]["annotations"] = {"io.containerd.image.name": reference}
    (image.layout / "index.json").write_text(json.dumps(index))
    with tarfile.open(tmp_path / "image.tar", "w") as tar:
        for name in ("oci-layout", "index.json", "blobs"):
            tar.add(image.layout / name, arcname=name)
    assert importer.containerd is not None
    importer.containerd.ctr("images", "import", "--no-unpack", str(tmp_path / "image.tar"))
    by_digest = f"/v2/lab/imported/manifests/{image.manifest}?ns={REGISTRY}"
    until(lambda: asker.get(by_digest).status == 200, "its digest is shared")
    by_tag = f"/v2/lab/imported/manifests/v1?ns={REGISTRY}"
    assert b"imported or built here" in importer.get(by_tag).body
    assert asker.get(by_tag).status == 404
    names = ["n1", "n3"]
    for name in names:
        cluster.node(name).agent.stop()
    try:
        cluster.start_agents(names, tags={"share_imported": True})
        until(lambda: resolved(importer, reference)[0] == 200, "the importer knows its name again")
        status, digest, source = resolved(asker, reference)
        assert (status, digest) == (200, image.manifest)
        assert "tag-told-by=n1; tag-vouched-by=n1; tag-import-age-s=" in source
        asker.pull(reference)  # although the registry has no such image
        assert stored(asker, reference) == image.manifest
    finally:
        for name in names:
            cluster.node(name).agent.stop()
        cluster.start_agents(names)


@pytest.fixture
def short_lived_tags(cluster: Cluster) -> Iterator[Cluster]:
    """The same cluster with tags that are believed for a short time."""
    for node in cluster.nodes.values():
        node.agent.stop()
    cluster.start_agents(tags={"max_age_s": _MAX_AGE_S})
    yield cluster
    for node in cluster.nodes.values():
        node.agent.stop()
    cluster.start_agents()


def test_a_tag_that_moved_is_seen_by_the_nodes_that_have_it_and_a_confirmed_one_is_young_again(
    short_lived_tags: Cluster,
) -> None:
    cluster = short_lived_tags
    moving, old = push(cluster, "lab/moving:v1")
    staying, same = push(cluster, "lab/staying:v1")
    for node in cluster.nodes.values():
        pull(node, moving)
        pull(node, staying)
    _, new = push(cluster, "lab/moving:v1")
    heads = tag_heads(cluster, staying)
    for node in cluster.nodes.values():
        until(lambda node=node: resolved(node, moving)[0] == 404, "the tag is too old")  # type: ignore[misc]
        until(lambda node=node: resolved(node, staying)[0] == 404, "the tag is too old")  # type: ignore[misc]
        assert stored(node, moving) == old
    for node in cluster.nodes.values():
        node.pull(moving)  # as imagePullPolicy: Always does
        assert stored(node, moving) == new, node.name
    cluster.node("n2").pull(staying)
    assert stored(cluster.node("n2"), staying) == same
    assert tag_heads(cluster, staying) > heads, "the registry was asked"
    until(
        lambda: "tag-vouched-by=n2; tag-registry-age-s=" in resolved(cluster.node("n2"), staying)[2],
        "the registry confirmed it, so its age began again",
    )


def test_a_pull_by_the_mirrors_own_name_is_no_second_registry(cluster: Cluster) -> None:
    node, asker = cluster.node("n2"), cluster.node("n1")
    name, _ = push(cluster, "lab/own:v1")
    other, _ = push(cluster, "lab/other:v1")
    pull(node, name)
    pull(node, other)
    assert node.containerd is not None
    own_name = f"127.0.0.1:{LOCAL_PORT}/lab/own:v1"
    node.containerd.ctr("images", "pull", "--plain-http", "--snapshotter=native", own_name)
    node.containerd.ctr("images", "tag", "--force", other, own_name)  # and now it is another digest
    for each in (node, asker):
        reply = each.get("/v2/lab/own/manifests/v1", method="HEAD")
        assert (reply.status, reply.headers["Docker-Content-Digest"]) == (200, stored(node, name))
