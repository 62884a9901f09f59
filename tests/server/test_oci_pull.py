"""The pull category of the OCI distribution conformance suite, and what a read-only mirror adds to it.

Source: opencontainers/distribution-spec 1.1, conformance/01_pull_test.go and spec.md, "Pull".
"""

import pytest

from agent.oci.manifest import OCI_INDEX, OCI_MANIFEST

from .agents import LOCAL, PEER, SERVICE, digest_of
from .conftest import Shelf

_NOBODYS = digest_of(b"nobody has this")
_LISTENERS = pytest.mark.parametrize("port", [LOCAL, SERVICE, PEER])


@_LISTENERS
def test_v2_answers_200(shelf: Shelf, port: int) -> None:
    reply = shelf.node.ask("/v2/", port=port)
    assert reply.status == 200
    assert reply.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@_LISTENERS
def test_head_of_a_nonexistent_blob_is_404(shelf: Shelf, port: int) -> None:
    reply = shelf.node.ask(f"/v2/library/app/blobs/{_NOBODYS}", method="HEAD", port=port)
    assert reply.status == 404
    assert reply.body == b""


@_LISTENERS
def test_get_of_a_nonexistent_blob_is_404_with_an_oci_error(shelf: Shelf, port: int) -> None:
    reply = shelf.node.ask(f"/v2/library/app/blobs/{_NOBODYS}", port=port)
    assert reply.status == 404
    assert reply.oci_code() == "BLOB_UNKNOWN"


@_LISTENERS
def test_head_of_an_existing_blob_has_its_size_and_digest(shelf: Shelf, port: int) -> None:
    digest = digest_of(shelf.layer)
    reply = shelf.node.ask(f"/v2/library/app/blobs/{digest}", method="HEAD", port=port)
    assert reply.status == 200
    assert reply.body == b""
    assert reply.headers["Docker-Content-Digest"] == digest
    assert int(reply.headers["Content-Length"]) == len(shelf.layer)


@_LISTENERS
def test_get_of_an_existing_blob_has_its_bytes(shelf: Shelf, port: int) -> None:
    reply = shelf.node.blob(shelf.layer, port=port)
    assert reply.status == 200
    assert reply.body == shelf.layer
    assert reply.headers["Docker-Content-Digest"] == digest_of(shelf.layer)
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers["Shorthaul-Source"].startswith("node=shelf; tier=node; reason=")
    assert reply.headers["Content-Encoding"] is None


def test_an_empty_blob_is_served(shelf: Shelf) -> None:
    reply = shelf.node.blob(b"")
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("reference", [".INVALID_MANIFEST_NAME", "no-such-tag", _NOBODYS])
def test_a_nonexistent_manifest_is_404(shelf: Shelf, method: str, reference: str) -> None:
    reply = shelf.node.ask(f"/v2/library/app/manifests/{reference}", method=method)
    assert reply.status == 404
    if method == "GET":
        assert reply.oci_code() == "MANIFEST_UNKNOWN"


@_LISTENERS
@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("by", ["digest", "tag"])
def test_an_existing_manifest_has_its_media_type_length_and_digest(
    shelf: Shelf, port: int, method: str, by: str
) -> None:
    reference = shelf.image.digest if by == "digest" else "v1"
    reply = shelf.node.ask(f"/v2/library/app/manifests/{reference}", method=method, port=port)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == OCI_MANIFEST
    assert reply.headers["Docker-Content-Digest"] == shelf.image.digest
    assert int(reply.headers["Content-Length"]) == len(shelf.image.manifest) > 0
    assert reply.body == (shelf.image.manifest if method == "GET" else b"")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_accept_that_excludes_the_type_is_honoured_as_registries_do(shelf: Shelf, method: str) -> None:
    for by in (shelf.image.digest, "v1"):
        path = f"/v2/library/app/manifests/{by}"
        for accept in (OCI_INDEX, f"{OCI_MANIFEST};q=0, */*"):
            refused = shelf.node.ask(path, method=method, headers={"Accept": accept})
            assert refused.status == 404
        for accept in (OCI_MANIFEST, "*/*", f"{OCI_INDEX}, {OCI_MANIFEST}"):
            assert shelf.node.ask(path, method=method, headers={"Accept": accept}).status == 200
    refused = shelf.node.ask(f"/v2/library/app/manifests/{shelf.image.digest}", headers={"Accept": OCI_INDEX})
    assert refused.oci_code() == "MANIFEST_UNKNOWN"
    assert "accept" in refused.body.decode().lower()


def test_manifests_are_sent_whole_and_do_not_promise_ranges(shelf: Shelf) -> None:
    path = f"/v2/library/app/manifests/{shelf.image.digest}"
    reply = shelf.node.ask(path, headers={"Range": "bytes=1-2"})
    assert (reply.status, reply.body) == (200, shelf.image.manifest)
    assert reply.headers["Accept-Ranges"] is None


