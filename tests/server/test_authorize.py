"""Where the registry decides who may have an image: it is asked first, and then the bytes come from here."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from agent.oci.manifest import OCI_INDEX, OCI_MANIFEST

from .agents import ADMIN, LOCAL, PEER, SERVICE, Image, Node, Reply, Site, digest_of, make_image, wait_for
from .proofs import OPEN

RULES: dict[str, Any] = {"registries": {"authorize": [{"match": "private.test/*", "by": "registry"}]}}
PRIVATE = "private.test/acme/app"
BASE = b"a base layer that an open image has, too"
UNNAMED = b"content of an unknown user of the store"
OF_THE_MIRROR = f"localhost:{LOCAL}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A holder of a private image and of an open one, and a node that has nothing.

    Both images have a base layer in common. ``index`` is another tenant's, and lists the private manifest.
    """

    holder: Node
    other: Node
    private: Image
    open: Image
    index: bytes

    def ask(self, node: Node, path: str, *, ns: str = "private.test", method: str = "GET") -> Reply:
        """Ask for a path below the repository acme/app."""
        return node.ask(f"/v2/acme/app/{path}" + (f"?ns={ns}" if ns else ""), method=method)


def index_of(image: Image) -> bytes:
    """An index that lists an image's manifest."""
    listed = {"mediaType": OCI_MANIFEST, "digest": image.digest, "size": len(image.manifest)}
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]}).encode()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The agents of this module; its tests only read."""
    private = make_image(b"a secret layer", BASE, note="private")
    with Site(OPEN) as made:
        cluster = Cluster(
            holder=made.add("holder", **RULES),
            other=made.add("other", **RULES),
            private=private,
            open=make_image(BASE, b"a public layer", note="open"),
            index=index_of(private),
        )
        cluster.holder.put_image(cluster.private, f"{PRIVATE}:v1")
        cluster.holder.put_image(cluster.open, "open.test/acme/app:v1")
        evil = Image(manifest=cluster.index, config=private.config, layers=())
        cluster.holder.put_image(evil, "open.test/evil/app:v1")
        cluster.holder.put(UNNAMED)
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


OTHER_NAMES = [
    ("acme/app", "open.test"),
    ("evil/app", "open.test"),
    ("any/thing", "docker.io"),
    ("evil/app", "private.test"),
    ("acme/app", ""),
    ("acme/app", OF_THE_MIRROR),
    ("acme/app", f"127.0.0.1:{LOCAL}"),
]


def _parts(image: Image) -> list[bytes]:
    return [image.manifest, image.config, image.layers[0]]


def _paths(content: bytes) -> list[str]:
    return [f"{kind}/{digest_of(content)}" for kind in ("manifests", "blobs")]


@pytest.mark.parametrize(("repository", "ns"), OTHER_NAMES)
def test_private_content_is_given_under_no_other_name(
    cluster: Cluster, asked: Node, repository: str, ns: str
) -> None:
    layer = cluster.private.layers[0]
    for content in _parts(cluster.private):
        if content is layer and ns == "private.test":
            continue  # layers are given under all private names of their registry
        for path in _paths(content):
            for port in (LOCAL, SERVICE, PEER):
                for method in ("GET", "HEAD"):
                    query = f"?ns={ns}" if ns else ""
                    reply = asked.ask(f"/v2/{repository}/{path}{query}", method=method, port=port)
                    assert reply.status == 404, (path, port, method)


@pytest.mark.parametrize("headers", [{"Range": "bytes=0-"}, {"If-None-Match": "*"}, {"Accept": "text/plain"}])
def test_no_header_makes_a_difference(cluster: Cluster, asked: Node, headers: dict[str, str]) -> None:
    for content in _parts(cluster.private):
        for path in _paths(content):
            for method in ("GET", "HEAD"):
                target = f"/v2/any/thing/{path}?ns=docker.io"
                assert asked.ask(target, method=method, headers=headers).status == 404


def test_answer_does_not_tell_private_content_from_content_that_nobody_has(
    cluster: Cluster, asked: Node
) -> None:
    unknown = digest_of(b"nobody ever had this")
    for content in _parts(cluster.private):
        digest = digest_of(content)
        for ns in ("open.test", ""):
            for port in (LOCAL, SERVICE, PEER):
                query = f"?ns={ns}" if ns else ""
                for kind in ("manifests", "blobs"):
                    private = asked.ask(f"/v2/acme/app/{kind}/{digest}{query}", port=port)
                    missing = asked.ask(f"/v2/acme/app/{kind}/{unknown}{query}", port=port)
                    assert private.body.replace(digest.encode(), b"") == missing.body.replace(
                        unknown.encode(), b""
                    )
                    assert sorted(private.headers.keys()) == sorted(missing.headers.keys())


@pytest.mark.parametrize(("selects", "status"), [("bytes=1000000-", 404), ("bytes=x", 416)])
def test_range_that_can_not_be_does_not_tell_a_private_size(
    cluster: Cluster, asked: Node, selects: str, status: int
) -> None:
    assert cluster.ask(asked, f"manifests/{cluster.private.digest}").status == 200  # which tells the sizes
    for content in _parts(cluster.private):
        for name in ("/v2/any/thing/blobs/{}?ns=open.test", "/v2/any/thing/blobs/{}"):
            reply = asked.ask(name.format(digest_of(content)), headers={"Range": selects})
            assert (reply.status, reply.headers["Content-Range"]) == (status, None)


def test_layer_that_an_open_image_has_too_is_given_under_its_name(cluster: Cluster, asked: Node) -> None:
    assert cluster.ask(asked, f"blobs/{digest_of(BASE)}", ns="open.test").body == BASE


def test_index_of_another_tenant_is_given_and_opens_nothing(cluster: Cluster, asked: Node) -> None:
    path = f"/v2/evil/app/manifests/{digest_of(cluster.index)}?ns=open.test"
    assert asked.ask(path).body == cluster.index


def test_tag_of_an_open_name_whose_content_is_private_is_not_resolved() -> None:
    private = make_image(b"a secret layer", note="private")
    with Site() as made:
        node = made.add("node", **RULES)
        node.put_image(private, f"{PRIVATE}:v1", "open.test/evil/app:v1")
        made.start()
        assert node.ask("/v2/evil/app/manifests/v1?ns=open.test").status == 404
        assert node.ask("/v2/evil/app/tags/list").status == 404


def test_content_without_a_name_is_not_given_where_anything_is_held_back(
    cluster: Cluster, asked: Node
) -> None:
    assert cluster.ask(asked, f"blobs/{digest_of(UNNAMED)}", ns="open.test").status == 404


def test_holder_that_withholds_is_not_blamed_and_gives_to_the_right_name_at_once(cluster: Cluster) -> None:
    image, other = cluster.private, cluster.other

    def failures() -> list[str]:  # it may have been asked before it had started
        return [each["failure"] for each in other.explain(image.digest)["failures"]]

    before = failures()
    for _ in range(5):
        assert other.ask(f"/v2/any/thing/manifests/{image.digest}?ns=docker.io").status == 404
        assert cluster.ask(other, f"manifests/{image.digest}").body == image.manifest
    explained = other.explain(image.digest)
    assert [holder["node"] for holder in explained["holders"]] == ["holder"]
    assert failures() == before
    assert explained["passed_over"] == []


def test_asker_without_the_rule_gets_nothing_private_from_a_holder_that_has_it() -> None:
    private = make_image(b"a secret layer", note="private")
    with Site() as made:
        holder, naive = made.add("holder", **RULES), made.add("naive")
        holder.put_image(private, f"{PRIVATE}:v1")
        made.start()
        naive.wait_for_holders(private.manifest, {"holder"})
        for method in ("HEAD", "GET"):
            for content in _parts(private):
                for path in _paths(content):
                    reply = naive.ask(f"/v2/acme/app/{path}?ns=private.test", method=method)
                    assert reply.status == 404
        assert naive.ask("/v2/acme/app/manifests/v1?ns=private.test").status == 404


def test_content_that_containerd_asked_for_is_given_to_peers_as_soon_as_it_is_there() -> None:
    layer, stranger = b"a layer that is being pulled", b"content of somebody else"
    with Site() as made:
        node, peer = made.add("node", **RULES), made.add("peer", **RULES)
        made.start()
        for repository, ns in (("acme/app", "private.test"), ("acme/app", "open.test")):
            content = layer + ns.encode()
            path = f"/v2/{repository}/blobs/{digest_of(content)}?ns={ns}"
            assert node.ask(path, headers={"User-Agent": "containerd/2.1.4"}).status == 404
            node.put(content)  # committed, and no name leads to it yet
            peer.wait_for_holders(content, {"node"})
            assert peer.ask(path).body == content
        private = f"blobs/{digest_of(layer + b'private.test')}"
        assert peer.ask(f"/v2/acme/app/{private}?ns=open.test").status == 404
        node.put(stranger)
        assert peer.ask(f"/v2/acme/app/blobs/{digest_of(stranger)}?ns=open.test").status == 404


def test_rules_that_are_read_again_close_what_was_open() -> None:
    private = make_image(b"a secret layer", note="private")
    path = f"/v2/acme/app/manifests/{private.digest}"
    with Site() as made:
        node = made.add("node")
        node.put_image(private, f"{PRIVATE}:v1")
        made.start()
        assert node.ask(f"{path}?ns=private.test", method="HEAD").status == 200
        settings = yaml.safe_load(node.config.read_text()) | RULES
        node.config.write_text(yaml.safe_dump(settings))
        node.process.signal(signal.SIGHUP)
        wait_for(lambda: node.ask(f"{path}?ns=open.test").status == 404, "the other names get nothing")
        assert node.ask(f"{path}?ns=private.test", method="HEAD").status == 404
        assert node.ask(f"{path}?ns=private.test").body == private.manifest


def test_registries_that_decide_are_told_to_the_doctor(cluster: Cluster) -> None:
    told = cluster.holder.ask("/api/registries", port=ADMIN).json()["registries"]
    assert [(each["registry"], each["by"]) for each in told] == [
        ("open.test", "mirror"),
        ("private.test", "registry"),
    ]


def test_explanation_says_under_which_names_the_own_copy_is_given(cluster: Cluster) -> None:
    given = [cluster.holder.explain(digest_of(each))["given"] for each in _parts(cluster.private)]
    assert given == [
        "under the names of private.test/acme/app alone, as the registry decides",
        "under the names of private.test/acme/app alone, as the registry decides",
        "under the private names of private.test, as the registry decides",
    ]
    assert cluster.holder.explain(digest_of(BASE))["given"] == "under every name"
    assert cluster.holder.explain(digest_of(UNNAMED))["given"].startswith("under no name")
    assert cluster.other.explain(digest_of(BASE))["given"] is None
