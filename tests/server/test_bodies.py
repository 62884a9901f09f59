"""Bodies arrive exact: by sendfile from this node's store, by relay from a peer's, under any client."""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from .agents import LOCAL, PEER, SERVICE, Image, Node, Site, digest_of, make_image, wait_for
from .proofs import OPEN
from .websocket import questioning
from .wire import Ending, connected, read_reply, read_to_end, request_bytes

PEERING = OPEN  # some of these tests ask the peer listener, and are no peers

_BIG_BYTES = 48 << 20  # more than the kernel's buffers of both sides take
_SIZES = [0, 1, 16_383, 16_384, 16_385, 300_000, 1 << 20, 3_000_001]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A node that has everything, and a neighbour that has nothing."""

    holder: Node
    empty: Node
    blobs: tuple[bytes, ...]
    image: Image
    big: bytes


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """The two agents that most tests of this module share."""
    randomness = Random(3)
    blobs = tuple(randomness.randbytes(size) for size in _SIZES)
    big = randomness.randbytes(1 << 20) * (_BIG_BYTES >> 20)
    image = make_image(randomness.randbytes(100_000), randomness.randbytes(2_000_000))
    with Site(PEERING) as made:
        pair = Pair(
            holder=made.add("holder"),
            empty=made.add("empty"),
            blobs=blobs,
            image=image,
            big=big,
        )
        pair.holder.put(big, *blobs)
        pair.holder.put_image(image, "registry.test/library/app:v1")
        made.start()
        yield pair


@pytest.fixture(params=["local", "relayed"])
def node(request: pytest.FixtureRequest, pair: Pair) -> Node:
    """The node to ask: one that has the content, and one that fetches it from the other."""
    return pair.holder if request.param == "local" else pair.empty


def _path(content: bytes) -> str:
    return f"/v2/library/app/blobs/{digest_of(content)}"


def test_many_blobs_over_one_connection_are_exact(pair: Pair, node: Node) -> None:
    with node.connection() as connection:
        connection.connect()
        first_socket = connection.sock
        for _ in range(6):
            for content in pair.blobs:
                connection.request("GET", _path(content))
                reply = connection.getresponse()
                assert reply.status == 200
                assert reply.read() == content
                connection.request("HEAD", _path(content))
                reply = connection.getresponse()
                assert (reply.read(), int(reply.headers["Content-Length"])) == (b"", len(content))
        assert connection.sock is first_socket, "the connection was not kept"


def test_head_and_first_bytes_come_together(pair: Pair, node: Node) -> None:
    """One message wakes the reader once. The other agent is such a reader."""
    for content in pair.blobs[5:]:
        with connected(node.address, LOCAL) as sock:
            sock.sendall(request_bytes(_path(content), Connection="close"))
            head, _, first = sock.recv(1 << 16).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert first
            assert content.startswith(first[: 16 << 10])


def test_pipelined_requests_are_answered_in_order_and_exact(pair: Pair, node: Node) -> None:
    with connected(node.address, LOCAL) as sock:
        sock.sendall(b"".join(request_bytes(_path(content)) for content in pair.blobs))
        sock.sendall(request_bytes("/v2/", Connection="close"))
        received, ending = read_to_end(sock)
    assert ending is Ending.FIN
    for content in pair.blobs:
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert rest[: len(content)] == content
        received = rest[len(content) :]
    assert received.endswith(b"{}")


def test_a_slow_reader_gets_exact_bytes(pair: Pair, node: Node) -> None:
    content = pair.blobs[-1]
    with connected(node.address, LOCAL, receive_bytes=8192) as sock:
        sock.sendall(request_bytes(_path(content)))
        time.sleep(0.3)  # let every buffer on the way fill up
        assert read_reply(sock).body == content


def test_many_clients_at_once_get_exact_bytes(pair: Pair, node: Node) -> None:
    content = pair.blobs[-1]
    bodies: list[bytes] = []

    def fetch() -> None:
        for _ in range(3):
            bodies.append(node.blob(content).body)

    threads = [threading.Thread(target=fetch) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bodies) == 36
    assert set(bodies) == {content}


def test_a_big_body_is_exact(pair: Pair, node: Node) -> None:
    body = node.blob(pair.big).body
    assert hashlib.sha256(body).digest() == hashlib.sha256(pair.big).digest()


@pytest.mark.parametrize("port", [LOCAL, SERVICE])
def test_a_peers_bodies_hash_right_and_name_their_source(pair: Pair, port: int) -> None:
    for content in pair.blobs:
        reply = pair.empty.blob(content, port=port)
        assert reply.status == 200
        assert reply.body == content
        assert reply.headers["Docker-Content-Digest"] == digest_of(content)
        assert reply.headers["Shorthaul-Source"].startswith("node=holder; tier=zone; reason=")


@pytest.mark.parametrize("reference", ["v1", "digest"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_peers_manifest_comes_with_its_media_type_and_digest(
    pair: Pair, reference: str, method: str
) -> None:
    image = pair.image
    path = (
        f"/v2/library/app/manifests/{image.digest if reference == 'digest' else reference}?ns=registry.test"
    )
    reply = pair.empty.ask(path, method=method)
    assert reply.status == 200
    assert reply.headers["Docker-Content-Digest"] == image.digest
    assert reply.headers["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
    assert int(reply.headers["Content-Length"]) == len(image.manifest)
    assert reply.body == (image.manifest if method == "GET" else b"")


def test_a_whole_image_can_be_pulled_through_a_node_that_has_none_of_it(pair: Pair) -> None:
    base = "/v2/library/app"
    digest = pair.empty.ask(f"{base}/manifests/v1", method="HEAD").headers["Docker-Content-Digest"]
    manifest = pair.empty.ask(f"{base}/manifests/{digest}")
    document = manifest.json()
    for descriptor in (document["config"], *document["layers"]):
        reply = pair.empty.ask(f"{base}/blobs/{descriptor['digest']}")
        assert digest_of(reply.body) == descriptor["digest"]


def test_the_peer_listener_answers_from_this_node_only(pair: Pair) -> None:
    content = pair.blobs[5]
    assert pair.empty.blob(content, port=LOCAL).status == 200
    for method in ("GET", "HEAD"):
        assert pair.empty.blob(content, port=PEER, method=method).status == 404
    for reference in ("v1", pair.image.digest):
        reply = pair.empty.ask(f"/v2/library/app/manifests/{reference}", port=PEER)
        assert (reply.status, reply.oci_code()) == (404, "MANIFEST_UNKNOWN")


def test_a_question_about_holders_is_answered_from_this_node_only(pair: Pair) -> None:
    digests, tags = [digest_of(pair.blobs[5])], [[None, "library/app", "v1"]]
    assert pair.empty.blob(pair.blobs[5]).status == 200
    with questioning(pair.empty.address) as questioner:
        assert questioner.ask(digests=digests, tags=tags) == {"held": [], "tags": []}
    with questioning(pair.holder.address) as questioner:
        held = questioner.ask(digests=digests, tags=tags)
    assert held["held"] == [0]
    assert held["tags"][0][:2] == [["registry.test", "library/app", "v1"], pair.image.digest]


@pytest.mark.parametrize("relayed", [False, True], ids=["local", "relayed"])
def test_a_client_that_stops_reading_is_cut_within_send_stall_s(
    site: Site, pair: Pair, relayed: bool
) -> None:
    settings: dict[str, Any] = {"http": {"send_stall_s": 1.0}}
    holder, empty = site.add("holder", **settings), site.add("empty", **settings)
    holder.put(pair.big)
    site.start()
    node = empty if relayed else holder
    with connected(node.address, LOCAL, receive_bytes=65_536) as sock:
        sock.sendall(request_bytes(_path(pair.big)))
        sock.recv(1000)
        wait_for(
            lambda: _newest(node, digest_of(pair.big))["result"] == "client_gone",
            "the client is given up",
        )
        received, ending = read_to_end(sock)
        assert ending is not Ending.SILENT
        assert len(received) < _BIG_BYTES


def test_a_client_that_goes_away_ends_its_request(pair: Pair, node: Node) -> None:
    before = len(node.requests())
    for _ in range(20):
        with connected(node.address, LOCAL, receive_bytes=65_536) as sock:
            sock.sendall(request_bytes(_path(pair.big)))
            sock.recv(1000)
    wait_for(lambda: len(node.requests()) >= min(before + 20, 512), "each request is over")
    assert node.blob(pair.blobs[5]).body == pair.blobs[5]


def test_requests_that_break_off_leak_no_descriptors(pair: Pair, node: Node) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{node.process.pid}/fd"))  # noqa: PTH208 - names only, as a count

    node.blob(pair.blobs[5])
    time.sleep(0.1)
    before = descriptors()
    for _ in range(60):
        with connected(node.address, LOCAL, receive_bytes=65_536) as sock:
            sock.sendall(request_bytes(_path(pair.big)))
            sock.recv(1000)
    # Peers' connections may stay open for the next request, a bounded few of them.
    wait_for(lambda: descriptors() <= before + 4, f"descriptors back at {before}", at_most_s=12.0)


def test_a_file_that_shrinks_under_a_download_ends_it_short_by_a_fin(site: Site) -> None:
    node = site.add("alone")
    content = b"\1" * (32 << 20)
    node.put(content)
    site.start()
    with connected(node.address, LOCAL, receive_bytes=65_536) as sock:
        sock.sendall(request_bytes(_path(content)))
        sock.recv(1000, socket.MSG_PEEK)
        os.truncate(node.path_of(content), 1 << 20)
        reply = read_reply(sock)
    assert (reply.status, reply.ending) == (200, Ending.FIN)
    assert len(reply.body) < reply.promised_bytes == len(content)
    assert node.requests()[0]["result"] == "cut"


def test_a_file_that_is_removed_under_a_download_is_sent_to_its_end(site: Site) -> None:
    node = site.add("alone")
    content = b"\2" * (32 << 20)
    node.put(content)
    site.start()
    with connected(node.address, LOCAL, receive_bytes=65_536) as sock:
        sock.sendall(request_bytes(_path(content)))
        sock.recv(1000, socket.MSG_PEEK)
        node.path_of(content).unlink()
        assert read_reply(sock).body == content
    assert node.blob(content).status == 404


def test_a_blob_that_comes_and_goes_is_served_and_404_at_once(site: Site) -> None:
    holder, empty = site.add("holder"), site.add("empty")
    site.start()
    content = b"came later"
    holder.put(content)
    wait_for(lambda: empty.blob(content).status == 200, "the neighbour finds it")
    Path(holder.path_of(content)).unlink()
    wait_for(lambda: not holder.explain(digest_of(content))["local"], "its going is noticed")
    assert holder.blob(content).status == 404
    assert empty.blob(content).status == 404


def test_a_member_that_joins_is_found_without_a_restart(site: Site) -> None:
    empty = site.add("empty")
    site.start()
    content = b"on the one that joins"
    assert empty.blob(content).status == 404
    joined = site.add("joined")
    joined.put(content)
    site.start([joined])
    wait_for(lambda: empty.blob(content).body == content, "the member is known")


def test_connection_close_is_honoured_by_a_fin_behind_the_whole_body(pair: Pair, node: Node) -> None:
    with connected(node.address, LOCAL) as sock:
        sock.sendall(request_bytes(_path(pair.blobs[5]), Connection="close"))
        reply = read_reply(sock)
        assert (reply.body, reply.ending) == (pair.blobs[5], Ending.WHOLE)
        assert read_to_end(sock) == (b"", Ending.FIN)


def _newest(node: Node, digest: str) -> dict[str, object]:
    return next((r for r in node.requests() if digest in r["target"]), {"result": None})
