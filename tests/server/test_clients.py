"""Clients that pause, leave, half-close, pipeline or come in crowds: of local bodies and of relayed ones.

No client's behaviour may cost another its bytes, be blamed on a holder, or be logged as an error.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from .agents import LOCAL, Node, Site, digest_of, fresh_address, make_image, wait_for
from .faults import Holder
from .impostor import Asked, Impostor
from .wire import Ending, connected, raw_get, read_reply, read_to_end, request_bytes

_BIG_BYTES = 48 << 20  # more than the kernel's buffers of both sides take
_STALL_S = 1.5
_CONTAINERD = "containerd/2.1.9"
_PARTS = 16
_LAYER = Random(11).randbytes(1_000_000)
_BIG = Random(12).randbytes(1 << 20) * (_BIG_BYTES >> 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A node that has everything, and a neighbour that has nothing."""

    holder: Node
    empty: Node
    layer: bytes
    big: bytes


@contextlib.contextmanager
def _pair(**settings: Any) -> Iterator[Pair]:
    with Site() as site:
        holder, empty = site.add("holder", **settings), site.add("empty", **settings)
        holder.put(_LAYER, _BIG)
        site.start()
        yield Pair(holder=holder, empty=empty, layer=_LAYER, big=_BIG)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """The two agents that most tests of this module share. However busy the machine, nobody is avoided."""
    with _pair(pull={"patience_s": 5.0}, lookup={"timeout_s": 5.0}) as made:
        yield made


@pytest.fixture(scope="module")
def hasty() -> Iterator[Pair]:
    """Two agents that give up a holder after a second and a half without a byte, or below 256 KiB/s."""
    with _pair(pull={"stall_s": _STALL_S, "floor_bytes_per_s": 1 << 18}) as made:
        yield made


_WHERE = pytest.mark.parametrize("relayed", [False, True], ids=["local", "relayed"])


@pytest.fixture(params=["local", "relayed"])
def node(request: pytest.FixtureRequest, pair: Pair) -> Node:
    """The node to ask: one that has the content, and one that fetches it from the other."""
    return pair.holder if request.param == "local" else pair.empty


def _path(content: bytes) -> str:
    return f"/v2/library/app/blobs/{digest_of(content)}"


@_WHERE
def test_a_client_that_pauses_for_longer_than_a_stall_gets_the_rest_from_the_same_holder(
    hasty: Pair, relayed: bool
) -> None:
    node = hasty.empty if relayed else hasty.holder
    with connected(node.address, LOCAL, receive_bytes=262_144) as sock:
        sock.sendall(request_bytes(_path(_BIG)))
        received = sock.recv(1000)
        for _ in range(2):
            time.sleep(
                2 * _STALL_S * node.slowness
            )  # it is the client that takes no bytes, not a holder that gives none
            received += sock.recv(1 << 17)  # a tenth of the floor
        head, _, first = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        body = bytearray(first)
        while len(body) < _BIG_BYTES:
            more = sock.recv(1 << 20)
            assert more, f"ended after {len(body)} bytes"
            body += more
    assert digest_of(bytes(body)) == digest_of(_BIG)
    record = node.newest(_BIG)
    assert (record["result"], record["resumes"]) == ("ok", 0)
    assert [source["node"] for source in record["sources"]] == (["holder"] if relayed else [])


@_WHERE
def test_a_client_that_reads_slower_than_the_floor_is_no_fault_of_the_holders(
    hasty: Pair, relayed: bool
) -> None:
    node = hasty.empty if relayed else hasty.holder
    with connected(node.address, LOCAL, receive_bytes=16_384) as sock:
        sock.sendall(request_bytes(_path(_BIG)))
        until_s = time.monotonic() + 4 * _STALL_S * node.slowness
        taken = 0
        while time.monotonic() < until_s:
            taken += len(sock.recv(2048))
            time.sleep(0.02)
        assert taken > 0
    wait_for(node.is_idle, "its leaving is noticed")
    assert node.newest(_BIG)["result"] == "client_gone"
    assert node.newest(_BIG)["resumes"] == 0
    assert node.metric("shorthaul_peers_cooling") == 0
    assert node.metric("shorthaul_peer_attempts_total", result="slow") == 0


