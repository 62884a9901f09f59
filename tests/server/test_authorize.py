"""Where the registry decides who may have an image: it is asked first, and then the bytes come from here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from .agents import LOCAL, SERVICE, Image, Node, Reply, Site, digest_of, make_image

RULES: dict[str, Any] = {"registries": {"authorize": [{"match": "private.test/*", "by": "registry"}]}}
PRIVATE = "private.test/acme/app"
OF_THE_MIRROR = f"localhost:{LOCAL}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A holder of a private image and of an open one, and a node that has nothing."""

    holder: Node
    other: Node
    private: Image
    open: Image

    def ask(self, node: Node, path: str, *, ns: str = "private.test", method: str = "GET") -> Reply:
        """Ask for a path below the repository acme/app."""
        return node.ask(f"/v2/acme/app/{path}" + (f"?ns={ns}" if ns else ""), method=method)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The agents of this module; its tests only read."""
    with Site() as made:
        cluster = Cluster(
            holder=made.add("holder", **RULES),
            other=made.add("other", **RULES),
            private=make_image(b"a secret layer", note="private"),
            open=make_image(b"a public layer", note="open"),
        )
        cluster.holder.put_image(cluster.private, f"{PRIVATE}:v1")
        cluster.holder.put_image(cluster.open, "open.test/acme/app:v1")
        made.start()
        yield cluster


@pytest.fixture(params=["holder", "other"])
def asked(request: pytest.FixtureRequest, cluster: Cluster) -> Node:
    """The node that is asked: the one that has the content, and one that would have to ask it."""
    node: Node = getattr(cluster, request.param)
    return node


def test_every_head_under_a_private_name_is_left_to_the_registry(cluster: Cluster, asked: Node) -> None:
    digest = cluster.private.digest
    layer, config = digest_of(cluster.private.layers[0]), digest_of(cluster.private.config)
    for path in (
        "manifests/v1",
        f"manifests/{digest}",
        f"blobs/{digest}",
        f"blobs/{layer}",
        f"manifests/{config}",
        f"blobs/{config}",
    ):
        assert cluster.ask(asked, path, method="HEAD").status == 404, path


def test_refusal_names_the_mirror_and_what_happens_next(cluster: Cluster, asked: Node) -> None:
    reply = cluster.ask(asked, "manifests/v1")
    assert (reply.status, reply.oci_code()) == (404, "MANIFEST_UNKNOWN")
    assert "shorthaul leaves it to the registry" in reply.json()["errors"][0]["message"]
    assert "registries.authorize" in reply.json()["errors"][0]["detail"]["hint"]


def test_bytes_that_follow_a_head_are_given(cluster: Cluster, asked: Node) -> None:
    image = cluster.private
    assert cluster.ask(asked, f"manifests/{image.digest}").body == image.manifest
    for content in (image.config, *image.layers):
        assert cluster.ask(asked, f"blobs/{digest_of(content)}").body == content


def test_head_that_is_conditional_is_left_to_the_registry_too(cluster: Cluster, asked: Node) -> None:
    digest = cluster.private.digest
    path = f"/v2/acme/app/manifests/{digest}?ns=private.test"
    for headers in ({"If-None-Match": f'"{digest}"'}, {"Accept": "text/plain"}):
        assert asked.ask(path, method="HEAD", headers=headers).status == 404


def test_tags_of_a_private_repository_are_not_listed(cluster: Cluster, asked: Node) -> None:
    for ns in ("", "private.test", OF_THE_MIRROR):
        assert cluster.ask(asked, "manifests/v1", ns=ns).body != cluster.private.manifest
        reply = cluster.ask(asked, "tags/list", ns=ns)
        assert reply.status == 404 or reply.json()["tags"] == ["v1"]
    assert cluster.ask(cluster.holder, "manifests/v1", ns="").body == cluster.open.manifest


def test_open_image_is_given_to_whoever_names_it(cluster: Cluster, asked: Node) -> None:
    image = cluster.open
    for port in (LOCAL, SERVICE):
        for method in ("HEAD", "GET"):
            path = f"/v2/acme/app/manifests/{image.digest}?ns=open.test"
            assert asked.ask(path, method=method, port=port).status == 200
