"""How many bodies a node sends to peers at once, who waits for whom, and the limits on bytes by time.

The holder answers at once and never queues; the asker goes to the next holder, or comes back when the
only one has room.
"""

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from .agents import LOCAL, PEER, SLOWNESS, Node, Site, digest_of, fresh_address, wait_for
from .faults import Fault, Holder, Kind, asked_for
from .impostor import Behaviour, Impostor, response, says
from .proofs import OPEN
from .wire import Ending, connected, raw_get, read_reply, request_bytes

PEERING = OPEN  # some of these tests ask the peer listener, and are no peers

_BIG_BYTES = 24 << 20  # more than the kernel's buffers of both sides take
_BIG = Random(21).randbytes(1 << 20) * (_BIG_BYTES >> 20)
_SMALL = Random(22).randbytes(1 << 20)
_PATIENT_S = 20.0  # a few times what the agent may wait here; containerd itself would wait for 320 s
_AGENT, _CONTAINERD = "shorthaul", "containerd/2.1.9"


def _path(content: bytes) -> str:
    return f"/v2/library/app/blobs/{digest_of(content)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The head of an answer; its body is still on the way, unread."""

    status: int
    headers: http.client.HTTPMessage
    sock: socket.socket


def _ask(
    stack: ExitStack,
    node: Node,
    content: bytes,
    *,
    source: str,
    agent: str = _AGENT,
    port: int = PEER,
    **more: str,
) -> Answer:
    """Ask as the node with that address does, and read only the answer's head."""
    sock = stack.enter_context(connected(node.address, port, receive_bytes=65_536, source=source))
    sock.sendall(request_bytes(_path(content), User_Agent=agent, **more))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        received = sock.recv(1)
        assert received, f"closed in the head: {head!r}"
        head += received
    status_line, _, lines = head.partition(b"\r\n")
    headers = http.client.parse_headers(io.BytesIO(lines))
    return Answer(status=int(status_line.split()[1]), headers=headers, sock=sock)


def _is_refused(answer: Answer) -> None:
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert int(answer.headers["Shorthaul-Wait-Ms"]) > 0


def _holder(site: Site, **transfer: Any) -> Node:
    node = site.add("holder", transfer=transfer, latency={"measure": False})
    node.put(_BIG, _SMALL)
    site.start()
    return node


def test_a_peer_beyond_uploads_max_is_refused_at_once_and_let_in_later(site: Site) -> None:
    node = _holder(site, uploads_max=2)
    one, two = fresh_address(), fresh_address()
    with ExitStack() as stack:
        taken = [_ask(stack, node, _BIG, source=source) for source in (one, two)]
        assert [answer.status for answer in taken] == [200, 200]
        assert node.metric("shorthaul_uploads") == 2
        assert 0 < node.metric("shorthaul_upload_bytes_in_flight") <= 2 * _BIG_BYTES
        assert len(node.transfers()["uploads"]) == 2
        refused = _ask(stack, node, _BIG, source=fresh_address())
        _is_refused(refused)
        assert node.metric("shorthaul_uploads_refused_total") == 1
        taken[0].sock.close()

        def is_let_in() -> bool:
            with ExitStack() as short:
                return _ask(short, node, _SMALL, source=one).status == 200

        wait_for(is_let_in, "there is room again")
    wait_for(lambda: node.metric("shorthaul_uploads") == 0, "every upload has ended")
    assert node.metric("shorthaul_upload_bytes_in_flight") == 0
    assert node.logged_errors() == []


def test_a_refusal_is_an_oci_error(site: Site) -> None:
    node = _holder(site, uploads_max=1)
    with ExitStack() as stack:
        assert _ask(stack, node, _BIG, source=fresh_address()).status == 200
        reply = node.blob(_SMALL, port=PEER, headers={"User-Agent": _AGENT})
        assert (reply.status, reply.oci_code()) == (429, "TOOMANYREQUESTS")


