"""Connections to peers, on real sockets: reuse, stale connections, invalid HTTP, and who closes what."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import uvloop

from agent.members.member import Peer
from agent.peering.connections import ConnectionPool, PeerConnection
from agent.peering.dial import Dialer, Unreachable
from agent.peering.heads import Malformed, ResponseHead
from agent.peering.received import received_bytes
from tests.unit.agent.transfer.scripted import Connection, NoLeak, answer, descriptors, scripted, until
from tests.unit.twins import CREDENTIALS

BODY = b"0123456789" * 10


@pytest.fixture
async def pool() -> AsyncIterator[ConnectionPool]:
    """A pool. At the end nothing may be open."""
    before = descriptors()
    made = ConnectionPool(Dialer(credentials=CREDENTIALS, connect_s=5.0))
    yield made
    made.close()
    await until(lambda: len(descriptors()) <= len(before), "all is closed")


async def serve(connection: Connection) -> None:
    """Answer every request with the same body."""
    while True:
        await connection.request()
        await connection.send(answer(BODY))


async def body_of(connection: PeerConnection, head: ResponseHead) -> bytes:
    """Read the whole body."""
    content, length = head.first, int(head.headers["content-length"])
    while len(content) < length:
        received = await connection.read(length - len(content))
        assert received, "it ended early"
        content += received
    return content


async def fetch(pool: ConnectionPool, peer: Peer, method: str = "GET") -> tuple[PeerConnection, bytes]:
    connection, head = await pool.request(peer, method, "/v2/", {"User-Agent": "test"})
    assert head.status == 200
    return connection, await body_of(connection, head)


async def test_request_says_what_is_wanted_of_whom(pool: ConnectionPool) -> None:
    heads = []

    async def script(connection: Connection) -> None:
        heads.append(await connection.request())
        await connection.send(answer(BODY, X_Some="Thing"))

    async with scripted(script) as server:
        connection, head = await pool.request(server.peer, "GET", "/v2/a?ns=b", {"Range": "bytes=5-"})
        lines = heads[0].split("\r\n")
        assert lines[0] == "GET /v2/a?ns=b HTTP/1.1"
        fields = {line.lower() for line in lines[1:]}
        assert {f"host: {server.peer.address}:{server.peer.port}", "range: bytes=5-"} <= fields
        assert (head.status, head.headers["x-some"], head.keep_alive) == (200, "Thing", True)
        assert await body_of(connection, head) == BODY
        connection.close()
        connection.close()


async def test_connection_is_used_again_when_it_was_given_back(pool: ConnectionPool) -> None:
    async with scripted(serve) as server:
        for _ in range(5):
            connection, content = await fetch(pool, server.peer)
            assert content == BODY
            pool.give_back(server.peer, connection)
        assert len(server.connections) == 1
        assert len(server.requests) == 5


async def test_time_to_connect_is_that_of_the_request_that_had_to(pool: ConnectionPool) -> None:
    async with scripted(serve) as server:
        connection, _ = await fetch(pool, server.peer)
        assert connection.connect_s > 0
        pool.give_back(server.peer, connection)
        connection, _ = await fetch(pool, server.peer)
        assert connection.connect_s == 0, "there was one"
        pool.give_back(server.peer, connection)


async def test_connections_in_use_are_not_shared(pool: ConnectionPool) -> None:
    async with scripted(serve) as server:
        taken = [await fetch(pool, server.peer) for _ in range(3)]
        assert len(server.connections) == 3
        for connection, _ in taken:
            pool.give_back(server.peer, connection)
        for connection, _ in [await fetch(pool, server.peer) for _ in range(3)]:
            connection.close()
        assert len(server.connections) == 3


async def test_connections_that_are_kept_for_a_peer_are_bounded(pool: ConnectionPool) -> None:
    async with scripted(serve) as server:
        taken = [await fetch(pool, server.peer) for _ in range(40)]
        for connection, _ in taken:
            pool.give_back(server.peer, connection)
        assert sum(connection.socket.fileno() >= 0 for connection, _ in taken) == 32


async def test_what_came_is_accounted_for_each_request_when_it_ends(pool: ConnectionPool) -> None:
    async with scripted(serve) as server:
        came: list[int] = []
        for _ in range(2):  # the second on the same connection
            connection, _ = await pool.request(server.peer, "GET", "/", {}, came.append)
            assert came == came[:1] or len(came) == 1
            pool.give_back(server.peer, connection)
        assert len(server.connections) == 1
        assert len(came) == 2
        assert came[0] == came[1] >= len(BODY)


async def test_what_came_and_was_not_read_is_accounted_when_the_connection_is_closed(
    pool: ConnectionPool,
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(b"x" * 30_000))
        await connection.closed()

    async with scripted(script) as server:
        came: list[int] = []
        connection, head = await pool.request(server.peer, "GET", "/", {}, came.append)
        await until(lambda: received_bytes(connection.socket) > 30_000, "all has come")
        connection.close()
        connection.close()
        (size_bytes,) = came
        assert size_bytes > 30_000 > len(head.first)


async def test_peers_do_not_share_connections(pool: ConnectionPool) -> None:
    async with scripted(serve) as one, scripted(serve) as other:
        connection, _ = await fetch(pool, one.peer)
        pool.give_back(one.peer, connection)
        connection, _ = await fetch(pool, other.peer)
        connection.close()
        assert (len(one.requests), len(other.requests)) == (1, 1)


async def test_idle_connection_that_the_peer_closed_is_replaced_silently(pool: ConnectionPool) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(BODY))  # and closes, without a Connection header

    async with scripted(script) as server:
        for _ in range(3):
            connection, content = await fetch(pool, server.peer)
            assert content == BODY
            pool.give_back(server.peer, connection)
        assert len(server.connections) == 3


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_idle_connection_that_the_peer_closes_while_it_is_asked_is_replaced_silently(
    pool: ConnectionPool, how: str
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(BODY))
        if connection.number == 0:
            await connection.request()
            if how == "rst":
                connection.reset()
            return
        await connection.closed()

    async with scripted(script) as server:
        connection, _ = await fetch(pool, server.peer)
        pool.give_back(server.peer, connection)
        connection, content = await fetch(pool, server.peer)
        assert content == BODY
        assert [len(one.requests) for one in server.connections] == [2, 1]
        connection.close()


async def test_all_idle_connections_being_stale_costs_a_new_one_only(pool: ConnectionPool) -> None:
    closing = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(BODY))
        if connection.number < 4:
            await closing.wait()
            connection.reset()
        else:
            await connection.closed()

    async with scripted(script) as server:
        taken = [await fetch(pool, server.peer) for _ in range(4)]
        for connection, _ in taken:
            pool.give_back(server.peer, connection)
        closing.set()
        connection, content = await fetch(pool, server.peer)
        assert content == BODY
        assert len(server.connections) == 5
        connection.close()


async def test_bytes_that_nobody_asked_for_make_an_idle_connection_unfit(pool: ConnectionPool) -> None:
    got, sent = asyncio.Event(), asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(BODY))
        if connection.number == 0:
            await got.wait()
            await connection.send(answer(b"wrong"))
            sent.set()
        await connection.closed()

    async with scripted(script) as server:
        connection, content = await fetch(pool, server.peer)
        assert content == BODY
        pool.give_back(server.peer, connection)
        got.set()
        await sent.wait()
        connection, content = await fetch(pool, server.peer)
        assert content == BODY
        assert len(server.connections) == 2
        connection.close()


async def test_bytes_behind_a_body_are_no_part_of_it_and_end_the_connection(
    pool: ConnectionPool,
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(BODY) + b"surplus")
        await connection.closed()

    async with scripted(script) as server:
        connection, head = await pool.request(server.peer, "GET", "/", {})
        assert head.first == BODY
        assert head.ended
        assert not head.keep_alive
        connection.close()


@pytest.mark.parametrize(
    "response",
    [
        answer(BODY, connection="close"),
        answer(BODY, connection="close").replace(BODY, b""),
        answer(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["close", "close before the body", "HTTP/1.0"],
)
async def test_connection_that_the_peer_means_to_close_is_not_to_be_kept(
    pool: ConnectionPool, response: bytes
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(response)
        await connection.closed()

    async with scripted(script) as server:
        connection, head = await pool.request(server.peer, "GET", "/", {})
        assert not head.keep_alive
        connection.close()


async def test_answer_to_head_has_no_body_whatever_its_length(pool: ConnectionPool) -> None:
    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(answer(content_length=10**9))

    async with scripted(script) as server:
        for _ in range(2):
            connection, head = await pool.request(server.peer, "HEAD", "/", {})
            assert (head.first, head.ended, head.keep_alive) == (b"", True, True)
            assert head.headers["content-length"] == str(10**9)
            pool.give_back(server.peer, connection)
        assert len(server.connections) == 1


async def test_interim_responses_are_passed_over(pool: ConnectionPool) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n"

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(*interim, answer(BODY))
        await connection.closed()

    async with scripted(script) as server:
        connection, content = await fetch(pool, server.peer)
        assert content == BODY
        connection.close()


async def test_informational_heads_without_an_end_are_no_answer(pool: ConnectionPool) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        await connection.closed()

    async with scripted(script) as server:
        with pytest.raises(Malformed):
            await pool.request(server.peer, "GET", "/", {})


async def test_head_may_come_byte_by_byte(pool: ConnectionPool) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        response = answer(BODY)
        await connection.send(*(response[place : place + 1] for place in range(len(response))))
        await connection.closed()

    async with scripted(script) as server:
        connection, content = await fetch(pool, server.peer)
        assert content == BODY
        connection.close()


async def test_answer_without_a_length_is_told_as_such(pool: ConnectionPool) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(BODY, content_length=""))

    async with scripted(script) as server:
        connection, head = await pool.request(server.peer, "GET", "/", {})
        connection.close()
        assert "content-length" not in head.headers


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.7\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nabcde",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"".join(b"HTTP/1.1 200 OK\r\n" if place == 0 else b"x%d: y\r\n" % place for place in range(20_000)),
        bytes(range(256)) * 100,
    ],
    ids=["ssh", "two lengths", "negative", "upgrade", "long line", "many lines", "noise"],
)
async def test_what_is_no_http_or_too_much_of_it_is_malformed(pool: ConnectionPool, response: bytes) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(response)
        await connection.closed()

    async with scripted(script) as server:
        with pytest.raises(Malformed):
            await pool.request(server.peer, "GET", "/", {})
        await until(lambda: server.connections[0].over, "the connection is closed")


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\ncontent-le"])
async def test_new_connection_that_ends_before_a_head_is_the_peers_fault(
    pool: ConnectionPool, before: bytes, how: str
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(before)
        if how == "rst":
            connection.reset()

    async with scripted(script) as server:
        with pytest.raises(ConnectionError):
            await pool.request(server.peer, "GET", "/", {})
        assert len(server.connections) == 1, "it is not tried again"


async def test_used_connection_that_ends_within_a_head_is_the_peers_fault(pool: ConnectionPool) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(BODY))
        await connection.request()
        await connection.send(b"HTTP/1.1 200")

    async with scripted(script) as server:
        connection, _ = await fetch(pool, server.peer)
        pool.give_back(server.peer, connection)
        with pytest.raises(ConnectionError):
            await pool.request(server.peer, "GET", "/", {})
        assert len(server.connections) == 1


async def test_peer_that_refuses_connections_is_unreachable(pool: ConnectionPool) -> None:
    async with scripted(serve) as server:
        pass
    with pytest.raises(Unreachable):
        await pool.request(server.peer, "GET", "/", {})


@pytest.fixture
def full() -> Iterator[tuple[str, int]]:
    """A listener whose backlog is full, so that it answers no SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        others = [socket.socket() for _ in range(4)]
        try:
            for other in others:
                other.setblocking(False)
                other.connect_ex(address)
            yield address
        finally:
            for other in others:
                other.close()