def test_a_blob_that_is_no_manifest_is_no_manifest(shelf: Shelf) -> None:
    reply = shelf.node.ask(f"/v2/library/app/manifests/{digest_of(shelf.layer)}")
    assert reply.status == 404
    assert reply.oci_code() == "MANIFEST_UNKNOWN"


def test_a_manifest_is_also_a_blob(shelf: Shelf) -> None:
    reply = shelf.node.blob(shelf.image.manifest)
    assert (reply.status, reply.body) == (200, shelf.image.manifest)


def test_no_reply_is_compressed_even_when_the_client_would_take_it(shelf: Shelf) -> None:
    accepts = {"Accept-Encoding": "zstd, gzip, deflate"}
    reply = shelf.node.ask(f"/v2/library/app/manifests/{shelf.image.digest}", headers=accepts)
    assert reply.headers["Content-Encoding"] is None
    assert reply.body == shelf.image.manifest


@_LISTENERS
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v2/library/app/manifests/v2"),
        ("PUT", "/v2/library/app/manifests/sha256:totallywrong"),
        ("POST", "/v2/library/app/blobs/uploads/"),
        ("PATCH", "/v2/library/app/blobs/uploads/1"),
        ("DELETE", f"/v2/library/app/blobs/{_NOBODYS}"),
        ("DELETE", "/v2/library/app/manifests/v1"),
    ],
)
def test_a_write_is_refused_with_an_oci_error(shelf: Shelf, port: int, method: str, path: str) -> None:
    reply = shelf.node.ask(path, method=method, body=b"content" if method != "DELETE" else None, port=port)
    assert reply.status == 405
    assert reply.oci_code() == "UNSUPPORTED"
    assert reply.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path", ["/v2/_catalog", "/v2/library/app/tags/none", "/v2/library/app/blobs", "/", "/v1/x", "/v2x"]
)
def test_an_endpoint_that_a_mirror_does_not_have_is_404_with_an_oci_error(shelf: Shelf, path: str) -> None:
    reply = shelf.node.ask(path)
    assert reply.status == 404
    assert reply.oci_code() == "NAME_UNKNOWN"


@pytest.mark.parametrize("port", [LOCAL, SERVICE])
def test_questions_about_holders_are_answered_on_the_peer_listener_only(shelf: Shelf, port: int) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    reply = shelf.node.ask("/shorthaul/v1/holders", port=port, headers=upgrade)
    assert (reply.status, reply.oci_code()) == (404, "NAME_UNKNOWN")


def test_the_registry_of_ns_chooses_the_image_of_a_tag(shelf: Shelf) -> None:
    for registry, image in (("registry.test", shelf.image), ("other.test", shelf.other)):
        reply = shelf.node.ask(f"/v2/library/shared/manifests/v1?ns={registry}")
        assert (reply.status, reply.body) == (200, image.manifest)


def test_a_tag_that_one_registry_has_needs_no_ns(shelf: Shelf) -> None:
    assert shelf.node.ask("/v2/library/app/manifests/v1").body == shelf.image.manifest


def test_a_tag_that_two_registries_have_is_404_without_ns_and_names_both(shelf: Shelf) -> None:
    reply = shelf.node.ask("/v2/library/shared/manifests/v1")
    assert reply.status == 404
    assert reply.oci_code() == "MANIFEST_UNKNOWN"
    assert b"other.test" in reply.body
    assert b"registry.test" in reply.body


def test_an_unknown_registry_has_no_tags_here(shelf: Shelf) -> None:
    reply = shelf.node.ask("/v2/library/app/manifests/v1?ns=unknown.test")
    assert (reply.status, reply.oci_code()) == (404, "MANIFEST_UNKNOWN")


def test_a_digest_is_served_whatever_registry_it_is_asked_of(shelf: Shelf) -> None:
    reply = shelf.node.ask(f"/v2/any/name/blobs/{digest_of(shelf.layer)}?ns=unknown.test")
    assert (reply.status, reply.body) == (200, shelf.layer)


def test_the_tags_of_a_repository_that_this_node_knows_are_listed_in_order(shelf: Shelf) -> None:
    reply = shelf.node.ask("/v2/library/app/tags/list")
    assert reply.status == 200
    assert reply.json() == {"name": "library/app", "tags": ["v0", "v1"]}, "latest would not be answered"
    assert shelf.node.ask("/v2/library/app/tags/list?n=1").json()["tags"] == ["v0"]
    assert shelf.node.ask("/v2/library/app/tags/list?n=1&last=v0").json()["tags"] == ["v1"]
    assert shelf.node.ask("/v2/library/app/tags/list?n=0").json()["tags"] == []


def test_referrers_of_a_bad_digest_are_400_and_of_an_unknown_one_an_empty_index(shelf: Shelf) -> None:
    assert shelf.node.ask("/v2/library/app/referrers/sha256:x").oci_code() == "DIGEST_INVALID"
    reply = shelf.node.ask(f"/v2/library/app/referrers/{_NOBODYS}")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
    assert reply.json()["manifests"] == []
