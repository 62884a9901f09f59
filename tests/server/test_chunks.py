"""A containerd that is set to fetch layers in parallel chunks, in every detail of how it behaves.

It gets a layer in one stream: then it forgives failures as other containerds do. What it resumes comes in
chunks, and no failure of a chunk may reach it.
"""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from .agents import ADMIN, LOCAL, PEER, SERVICE, Node, Site, digest_of, fresh_address, wait_for
from .chunked import ChunkedClient, PullFailed
from .faults import Fault, Holder, Kind, asked_for
from .impostor import Impostor
from .proofs import OPEN
from .tracing import steps_of
from .wire import connected, raw_get, request_bytes, reset

_MIB = 1 << 20
_LAYER = Random(61).randbytes(_MIB) * 12
_CONTAINERD = "containerd/2.1.9"


def _path(content: bytes) -> str:
    return f"/v2/library/app/blobs/{digest_of(content)}"


def _client(
    *nodes: Node, at_once: int = 20, chunk_bytes: int = _MIB, port: int = LOCAL, has_bytes: int = 0
) -> ChunkedClient:
    """A client whose hosts are these nodes."""
    return ChunkedClient(
        hosts=[(node.address, port) for node in nodes],
        path=_path(_LAYER),
        size_bytes=len(_LAYER),
        chunk_bytes=chunk_bytes,
        at_once=at_once,
        body=bytearray(_LAYER[:has_bytes]),
    )


def _show_chunks(node: Node) -> None:
    """Let the agent see that its containerd fetches in chunks."""
    path = f"/v2/library/app/blobs/{digest_of(b'nobody has this')}"
    raw_get(node.address, LOCAL, path, Range="bytes=0-", User_Agent=_CONTAINERD)


@pytest.mark.parametrize(("at_once", "chunk_bytes"), [(3, 4 * _MIB), (20, _MIB), (20, 65_536)])
def test_layer_comes_in_one_stream_from_one_fetch(site: Site, at_once: int, chunk_bytes: int) -> None:
    asking, holder = site.add("asking"), site.add("holder")
    holder.put(_LAYER)
    site.start()
    client = _client(asking, at_once=at_once, chunk_bytes=chunk_bytes)
    assert client.pull() == _LAYER
    assert client.statuses(client.hosts[0]) == [200]
    assert asking.metric("shorthaul_peer_attempts_total") == 1
    assert (asking.newest(_LAYER)["result"], asking.newest(_LAYER)["bytes"]) == ("ok", len(_LAYER))


@pytest.mark.parametrize("port", [LOCAL, SERVICE, PEER])
def test_blob_of_this_node_comes_in_one_stream_by_any_listener(site: Site, port: int) -> None:
    node = site.add("node", peering=OPEN)
    node.put(_LAYER)
    site.start()
    client = _client(node, port=port)
    assert client.pull() == _LAYER
    assert client.statuses(client.hosts[0]) == [200]


@pytest.mark.parametrize("agent", ["curl/8", "shorthaul"])
def test_others_get_the_range_that_they_ask_for(site: Site, agent: str) -> None:
    node = site.add("node", peering=OPEN)
    node.put(_LAYER)
    site.start()
    reply = raw_get(node.address, PEER, _path(_LAYER), Range="bytes=0-", User_Agent=agent)
    assert (reply.status, reply.body) == (206, _LAYER)
    assert reply.headers["Content-Range"] == f"bytes 0-{len(_LAYER) - 1}/{len(_LAYER)}"


@pytest.mark.parametrize("value", ["bytes=0-0", "bytes=1-", "bytes=-5"])
def test_any_other_range_of_a_containerd_is_a_206(site: Site, value: str) -> None:
    node = site.add("node")
    node.put(_LAYER)
    site.start()
    reply = raw_get(node.address, LOCAL, _path(_LAYER), Range=value, User_Agent=_CONTAINERD)
    assert reply.status == 206


