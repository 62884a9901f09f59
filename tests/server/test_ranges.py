"""Ranges and conditions on blobs, alike for content of this node and for a peer's.

Source: RFC 9110, 13.1 (conditions), 14 (ranges). containerd resumes by an open-ended range.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest

from .agents import ADMIN, Image, Node, Reply, Site, digest_of, make_image

_BODY = Random(2).randbytes(200_000)
_SIZE = len(_BODY)
_DIGEST = digest_of(_BODY)
_PATH = f"/v2/library/app/blobs/{_DIGEST}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A node that has the blob, and a neighbour that has nothing."""

    holder: Node
    empty: Node


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """The two agents of this module; its tests only read."""
    with Site() as made:
        pair = Pair(holder=made.add("holder"), empty=made.add("empty"))
        pair.holder.put(_BODY)
        made.start()
        yield pair


@pytest.fixture(params=["local", "relayed"])
def node(request: pytest.FixtureRequest, pair: Pair) -> Node:
    """The node to ask: one that has the blob, and one that fetches it from the other."""
    return pair.holder if request.param == "local" else pair.empty


def _get(node: Node, **headers: str) -> Reply:
    return node.ask(_PATH, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, _SIZE),
        ("bytes=5-9", 5, 10),
        ("bytes=65535-65536", 65535, 65537),
        ("bytes=65536-199999", 65536, _SIZE),
        ("bytes=100000-", 100_000, _SIZE),
        ("bytes=199999-", _SIZE - 1, _SIZE),
        ("bytes=199990-999999", 199_990, _SIZE),
        ("bytes=-1", _SIZE - 1, _SIZE),
        ("bytes=-150000", 50_000, _SIZE),
        ("bytes=-999999", 0, _SIZE),
        ("BYTES=3-4", 3, 5),
    ],
)
def test_a_single_range_is_206_with_exactly_its_bytes(node: Node, value: str, start: int, stop: int) -> None:
    reply = _get(node, Range=value)
    assert reply.status == 206
    assert reply.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{_SIZE}"
    assert reply.headers["Docker-Content-Digest"] == _DIGEST
    assert reply.body == _BODY[start:stop]


@pytest.mark.parametrize("value", ["bytes=0-1,5-9", "bytes=0-1, -1", "lines=1-2"])
def test_several_ranges_and_foreign_units_are_answered_with_the_whole(node: Node, value: str) -> None:
    reply = _get(node, Range=value)
    assert reply.status == 200
    assert reply.headers["Content-Range"] is None
    assert reply.body == _BODY


@pytest.mark.parametrize("value", ["bytes=200000-", "bytes=200000-200001", "bytes=-0"])
def test_an_unsatisfiable_range_is_416_with_the_size(node: Node, value: str) -> None:
    reply = _get(node, Range=value)
    assert reply.status == 416
    assert reply.oci_code() == "RANGE_INVALID"
    assert reply.headers["Content-Range"] == f"bytes */{_SIZE}"


def test_an_unsatisfiable_range_is_no_fault_of_the_peers(pair: Pair) -> None:
    before = pair.empty.metric("shorthaul_peer_attempts_total", result="error")
    _get(pair.empty, Range="bytes=200000-")
    assert pair.empty.metric("shorthaul_peer_attempts_total", result="error") == before
    assert pair.empty.metric("shorthaul_peers_cooling") == 0


@pytest.mark.parametrize("value", ["bytes=x-y", "bytes=9-5", "bytes=-", "bytes=", "bytes", "bytes=1-2-3"])
def test_a_malformed_range_is_416(node: Node, value: str) -> None:
    reply = _get(node, Range=value)
    assert reply.status == 416
    assert reply.oci_code() == "RANGE_INVALID"


def test_a_malformed_range_of_a_blob_of_this_node_is_416_with_the_size(pair: Pair) -> None:
    assert _get(pair.holder, Range="bytes=x-y").headers["Content-Range"] == f"bytes */{_SIZE}"


def test_head_ignores_a_range(node: Node) -> None:
    # RFC 9110, 14.2: range handling is defined for GET only, and ignored elsewhere.
    reply = node.ask(_PATH, method="HEAD", headers={"Range": "bytes=5-9"})
    assert reply.status == 200
    assert int(reply.headers["Content-Length"]) == _SIZE


@pytest.mark.parametrize("value", [f'"{_DIGEST}"', f'W/"{_DIGEST}"', f'"x", "{_DIGEST}"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match_of_the_blob_is_304_without_a_body(node: Node, value: str, method: str) -> None:
    with node.connection() as connection:
        for _ in range(2):  # nothing of the first may be left over on the connection
            connection.request(method, _PATH, headers={"If-None-Match": value})
            reply = connection.getresponse()
            assert (reply.status, reply.read()) == (304, b"")
            assert reply.headers["ETag"] == f'"{_DIGEST}"'


@pytest.mark.parametrize("value", ['"x"', f"{_DIGEST}", f'"{digest_of(b"else")}"'])
def test_if_none_match_of_something_else_is_200(node: Node, value: str) -> None:
    assert _get(node, If_None_Match=value).body == _BODY


def test_if_none_match_of_anything_does_not_make_a_blob_exist(node: Node) -> None:
    path = f"/v2/library/app/blobs/{digest_of(b'nobody has this')}"
    assert node.ask(path, headers={"If-None-Match": "*"}).status == 404


def test_if_range_of_the_blob_gives_the_range(node: Node) -> None:
    reply = _get(node, Range="bytes=5-9", If_Range=f'"{_DIGEST}"')
    assert (reply.status, reply.body) == (206, _BODY[5:10])


@pytest.mark.parametrize("value", ['"x"', f'W/"{_DIGEST}"', "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_if_range_of_something_else_gives_the_whole(node: Node, value: str) -> None:
    for asked in ("bytes=5-9", "bytes=999999-"):
        reply = _get(node, Range=asked, If_Range=value)
        assert (reply.status, reply.body) == (200, _BODY)


def test_the_etag_of_a_reply_is_what_conditions_take(node: Node) -> None:
    etag = _get(node).headers["ETag"]
    assert _get(node, If_None_Match=etag).status == 304


def test_an_impossible_range_of_a_known_size_is_answered_without_asking_peers(site: Site) -> None:
    image: Image = make_image(b"a layer")
    holder, empty = site.add("holder"), site.add("empty")
    holder.put_image(image, "registry.test/library/app:v1")
    site.start()
    assert empty.ask("/v2/library/app/manifests/v1").body == image.manifest
    holder.stop()
    path = f"/v2/library/app/blobs/{digest_of(b'a layer')}"
    reply = empty.ask(path, headers={"Range": "bytes=7-"})
    assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */7")
    assert empty.ask("/livez", port=ADMIN).status == 200