async def test_peer_that_does_not_answer_is_unreachable_after_its_time(full: tuple[str, int]) -> None:
    pool = ConnectionPool(Dialer(credentials=CREDENTIALS, connect_s=0.05))
    async with scripted(serve) as server:
        peer = replace(server.peer, address=full[0], port=full[1])
    with NoLeak(), pytest.raises(Unreachable, match=r"no answer within 0\.05 s"):
        await pool.request(peer, "GET", "/", {})


async def test_every_new_connection_is_told_of_with_its_socket() -> None:
    told: list[tuple[Peer, tuple[str, int]]] = []
    dialer = Dialer(
        credentials=CREDENTIALS,
        connect_s=5.0,
        connected=lambda peer, own: told.append((peer, own.getpeername())),
    )
    pool = ConnectionPool(dialer)
    async with scripted(serve) as server:
        for _ in range(2):
            connection, _ = await fetch(pool, server.peer)
            pool.give_back(server.peer, connection)
        assert told == [(server.peer, (server.peer.address, server.peer.port))]
    pool.close()


async def test_cancelling_a_request_closes_its_connection(pool: ConnectionPool) -> None:
    asked = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        asked.set()
        await connection.closed()

    async with scripted(script) as server:
        task = asyncio.create_task(pool.request(server.peer, "GET", "/", {}))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.connections[0].over, "the connection is closed")