@pytest.mark.parametrize("taken_bytes", [0, 1, 65_536, 400_000])
def test_a_client_that_leaves_is_no_error_and_costs_nobody_anything(
    pair: Pair, node: Node, taken_bytes: int
) -> None:
    for _ in range(5):
        with connected(node.address, LOCAL, receive_bytes=65_536) as sock:
            sock.sendall(request_bytes(_path(pair.big)))
            got = 0
            while got < taken_bytes:
                got += len(sock.recv(1 << 16))
    wait_for(lambda: node.is_idle(), "every transfer has ended")
    assert node.metric("shorthaul_peers_cooling") == 0
    assert node.blob(pair.layer).body == pair.layer
    _no_errors(node)


def test_a_client_that_half_closes_gets_the_whole_body_and_then_the_end(pair: Pair, node: Node) -> None:
    for content in (pair.layer, pair.big):
        with connected(node.address, LOCAL) as sock:
            sock.sendall(request_bytes(_path(content)))
            sock.shutdown(socket.SHUT_WR)
            reply = read_reply(sock)
            assert (reply.status, reply.ending) == (200, Ending.WHOLE)
            assert digest_of(reply.body) == digest_of(content)
            assert read_to_end(sock) == (b"", Ending.FIN)


def test_a_client_that_half_closes_in_the_middle_gets_the_rest(pair: Pair, node: Node) -> None:
    with connected(node.address, LOCAL, receive_bytes=65_536) as sock:
        sock.sendall(request_bytes(_path(pair.big)))
        sock.recv(1000, socket.MSG_PEEK)
        sock.shutdown(socket.SHUT_WR)
        reply = read_reply(sock)
    assert (reply.status, reply.ending) == (200, Ending.WHOLE)
    assert digest_of(reply.body) == digest_of(pair.big)


def test_pipelined_parts_and_wholes_are_answered_in_order_and_exact(pair: Pair, node: Node) -> None:
    parts = [(0, 1), (65_535, 65_537), (500_000, 1_000_000), (999_999, 1_000_000), (1, 999_999)]
    requests = [
        request_bytes(_path(pair.layer), Range=f"bytes={start}-{stop - 1}") + request_bytes(_path(pair.layer))
        for start, stop in parts
    ]
    with connected(node.address, LOCAL) as sock:
        sock.sendall(b"".join(requests) + request_bytes("/v2/", Connection="close"))
        received, ending = read_to_end(sock)
    assert ending is Ending.FIN
    for start, stop in parts:
        for status, expected in ((b"206", pair.layer[start:stop]), (b"200", pair.layer)):
            head, _, rest = received.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            assert rest.startswith(expected)
            received = rest[len(expected) :]
    assert received.endswith(b"{}")


def test_a_pipelining_client_that_stops_reading_and_leaves_is_no_error(pair: Pair, node: Node) -> None:
    with connected(node.address, LOCAL, receive_bytes=65_536) as sock:
        sock.sendall(request_bytes(_path(pair.big)) * 20)
        sock.recv(1000)
    wait_for(lambda: node.is_idle(), "every transfer has ended")
    _no_errors(node)


@dataclass(slots=True)
class _Reading:
    """One client of a crowd."""

    sock: socket.socket
    received: bytearray = field(default_factory=bytearray)


def _crowd(node: Node, content: bytes, number: int, *, at_most_s: float = 60.0) -> list[bytes]:
    """What so many clients at once receive; each asks on a connection of its own, to be closed behind it."""
    asked = request_bytes(_path(content), Connection="close")
    until_s = time.monotonic() + at_most_s
    readings: list[_Reading] = []
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(number):
            sock = stack.enter_context(connected(node.address, LOCAL))
            sock.setblocking(False)
            readings.append(_Reading(sock))
            selector.register(sock, selectors.EVENT_READ, readings[-1])
        for reading in readings:
            assert reading.sock.send(asked) == len(asked)
        while selector.get_map():
            assert time.monotonic() < until_s, f"{len(selector.get_map())} of {number} not done"
            for key, _ in selector.select(1.0):
                more = key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
                key.data.received += more
                if not more:
                    selector.unregister(key.fileobj)
    return [bytes(reading.received) for reading in readings]


def test_two_hundred_clients_at_once_get_exact_bytes(pair: Pair, node: Node) -> None:
    for received in _crowd(node, pair.layer, 200):
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert digest_of(body) == digest_of(pair.layer)


def test_two_hundred_clients_of_whom_half_leave_leave_the_others_their_bytes(pair: Pair, node: Node) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            sock = stack.enter_context(connected(node.address, LOCAL, receive_bytes=16_384))
            sock.sendall(request_bytes(_path(pair.layer)))
            stack.callback(sock.close)
        leaver = threading.Thread(target=stack.pop_all().close)
        leaver.start()
        replies = _crowd(node, pair.layer, 100)
        leaver.join()
    assert {digest_of(received.partition(b"\r\n\r\n")[2]) for received in replies} == {digest_of(pair.layer)}
    wait_for(lambda: node.is_idle(), "every transfer has ended")


