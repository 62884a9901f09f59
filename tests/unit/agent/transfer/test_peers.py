"""Fetching from peers: what is verified before it is used, and what happens to the connection."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agent.oci.digest import Digest
from agent.oci.manifest import OCI_MANIFEST
from agent.oci.ranges import RangeSpec
from agent.oci.reference import Addressed, Kind, Repository
from agent.peering.dial import Dialer
from agent.pull.events import Failure
from agent.transfer.answers import AttemptFailed, FetchRequest
from agent.transfer.peers import VERIFIED_BYTES, PeerBody, PeerClient
from tests.unit.agent.transfer.relay import KIB, close, pattern, serving, serving_until, stall
from tests.unit.agent.transfer.scripted import (
    Connection,
    NoLeak,
    Script,
    ScriptedPeer,
    answer,
    scripted,
    until,
)
from tests.unit.twins import CREDENTIALS

SMALL = pattern(VERIFIED_BYTES)
LARGE = pattern(VERIFIED_BYTES + 1)
CONFIG = pattern(VERIFIED_BYTES * 2)
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "x", "digest": f"sha256:{'0' * 64}", "size": 1},
        "layers": [],
    }
).encode()


def of(
    content: bytes, kind: Kind = Kind.BLOB, *, config: bool = False, part: RangeSpec | None = None
) -> FetchRequest:
    digest = Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")
    target = Addressed(registry=None, repository=Repository("a"), kind=kind, digest=digest)
    return FetchRequest(target=target, config=config, range_spec=part)


@asynccontextmanager
async def asking(script: Script, *, stall_s: float = 5.0) -> AsyncIterator[tuple[ScriptedPeer, PeerClient]]:
    async with (
        NoLeak(),
        scripted(script) as server,
        PeerClient(Dialer(credentials=CREDENTIALS, connect_s=5.0), stall_s=stall_s) as client,
    ):
        yield server, client


async def all_of(body: PeerBody) -> bytes:
    content = body.first
    while body.left_bytes:
        content += await body.read(64 * KIB)
    return content


def spoiled(content: bytes) -> bytes:
    return content[:-1] + bytes((content[-1] ^ 1,))


async def failure(client: PeerClient, server: ScriptedPeer, wanted: FetchRequest) -> Failure:
    with pytest.raises(AttemptFailed) as caught:
        await client.fetch(server.peer, wanted)
    return caught.value.failure


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (SMALL, of(SMALL)),
        (CONFIG, of(CONFIG, config=True)),
        (MANIFEST, of(MANIFEST, Kind.MANIFEST)),
        (MANIFEST, of(MANIFEST)),
    ],
    ids=["small blob", "config", "manifest", "manifest as a blob"],
)
async def test_small_ones_configs_and_manifests_are_whole_and_verified(
    content: bytes, wanted: FetchRequest
) -> None:
    async with asking(serving(content, pieces=lambda: 50_000)) as (server, client):
        for _ in range(2):
            body = await client.fetch(server.peer, wanted)
            assert (body.first, body.left_bytes, body.verified) == (content, 0, True)
            assert (body.manifest is not None) == (wanted.target.kind is Kind.MANIFEST)
            body.close()
            body.close()
        assert len(server.connections) == 1

    async with asking(serving(spoiled(content))) as (server, client):
        assert await failure(client, server, wanted) is Failure.INVALID
        await until(lambda: server.connections[0].over, "the connection is closed")


async def test_large_blob_is_not_waited_for_and_not_verified_here() -> None:
    async with asking(serving_until(LARGE, 1000, stall)) as (server, client):
        body = await client.fetch(server.peer, of(LARGE))
        assert not body.verified
        assert 0 < len(body.first) <= 1000
        assert body.position == len(body.first)
        assert len(body.first) + body.left_bytes == body.length == len(LARGE)
        body.close()
        await until(lambda: server.connections[0].over, "the connection is closed")


async def test_part_of_a_small_blob_is_not_verified() -> None:
    async with asking(serving(SMALL)) as (server, client):
        body = await client.fetch(server.peer, of(SMALL, part=RangeSpec(first=5, last=None)))
        assert not body.verified
        assert (body.start, body.length, body.size_bytes) == (5, len(SMALL) - 5, len(SMALL))
        assert await all_of(body) == SMALL[5:]
        assert body.position == len(SMALL)
        body.close()
        body = await client.fetch(server.peer, of(SMALL, part=RangeSpec(first=0, last=None)))
        assert body.verified, "all of it, asked for as a part"
        body.close()
        assert len(server.connections) == 1


@pytest.mark.parametrize(("then", "expected"), [(close, Failure.BROKEN), (stall, Failure.SILENT)])
async def test_small_blob_that_does_not_come_whole_has_failed(
    then: Callable[[Connection], object], expected: Failure
) -> None:
    script = serving_until(SMALL, 1000, then)  # type: ignore[arg-type]
    async with asking(script, stall_s=0.1) as (server, client):
        assert await failure(client, server, of(SMALL)) is expected


async def test_time_in_which_this_node_did_not_run_is_no_silence_of_the_peer() -> None:
    async def hold_up(connection: Connection) -> None:
        await asyncio.sleep(0.02)  # the client waits for the next byte now
        time.sleep(1.5)  # noqa: ASYNC251 - the whole process stands still
        await connection.closed()

    async with asking(serving_until(SMALL, 1000, hold_up), stall_s=0.5) as (server, client):
        assert await failure(client, server, of(SMALL)) is Failure.CUT_OFF


async def test_manifest_too_large_to_be_one_is_not_read() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(b"x", content_length=1 << 40))
        await connection.closed()

    async with asking(script) as (server, client):
        assert await failure(client, server, of(MANIFEST, Kind.MANIFEST)) is Failure.INVALID


async def test_content_that_is_no_manifest_is_not_taken_for_one_and_is_not_its_peers_fault() -> None:
    async with asking(serving(b"[]")) as (server, client):
        assert await failure(client, server, of(b"[]", Kind.MANIFEST)) is Failure.MISSING


async def test_head_has_the_size_and_no_body_and_the_connection_is_kept() -> None:
    async def script(connection: Connection) -> None:
        while True:
            assert (await connection.request()).startswith("HEAD ")
            await connection.send(answer(content_length=12345))

    async with asking(script) as (server, client):
        for _ in range(2):
            wanted = FetchRequest(target=of(LARGE).target, head=True)
            body = await client.fetch(server.peer, wanted)
            assert (body.size_bytes, body.first, body.left_bytes) == (12345, b"", 0)
            body.close()
        assert len(server.connections) == 1


@pytest.mark.parametrize(("status", "expected"), [(404, Failure.MISSING), (429, Failure.BUSY)])
async def test_refusal_does_not_cost_the_connection(status: int, expected: Failure) -> None:
    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(answer(b'{"errors": []}', status))

    async with asking(script) as (server, client):
        for _ in range(3):
            assert await failure(client, server, of(LARGE)) is expected
        assert len(server.connections) == 1


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (close, Failure.BROKEN),
        (serving_until(LARGE, 0, close), Failure.BROKEN),
        (lambda connection: connection.send(b"SSH-2.0\r\n\r\n"), Failure.INVALID),
    ],
    ids=["no head", "no first byte", "no HTTP"],
)
async def test_peer_that_breaks_off_before_its_first_byte_has_failed(
    script: Script, expected: Failure
) -> None:
    async with asking(script) as (server, client):
        assert await failure(client, server, of(LARGE)) is expected


async def test_peer_that_is_not_there_is_unreachable() -> None:
    async with asking(serving(LARGE)) as (server, client):
        pass
    async with PeerClient(Dialer(credentials=CREDENTIALS, connect_s=5.0), stall_s=5.0) as client:
        assert await failure(client, server, of(LARGE)) is Failure.UNREACHABLE


async def test_peer_that_gives_less_than_it_promised_broke_off() -> None:
    async with asking(serving_until(LARGE, len(LARGE) - 1, close)) as (server, client):
        body = await client.fetch(server.peer, of(LARGE))
        with pytest.raises(AttemptFailed) as caught:
            await all_of(body)
        assert caught.value.failure is Failure.BROKEN
        assert body.left_bytes == 1
        body.close()


@pytest.mark.parametrize("at", [0, 1000], ids=["before its head", "within a small body"])
async def test_cancelling_a_fetch_closes_its_connection(at: int) -> None:
    asked = asyncio.Event()

    async def then(connection: Connection) -> None:
        asked.set()
        await connection.closed()

    async def silent(connection: Connection) -> None:
        await connection.request()
        await then(connection)

    async with asking(serving_until(SMALL, at, then) if at else silent) as (server, client):
        task = asyncio.create_task(client.fetch(server.peer, of(SMALL)))
        await asked.wait()
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.connections[0].over, "the connection is closed")


async def test_first_body_comes_on_the_connection_on_which_the_peer_was_met() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(b"{}"))
        await connection.request()
        await connection.send(answer(SMALL))

    async with asking(script) as (server, client):
        await client.meet(server.peer)
        body = await client.fetch(server.peer, of(SMALL))
        body.close()
        assert body.first == SMALL
        assert len(server.connections) == 1
        assert server.requests[0].startswith("GET /v2/ ")


@pytest.mark.parametrize("response", [b"", b"SSH-2.0\r\n\r\n", answer(b"{}", connection="close")])
async def test_peer_that_can_not_be_met_is_left_alone(response: bytes) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(response)

    async with asking(script) as (server, client):
        await client.meet(server.peer)
    with NoLeak():
        async with PeerClient(Dialer(credentials=CREDENTIALS, connect_s=5.0), stall_s=5.0) as client:
            await client.meet(server.peer)  # it refuses now


async def test_peer_that_is_silent_when_it_is_met_is_not_waited_for_longer_than_for_a_byte() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.closed()

    async with asking(script, stall_s=0.05) as (server, client):
        await client.meet(server.peer)