def test_a_client_that_was_sent_here_is_told_503_so_that_it_goes_on(site: Site) -> None:
    node = _holder(site, uploads_max=1)
    with ExitStack() as stack:
        assert _ask(stack, node, _BIG, source=fresh_address(), agent=_CONTAINERD).status == 200
        for agent in (_CONTAINERD, "curl/8"):
            reply = node.blob(_BIG, port=PEER, headers={"User-Agent": agent})
            assert reply.status == 503
            assert reply.json()["errors"]


def test_clients_of_this_node_are_never_refused_for_the_sake_of_peers(site: Site) -> None:
    node = _holder(site, uploads_max=1, upload_bytes_max=1)
    with ExitStack() as stack:
        assert _ask(stack, node, _BIG, source=fresh_address()).status == 200
        held = [
            _ask(stack, node, _BIG, source=fresh_address(), port=LOCAL, agent=agent)
            for agent in (_AGENT, _CONTAINERD, "curl/8")
        ]
        assert [answer.status for answer in held] == [200, 200, 200]
        assert raw_get(node.address, LOCAL, _path(_BIG)).body == _BIG
        assert node.metric("shorthaul_uploads") == 1


def test_questions_are_answered_while_nobody_else_is_let_in(site: Site) -> None:
    asking, node = site.add("asking"), site.add("holder", transfer={"uploads_max": 1})
    node.put(_BIG)
    site.start()
    with ExitStack() as stack:
        assert _ask(stack, node, _BIG, source=fresh_address()).status == 200
        holders = [holder["node"] for holder in asking.explain(digest_of(_BIG))["holders"]]
        assert holders == ["holder"]


def test_bodies_are_let_in_by_their_bytes_each_as_a_quarter_at_most(site: Site) -> None:
    node = _holder(site, upload_bytes_max=_BIG_BYTES)
    with ExitStack() as stack:
        for _ in range(4):
            assert _ask(stack, node, _BIG, source=fresh_address()).status == 200
        for content in (_BIG, _SMALL):
            _is_refused(_ask(stack, node, content, source=fresh_address()))


def test_one_body_is_let_in_beyond_any_bound(site: Site) -> None:
    node = _holder(site, upload_bytes_max=1, uploads_max=1)
    assert raw_get(node.address, PEER, _path(_BIG), User_Agent=_AGENT).body == _BIG
    with ExitStack() as stack:
        assert _ask(stack, node, _BIG, source=fresh_address()).status == 200
        _is_refused(_ask(stack, node, _SMALL, source=fresh_address()))


def test_once_half_is_used_no_peer_gets_more_than_an_equal_share(site: Site) -> None:
    node = _holder(site, uploads_max=8)
    greedy, modest = fresh_address(), fresh_address()
    with ExitStack() as stack:
        assert [_ask(stack, node, _BIG, source=greedy).status for _ in range(4)] == [200] * 4
        assert _ask(stack, node, _BIG, source=modest).status == 200
        _is_refused(_ask(stack, node, _BIG, source=greedy))
        assert _ask(stack, node, _BIG, source=modest).status == 200


def test_the_last_quarter_is_for_those_who_have_none_yet(site: Site) -> None:
    node = _holder(site, uploads_max=4)
    alone = fresh_address()
    with ExitStack() as stack:
        assert [_ask(stack, node, _BIG, source=alone).status for _ in range(3)] == [200] * 3
        _is_refused(_ask(stack, node, _BIG, source=alone))
        assert _ask(stack, node, _BIG, source=fresh_address()).status == 200
        _is_refused(_ask(stack, node, _BIG, source=fresh_address()))


def test_an_upload_ends_with_its_client(site: Site) -> None:
    node = _holder(site, uploads_max=1)
    for _ in range(5):
        with ExitStack() as stack:
            assert _ask(stack, node, _BIG, source=fresh_address()).status == 200
        wait_for(lambda: node.metric("shorthaul_uploads") == 0, "the upload has ended")
    assert node.metric("shorthaul_upload_bytes_in_flight") == 0