def _take_part(address: str, path: str, start: int, size_bytes: int) -> tuple[int, bytes]:
    """The status of an open-ended range, and its first bytes: then close, as containerd 2.1 does."""
    with connected(address, LOCAL) as sock:
        request = request_bytes(path, Range=f"bytes={start}-", User_Agent=_CONTAINERD)
        sock.sendall(request)
        received = bytearray()
        head = b""
        while not head or len(received) < size_bytes:
            more = sock.recv(1 << 16)
            if not more:
                break
            received += more
            if not head and b"\r\n\r\n" in received:
                head, _, first = bytes(received).partition(b"\r\n\r\n")
                received = bytearray(first)
                if not head.startswith((b"HTTP/1.1 206 ", b"HTTP/1.1 200 ")):
                    break
    return int(head.split()[1]) if head else 0, bytes(received[:size_bytes])


def _pull_in_parts(address: str, content: bytes) -> list[tuple[int, bytes]]:
    """A layer as containerd 2.1 fetches it: the first part first, the others side by side."""
    path, part_bytes = _path(content), len(content) // _PARTS
    results = [_take_part(address, path, 0, part_bytes)]
    results += [(0, b"")] * (_PARTS - 1)

    def take(number: int) -> None:
        results[number] = _take_part(address, path, number * part_bytes, part_bytes)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(1, _PARTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _are_right(parts: list[tuple[int, bytes]], content: bytes) -> None:
    # The first is answered with the whole layer, which containerd then fetches no further part of.
    assert [status for status, _ in parts] == [200] + [206] * (_PARTS - 1)
    part_bytes = len(content) // _PARTS
    for number, (_, part) in enumerate(parts):
        assert part == content[number * part_bytes : (number + 1) * part_bytes], f"part {number}"


def test_parts_that_are_closed_early_are_right_and_no_error(pair: Pair, node: Node) -> None:
    _are_right(_pull_in_parts(node.address, pair.big), pair.big)
    wait_for(lambda: node.is_idle(), "every transfer has ended")
    assert {record["result"] for record in node.requests()} <= {"ok", "client_gone"}
    assert node.metric("shorthaul_requests_total", result="cut") == 0
    assert node.metric("shorthaul_peers_cooling") == 0
    _no_errors(node)


def test_parts_closed_early_are_no_evidence_against_anybody_when_they_are_asked_for_again(site: Site) -> None:
    # What the client took of each, and so whether it had the whole, nobody but the client knows.
    asking, holder = site.add("asking"), site.add("holder")
    holder.put(_BIG, _LAYER)
    site.start()
    assert asking.blob(_LAYER, headers={"User-Agent": _CONTAINERD}).body == _LAYER
    asking.put(_LAYER)  # what containerd commits is seen here
    for _ in range(2):
        _are_right(_pull_in_parts(asking.address, _BIG), _BIG)
    assert asking.metric("shorthaul_suspect_sources_total") == 0


def test_a_first_part_that_nobody_has_is_a_404_at_once(pair: Pair, node: Node) -> None:
    path = f"/v2/library/app/blobs/{digest_of(b'nobody has this')}"
    questions = node.metric("shorthaul_lookup_questions_total")
    started_s = time.monotonic()
    assert raw_get(node.address, LOCAL, path, Range="bytes=0-", User_Agent=_CONTAINERD).status == 404
    held_up = "the registry is waited for by a pull that we only hold up"
    assert time.monotonic() - started_s < 9.0, held_up  # it would be for pull.deadline_s, 10 s
    assert node.metric("shorthaul_lookup_questions_total") - questions <= 2, held_up


def test_parts_are_right_while_a_holder_is_killed(site: Site) -> None:
    whole, before, meanwhile, after = (bytes((number,)) + _BIG[1:] for number in range(4))
    asking = site.add("asking", pull={"cooloff_s": 30})
    holders = [site.add(name) for name in ("first", "second")]
    for holder in holders:
        holder.put(whole, before, meanwhile, after)
    site.start()
    _are_right(_pull_in_parts(asking.address, before), before)
    parts: list[list[tuple[int, bytes]]] = []
    puller = threading.Thread(target=lambda: parts.append(_pull_in_parts(asking.address, meanwhile)))
    with connected(asking.address, LOCAL, receive_bytes=262_144) as sock:
        # A body that is on its way, so that the killed one is known to have been a source.
        sock.sendall(request_bytes(_path(whole)))
        sock.recv(1, socket.MSG_PEEK)
        serving = _sources_now(asking)
        dying = next(holder for holder in holders if holder.name in serving)
        puller.start()
        dying.stop()
        rest = read_reply(sock)
        puller.join()
    assert (rest.status, rest.ending) == (200, Ending.WHOLE)
    assert digest_of(rest.body) == digest_of(whole)
    _are_right(parts[0], meanwhile)
    _are_right(_pull_in_parts(asking.address, after), after)
    assert asking.metric("shorthaul_requests_total", result="not_found") == 0
    assert asking.metric("shorthaul_requests_total", result="cut") == 0
    _no_errors(asking)


def _sources_now(node: Node) -> str:
    """Whom the node fetches from now, as text."""
    wait_for(lambda: bool(node.transfers()["downloads"]), "it fetches")
    return str(node.transfers()["downloads"])


def test_parts_are_right_while_the_nearest_holder_breaks_every_body_in_the_middle(site: Site) -> None:
    content = Random(13).randbytes(8 << 20)
    image = make_image(content)
    asking, honest = site.add("asking", pull={"cooloff_s": 0}), site.add("honest", zone="b")
    address = fresh_address()
    site.add_member("near", address)
    honest.put(image.manifest, content)
    site.start()
    holder = Holder(content)

    def breaks(impostor: Impostor, connection: socket.socket, asked: Asked) -> None:
        if asked.method == "GET":
            # Ends the connection some time within the body, whatever part was asked for.
            timer = threading.Timer(0.002, lambda: _shut(connection))
            timer.start()
            try:
                holder.serve(impostor, connection, asked)
            finally:
                timer.join()

    with Impostor(address, breaks, questioned=holder.claim) as impostor:
        asking.wait_for_holders(image.manifest, {"honest"})
        assert asking.ask(f"/v2/library/app/manifests/{image.digest}").status == 200
        asking.wait_for_holders(content, {"honest", "near"})
        for _ in range(3):
            _are_right(_pull_in_parts(asking.address, content), content)
        assert impostor.fetches
    assert asking.metric("shorthaul_requests_total", result="not_found") == 0
    _no_errors(asking)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def test_a_range_of_one_byte_after_a_whole_body_comes_on_the_same_connection(pair: Pair, node: Node) -> None:
    with connected(node.address, LOCAL) as sock:
        for start in (0, 65_535, _BIG_BYTES - 1):
            sock.sendall(request_bytes(_path(pair.big), Range=f"bytes={start}-{start}"))
            assert read_reply(sock).body == pair.big[start : start + 1]
        sock.sendall(request_bytes(_path(pair.layer)))
        assert read_reply(sock).body == pair.layer
        sock.sendall(request_bytes(_path(pair.layer), method="HEAD"))
        assert read_reply(sock, head_only=True).promised_bytes == len(pair.layer)


def test_bodies_by_copying_are_as_exact(site: Site, pair: Pair) -> None:
    holder, empty = site.add("holder"), site.add("empty", transfer={"zero_copy": False})
    holder.put(pair.layer, pair.big)
    site.start()
    for content in (pair.layer, pair.big):
        reply = raw_get(empty.address, LOCAL, _path(content))
        assert digest_of(reply.body) == digest_of(content)
    assert empty.metric("shorthaul_sent_bytes_total", way="copy") >= _BIG_BYTES
    assert empty.metric("shorthaul_sent_bytes_total", way="splice") == 0


def test_bodies_go_by_the_ways_that_need_no_copying(pair: Pair) -> None:
    sent = {
        node.name: node.metric("shorthaul_sent_bytes_total", way=way)
        for node, way in ((pair.holder, "sendfile"), (pair.empty, "splice"))
    }
    for node in (pair.holder, pair.empty):
        raw_get(node.address, LOCAL, _path(pair.big))
    assert (
        pair.holder.metric("shorthaul_sent_bytes_total", way="sendfile") >= sent["holder"] + 0.9 * _BIG_BYTES
    )
    assert pair.empty.metric("shorthaul_sent_bytes_total", way="splice") >= sent["empty"] + 0.9 * _BIG_BYTES
    assert pair.empty.requests()[0]["way"] == "splice"
    assert pair.holder.requests()[0]["way"] == "sendfile"


def _no_errors(node: Node) -> None:
    assert node.metric("shorthaul_requests_total", result="error") == 0
    assert node.logged_errors() == []