@pytest.mark.parametrize("known", [True, False], ids=["known", "not known yet"])
@pytest.mark.parametrize(("at_once", "chunk_bytes"), [(3, 2 * _MIB), (20, _MIB), (20, 65_536)])
def test_what_it_resumes_comes_in_chunks_and_no_byte_of_it_twice(
    site: Site, at_once: int, chunk_bytes: int, *, known: bool
) -> None:
    asking, holder = site.add("asking"), site.add("holder")
    holder.put(_LAYER)
    site.start()
    if known:
        _show_chunks(asking)
    client = _client(asking, at_once=at_once, chunk_bytes=chunk_bytes, has_bytes=777)
    assert client.pull() == _LAYER
    statuses = client.statuses(client.hosts[0])
    assert statuses == [206] * -(-(len(_LAYER) - 777) // chunk_bytes)
    wait_for(lambda: asking.is_idle() and holder.is_idle(), "no body moves")
    results = {record["result"] for record in asking.requests() if record["status"] == 206}
    assert results <= {"ok", "client_gone"}
    sent = holder.metric("shorthaul_bytes_total", path="peer")
    if known:  # until the size of a chunk shows, a MiB is fetched at a time
        assert len(_LAYER) - 777 <= sent <= len(_LAYER) + 2 * _MIB + 2 * chunk_bytes
    assert asking.metric("shorthaul_peer_attempts_total", result="ok") >= 1


def test_peers_are_asked_for_chunks_with_an_end_on_few_connections(site: Site) -> None:
    asking, address = site.add("asking"), fresh_address()
    site.add_member("near", address)
    site.start()
    _show_chunks(asking)
    with Impostor(address, (holder := Holder(_LAYER)).serve, questioned=holder.claim) as impostor:
        asking.wait_for_holders(_LAYER, {"near"})
        assert _client(asking, has_bytes=777).pull() == _LAYER
        ranges = [asked.headers["Range"] for asked in asked_for(impostor, _LAYER)]
    assert all(re.fullmatch(r"bytes=\d+-\d+", value) for value in ranges), ranges


def test_bytes_that_crossed_for_a_client_that_left_are_accounted(site: Site) -> None:
    asking, holder = site.add("asking"), site.add("holder", zone="b")
    holder.put(_LAYER)
    site.start()
    with connected(asking.address, LOCAL, receive_bytes=65_536) as sock:
        sock.sendall(request_bytes(_path(_LAYER), User_Agent=_CONTAINERD))
        assert sock.recv(65_536)
        wait_for(lambda: bool(asking.transfers()["downloads"]), "a body under way")
        reset(sock)
    record = asking.newest(_LAYER)
    (source,) = record["sources"]
    assert record["result"] == "client_gone"
    assert record["bytes"] == source["bytes"] < source["received_bytes"]
    (pair,) = asking.ask("/api/costs", port=ADMIN).json()["pairs"]
    assert pair["bytes"] == source["received_bytes"]
    assert asking.metric("shorthaul_zone_bytes_total", source_zone="r/b") == source["received_bytes"]


@contextmanager
def _in_the_middle(client: ChunkedClient) -> Iterator[dict[str, object]]:
    """A pull under way. Leaving waits for its end: "body", or "error"."""
    client.progress_bytes = len(client.body) + 2 * _MIB
    outcome: dict[str, object] = {}

    def run() -> None:
        try:
            outcome["body"] = client.pull()
        except PullFailed as error:
            outcome["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert client.on_progress.wait(60.0)
        yield outcome
    finally:
        thread.join()


_QUICK: dict[str, Any] = {
    "pull": {"stall_s": 1.0, "connect_s": 1.0, "deadline_s": 10.0},
    "latency": {"measure": False},
}
_SLOW: dict[str, Any] = {"transfer": {"upload_bytes_per_s": 3 * _MIB}, "latency": {"measure": False}}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "freezes"])
@pytest.mark.parametrize("has_bytes", [0, 777], ids=["from the start", "resumed"])
@pytest.mark.parametrize(("at_once", "chunk_bytes"), [(3, 2 * _MIB), (20, 512 * 1024)])
def test_registry_goes_on_where_the_only_holder_fails(
    site: Site, at_once: int, chunk_bytes: int, has_bytes: int, number: signal.Signals
) -> None:
    asking, holder = site.add("asking", **_QUICK), site.add("holder", **_SLOW)
    registry = Site()
    with registry:
        origin = registry.add("origin")
        for node in (holder, origin):
            node.put(_LAYER)
        site.start()
        registry.start()
        _show_chunks(asking)
        client = _client(asking, origin, at_once=at_once, chunk_bytes=chunk_bytes, has_bytes=has_bytes)
        with _in_the_middle(client) as outcome:
            holder.process.signal(number)
        assert "error" not in outcome, outcome
        assert outcome["body"] == _LAYER
        assert 404 in client.statuses(client.hosts[0])
        assert set(client.statuses(client.hosts[1])) <= {200, 206}
        assert len(client.statuses(client.hosts[1])) > 0
    assert asking.logged_errors() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "freezes"])
@pytest.mark.parametrize("has_bytes", [0, 777], ids=["from the start", "resumed"])
def test_other_holder_goes_on_where_one_fails(site: Site, has_bytes: int, number: signal.Signals) -> None:
    asking, holders = site.add("asking", **_QUICK), [site.add(name, **_SLOW) for name in ("one", "two")]
    for holder in holders:
        holder.put(_LAYER)
    site.start()
    _show_chunks(asking)
    client = _client(asking, at_once=4, has_bytes=has_bytes)
    with _in_the_middle(client) as outcome:
        serving = max(holders, key=lambda holder: len(holder.transfers()["uploads"]))
        serving.process.signal(number)
    assert outcome == {"body": _LAYER}


@pytest.mark.parametrize(
    "kind", [Kind.CLOSES, Kind.RESETS, Kind.STALLS, Kind.HANGS_UP, Kind.BUSY, Kind.ERROR]
)
def test_chunk_of_the_only_holder_that_fails_once_is_fetched_again(site: Site, kind: Kind) -> None:
    asking, address = (
        site.add("asking", **{**_QUICK, "pull": {**_QUICK["pull"], "cooloff_s": 0}}),
        fresh_address(),
    )
    site.add_member("near", address)
    site.start()
    _show_chunks(asking)
    holder = Holder()
    sound = Fault(kind=Kind.BUSY)
    holder.put(_LAYER, faults=(sound, sound, Fault(kind=kind, at=1000)))
    with Impostor(address, holder.serve, questioned=holder.claim):
        asking.wait_for_holders(_LAYER, {"near"})
        assert _client(asking, at_once=3, has_bytes=777).pull() == _LAYER
        wait_for(asking.is_idle, "no body moves")
        for record in asking.requests():
            steps_of(record)


def test_five_nodes_at_once_get_a_layer_in_chunks_from_one_holder_with_few_places(site: Site) -> None:
    asking = [site.add(f"asking-{number}", **_QUICK) for number in range(5)]
    holder = site.add("holder", transfer={"uploads_max": 8, "upload_bytes_per_s": 24 * _MIB})
    holder.put(_LAYER)
    site.start()
    bodies: list[bytes] = []

    def pull(node: Node) -> None:
        _show_chunks(node)
        bodies.append(_client(node, has_bytes=777).pull())

    threads = [threading.Thread(target=pull, args=(node,)) for node in asking]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [digest_of(body) for body in bodies] == [digest_of(_LAYER)] * 5