def test_five_nodes_are_each_sent_a_blob_in_twenty_open_ended_chunks(site: Site) -> None:
    node = _holder(site, uploads_max=6, upload_bytes_max=8 * _BIG_BYTES)
    with ExitStack() as stack:
        for source in [fresh_address() for _ in range(5)]:
            for number in range(20):
                chunk = f"bytes={number << 20}-"
                assert _ask(stack, node, _BIG, source=source, Range=chunk).status == 206
        assert node.metric("shorthaul_uploads") == 5
        assert node.metric("shorthaul_uploads_refused_total") == 0
        assert node.metric("shorthaul_upload_bytes_in_flight") <= 5 * _BIG_BYTES
    wait_for(lambda: node.metric("shorthaul_uploads") == 0, "every upload has ended")


def test_next_chunk_is_let_in_while_nobody_else_is(site: Site) -> None:
    node = _holder(site, uploads_max=1)
    with ExitStack() as stack:
        source = fresh_address()
        half = _BIG_BYTES // 2
        first = _ask(stack, node, _BIG, source=source, Range=f"bytes=0-{half - 1}")
        second = _ask(stack, node, _BIG, source=source, Range=f"bytes={half}-{_BIG_BYTES - 1}")
        assert (first.status, second.status) == (206, 206)
        _is_refused(_ask(stack, node, _SMALL, source=source, Range="bytes=0-65535"))
        _is_refused(_ask(stack, node, _BIG, source=fresh_address(), Range="bytes=0-65535"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trio:
    """The asking node, the address of a near holder, and an honest one further away."""

    asking: Node
    honest: Node
    address: str


@pytest.fixture(scope="module")
def trio() -> Iterator[Trio]:
    """The agents that the askers' tests share."""
    with Site() as site:
        pull = {"deadline_s": 3.0, "stall_s": 1.0, "cooloff_s": 0, "floor_ratio": 0.01}
        asking = site.add("asking", pull=pull, latency={"measure": False})
        honest, address = site.add("honest", zone="b"), fresh_address()
        site.add_member("near", address)
        site.start()
        yield Trio(asking=asking, honest=honest, address=address)


@pytest.mark.parametrize("zone", ["a", "b"], ids=["the same zone", "another zone"])
def test_an_asker_goes_to_the_next_holder_and_remembers(site: Site, zone: str) -> None:
    contents = [Random(f"remember {number}").randbytes(400_000) for number in range(12)]
    address = fresh_address()
    asking, honest = site.add("asking", latency={"measure": False}), site.add("honest", zone=zone)
    site.add_member("near", address)
    honest.put(*contents)
    site.start()
    busy = says(response(429, Retry_After="20", Shorthaul_Wait_Ms="20000"))
    with Impostor(address, busy, questioned=Holder(*contents).claim) as impostor:
        started_s = time.monotonic()
        for content in contents:
            asking.wait_for_holders(content, {"honest", "near"})
            assert asking.blob(content).body == content
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
        assert len(impostor.fetches) == 1, "it was asked although it had said when to come back"
    assert asking.metric("shorthaul_peers_cooling") == 0, "busy is not ill"


def test_an_asker_comes_back_to_the_only_holder_not_before_it_may(trio: Trio) -> None:
    content = Random("comes back").randbytes(400_000)
    holder = Holder()
    holder.put(content, faults=(Fault(kind=Kind.BUSY),) * 3)  # each says 50 ms
    with Impostor(trio.address, holder.serve, questioned=holder.claim) as impostor:
        trio.asking.wait_for_holders(content, {"near"})
        reply = raw_get(trio.asking.address, LOCAL, _path(content))
        assert (reply.status, reply.ending) == (200, Ending.WHOLE)
        assert reply.body == content
        asked_s = [asked.at_s for asked in asked_for(impostor, content)]
        assert len(asked_s) == 4
        assert all(later - sooner >= 0.045 for sooner, later in pairwise(asked_s))


def test_an_asker_comes_back_for_the_rest_of_a_body(trio: Trio) -> None:
    content = Random("rest").randbytes(3 << 20)
    holder = Holder()
    # More than a MiB came before it broke, so that it may be asked once more.
    holder.put(content, faults=(Fault(kind=Kind.CLOSES, at=2 << 20), Fault(kind=Kind.BUSY)))
    with Impostor(trio.address, holder.serve, questioned=holder.claim) as impostor:
        trio.asking.wait_for_holders(content, {"near"})
        reply = raw_get(trio.asking.address, LOCAL, _path(content))
        assert (reply.status, reply.ending) == (200, Ending.WHOLE)
        assert reply.body == content
        assert len(asked_for(impostor, content)) == 3


_WAITS: dict[str, Behaviour] = {
    "nothing": says(response(429)),
    "zero": says(response(429, Retry_After="0", Shorthaul_Wait_Ms="0")),
    "negative": says(response(429, Retry_After="-1", Shorthaul_Wait_Ms="-1000")),
    "endless": says(response(429, Retry_After="9" * 40, Shorthaul_Wait_Ms="9" * 40)),
    "no numbers": says(response(429, Retry_After="soon", Shorthaul_Wait_Ms="NaN")),
    "infinite": says(response(429, Retry_After="inf", Shorthaul_Wait_Ms="inf")),
    "a date": says(response(429, Retry_After="Wed, 21 Oct 2065 07:28:00 GMT")),
    "other digits": says(response(429, Retry_After="\xb2", Shorthaul_Wait_Ms="\xb2")),
    "half a second": says(response(429, Retry_After="1", Shorthaul_Wait_Ms="500")),
}


@pytest.mark.parametrize("wait", _WAITS)
def test_the_only_holder_stays_busy_and_that_is_a_404_by_the_deadline(trio: Trio, wait: str) -> None:
    content = Random(f"busy {wait}").randbytes(400_000)
    with Impostor(trio.address, _WAITS[wait], questioned=Holder(content).claim) as impostor:
        trio.asking.wait_for_holders(content, {"near"})
        started_s = time.monotonic()
        reply = raw_get(trio.asking.address, LOCAL, _path(content))
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
        assert (reply.status, reply.ending) == (404, Ending.WHOLE)
        assert 1 <= len(impostor.fetches) <= 50 * trio.asking.slowness


@pytest.mark.parametrize("wait", _WAITS)
def test_however_a_holder_is_busy_the_other_one_is_asked(trio: Trio, wait: str) -> None:
    content = Random(f"busy, not alone {wait}").randbytes(400_000)
    trio.honest.put(content)
    with Impostor(trio.address, _WAITS[wait], questioned=Holder(content).claim):
        trio.asking.wait_for_holders(content, {"honest", "near"})
        started_s = time.monotonic()
        assert trio.asking.blob(content).body == content
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor


def test_a_crowd_gets_its_bytes_from_the_only_holder_that_serves_two_at_a_time(site: Site) -> None:
    asking = site.add("asking", pull={"deadline_s": 20})
    holder = site.add("holder", transfer={"uploads_max": 2})
    content = Random(23).randbytes(4 << 20)
    holder.put(content)
    site.start()
    bodies: list[bytes] = []

    def take() -> None:
        bodies.append(asking.blob(content, timeout_s=60.0).body)

    threads = [threading.Thread(target=take) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [digest_of(body) for body in bodies] == [digest_of(content)] * 12
    assert asking.metric("shorthaul_peers_cooling") == 0
    assert asking.metric("shorthaul_requests_total", result="cut") == 0


_RATE = 4 << 20
_LIMITED = Random(24).randbytes(8 << 20)
_LEAST_S = (len(_LIMITED) - _RATE) / _RATE  # what a burst of a whole second leaves to be waited for


def test_what_all_peers_are_sent_keeps_to_the_limit(site: Site) -> None:
    node = site.add("holder", transfer={"upload_bytes_per_s": _RATE})
    halves = _LIMITED[: 4 << 20], _LIMITED[4 << 20 :]
    node.put(*halves)
    site.start()
    replies: list[bytes] = []

    def take(content: bytes) -> None:
        replies.append(raw_get(node.address, PEER, _path(content), User_Agent=_AGENT).body)

    threads = [threading.Thread(target=take, args=(half,)) for half in halves]
    started_s = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started_s >= _LEAST_S
    assert sorted(replies) == sorted(halves)


@pytest.mark.parametrize("zero_copy", [True, False], ids=["spliced", "copied"])
def test_what_is_fetched_from_peers_keeps_to_the_limit(site: Site, zero_copy: bool) -> None:
    asking = site.add("asking", transfer={"download_bytes_per_s": _RATE, "zero_copy": zero_copy})
    holder = site.add("holder")
    holder.put(_LIMITED)
    site.start()
    started_s = time.monotonic()
    reply = raw_get(asking.address, LOCAL, _path(_LIMITED))
    assert time.monotonic() - started_s >= _LEAST_S
    assert (reply.ending, digest_of(reply.body)) == (Ending.WHOLE, digest_of(_LIMITED))


def test_local_hits_are_not_limited(site: Site) -> None:
    node = _holder(site, upload_bytes_per_s=131_072, download_bytes_per_s=131_072)
    # Minutes if it were.
    assert raw_get(node.address, LOCAL, _path(_BIG)).body == _BIG


def test_a_limit_of_our_own_is_not_blamed_on_the_holder(site: Site) -> None:
    content = Random(25).randbytes(400_000)
    asking = site.add(
        "asking",
        transfer={"download_bytes_per_s": 150_000},
        pull={"stall_s": 0.5, "floor_bytes_per_s": 1 << 20, "cooloff_s": 30},
    )
    holder = site.add("holder")
    holder.put(content)
    site.start()
    reply = raw_get(asking.address, LOCAL, _path(content))
    assert (reply.status, reply.ending) == (200, Ending.WHOLE)
    assert reply.body == content
    assert asking.newest(content)["resumes"] == 0
    assert asking.metric("shorthaul_peers_cooling") == 0


def test_the_wait_that_is_told_is_the_one_observed(site: Site) -> None:
    node = _holder(site, uploads_max=1, upload_bytes_per_s=1 << 20)
    with ExitStack() as stack:
        answer = _ask(stack, node, _BIG, source=fresh_address())
        taken = read_some(answer.sock, 2 << 20)
        assert taken >= 2 << 20
        refused = _ask(stack, node, _SMALL, source=fresh_address())
        _is_refused(refused)
        # 22 MiB are left at 1 MiB/s: far more than a moment, whatever bound there is.
        assert int(refused.headers["Shorthaul-Wait-Ms"]) >= 2000
        assert int(refused.headers["Retry-After"]) >= 2


def read_some(sock: socket.socket, at_least: int) -> int:
    """Read so many bytes or more; how many it was."""
    taken = 0
    while taken < at_least:
        received = sock.recv(1 << 16)
        assert received, "closed"
        taken += len(received)
    return taken


def test_a_refused_request_leaves_its_connection_open(site: Site) -> None:
    node = _holder(site, uploads_max=1)
    with ExitStack() as stack:
        holding = _ask(stack, node, _BIG, source=fresh_address())
        sock = stack.enter_context(connected(node.address, PEER))
        sock.sendall(request_bytes(_path(_SMALL), User_Agent=_AGENT))
        assert read_reply(sock).status == 429
        holding.sock.close()
        wait_for(lambda: node.metric("shorthaul_uploads") == 0, "there is room again")
        sock.sendall(request_bytes(_path(_SMALL), User_Agent=_AGENT))
        assert read_reply(sock).body == _SMALL