async def test_cancelling_while_it_connects_leaves_nothing(full: tuple[str, int]) -> None:
    pool = ConnectionPool(Dialer(credentials=CREDENTIALS, connect_s=5.0))
    async with scripted(serve) as server:
        peer = replace(server.peer, address=full[0], port=full[1])
    async with NoLeak():
        task = asyncio.create_task(pool.request(peer, "GET", "/", {}))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_closing_the_pool_closes_what_is_idle(pool: ConnectionPool) -> None:
    async with scripted(serve) as server:
        connection, _ = await fetch(pool, server.peer)
        pool.give_back(server.peer, connection)
        pool.close()
        await until(lambda: server.connections[0].over, "the connection is closed")


async def test_idle_connection_is_closed_after_its_time() -> None:
    pool = ConnectionPool(Dialer(credentials=CREDENTIALS, connect_s=5.0), idle_s=0.05)
    async with scripted(serve) as server:
        connection, _ = await fetch(pool, server.peer)
        pool.give_back(server.peer, connection)
        await until(lambda: server.connections[0].over, "the connection is closed")
        connection, content = await fetch(pool, server.peer)
        assert content == BODY
        connection.close()


def test_requests_work_on_the_loop_of_the_agent_as_well() -> None:
    async def main() -> None:
        pool = ConnectionPool(Dialer(credentials=CREDENTIALS, connect_s=5.0))
        async with scripted(serve) as server:
            for _ in range(3):
                connection, content = await fetch(pool, server.peer)
                assert content == BODY
                pool.give_back(server.peer, connection)
            assert len(server.connections) == 1
            pool.close()

    uvloop.run(main())


async def test_peer_with_an_ipv6_address_is_reached_and_named_in_brackets(pool: ConnectionPool) -> None:
    heads = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer(BODY))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve_one, "::1", 0)
    async with scripted(serve) as other:
        peer = replace(other.peer, address="::1", port=server.sockets[0].getsockname()[1])
    async with server:
        connection, content = await fetch(pool, peer)
        assert content == BODY
        assert f"host: [::1]:{peer.port}".encode() in heads[0].lower()
        connection.close()
