"""The client's side of a response: the order of bytes, what is counted, a client that leaves, and a cut."""

import asyncio
import os
import socket

import pytest
from aiohttp import web

from agent.descriptors import is_ready
from agent.pull.bucket import TokenBucket
from agent.transfer.sink import ClientGone, ClientSink, cut
from tests.unit.agent.transfer.relay import (
    KIB,
    MIB,
    Received,
    delivered,
    eager,
    exchanging,
    pattern,
)
from tests.unit.agent.transfer.scripted import AT_MOST_S, NoLeak, until

CONTENT = pattern(16 * MIB)


async def never(reader: asyncio.StreamReader, received: Received) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("first_bytes", [0, 1, 100 * KIB, 8 * MIB])
async def test_bytes_that_aiohttp_has_still_are_never_overtaken(first_bytes: int) -> None:
    async def handler(sink: ClientSink) -> None:
        await sink.begin(CONTENT[:first_bytes])
        for place in range(first_bytes, len(CONTENT), 3 * MIB):
            await sink.write(CONTENT[place : place + 3 * MIB], "copy")

    async def late(reader: asyncio.StreamReader, received: Received) -> None:
        await asyncio.sleep(0.05)
        await eager(reader, received)

    async with NoLeak(), exchanging(handler, length=len(CONTENT), client=late) as exchange:
        assert await delivered(exchange, len(CONTENT)) == CONTENT
        expected = {"memory": first_bytes, "copy": len(CONTENT) - first_bytes}
        assert exchange.ways == {way: size for way, size in expected.items() if size}


async def test_views_and_nothing_can_be_written_as_well() -> None:
    async def handler(sink: ClientSink) -> None:
        await sink.begin(b"")
        await sink.write(b"", "copy")
        with memoryview(bytearray(CONTENT)) as view, view[: 5 * MIB] as piece:
            await sink.write(piece, "stripe")

    async with exchanging(handler, length=5 * MIB) as exchange:
        assert await delivered(exchange, 5 * MIB) == CONTENT[: 5 * MIB]
        assert exchange.ways == {"stripe": 5 * MIB}


async def test_what_a_client_got_before_it_went_is_counted_and_no_more() -> None:
    async def some(reader: asyncio.StreamReader, received: Received) -> None:
        received.body += await reader.readexactly(MIB)
        raise ConnectionAbortedError

    async def handler(sink: ClientSink) -> None:
        await sink.begin(b"")
        await sink.write(CONTENT, "copy")

    async with exchanging(handler, length=len(CONTENT), client=some, stall_s=0.3) as exchange:
        await exchange.over.wait()
        assert isinstance(exchange.error, ClientGone)
        assert exchange.sink is not None
        assert MIB <= exchange.sink.sent_bytes < len(CONTENT)


@pytest.mark.parametrize("size_bytes", [16 * MIB, 100])
async def test_client_that_takes_no_bytes_is_gone_after_its_time(size_bytes: int) -> None:
    async def handler(sink: ClientSink) -> None:
        await sink.begin(b"")
        while True:
            await sink.write(CONTENT[:size_bytes], "copy")

    async with exchanging(handler, length=1 << 40, client=never, stall_s=0.2, narrow=True) as exchange:
        await exchange.over.wait()
        assert isinstance(exchange.error, ClientGone)


async def test_client_that_takes_no_first_bytes_is_gone_after_its_time() -> None:
    async def handler(sink: ClientSink) -> None:
        await sink.begin(CONTENT)
        await sink.write(b"x", "copy")

    async with exchanging(handler, length=1 << 40, client=never, stall_s=0.2) as exchange:
        await exchange.over.wait()
        assert isinstance(exchange.error, ClientGone)


async def test_body_that_is_begun_twice_has_one_head_and_its_bytes_in_order() -> None:
    async def handler(sink: ClientSink) -> None:
        await sink.begin(b"")
        await sink.begin(CONTENT[:MIB])
        await sink.write(CONTENT[MIB : 9 * MIB], "copy")
        await sink.begin(CONTENT[9 * MIB : 10 * MIB])

    async with exchanging(handler, length=10 * MIB) as exchange:
        assert await delivered(exchange, 10 * MIB) == CONTENT[: 10 * MIB]


async def test_client_that_closes_its_side_does_not_stay() -> None:
    async def some(reader: asyncio.StreamReader, received: Received) -> None:
        received.body += await reader.readexactly(MIB)

    async def handler(sink: ClientSink) -> None:
        await sink.begin(CONTENT[:MIB])
        await sink.stays(2 * AT_MOST_S)

    async with exchanging(handler, length=len(CONTENT), client=some, closes=True) as exchange:
        await exchange.over.wait()
        assert isinstance(exchange.error, ClientGone)
        assert exchange.sink is not None
        assert exchange.sink.sent_bytes == MIB


async def test_client_that_stays_gets_the_rest() -> None:
    async def handler(sink: ClientSink) -> None:
        await sink.begin(CONTENT[:MIB])
        await sink.stays(0.01)
        await sink.write(CONTENT[MIB:], "copy")

    async with exchanging(handler, length=len(CONTENT)) as exchange:
        assert await delivered(exchange, len(CONTENT)) == CONTENT


async def test_time_in_which_the_client_takes_nothing_is_told() -> None:
    async def late(reader: asyncio.StreamReader, received: Received) -> None:
        await asyncio.sleep(0.2)
        await eager(reader, received)

    async def handler(sink: ClientSink) -> None:
        await sink.begin(b"")
        await sink.write(CONTENT[:MIB], "copy")

    async with exchanging(handler, length=MIB, client=late, narrow=True) as exchange:
        await delivered(exchange, MIB)
        assert exchange.sink is not None
        assert exchange.sink.held_s > 0


async def test_sinks_that_share_a_limit_count_themselves_and_closing_twice_counts_once() -> None:
    limit = TokenBucket(1000.0)
    seen = []

    async def handler(sink: ClientSink) -> None:
        seen.append(limit.takers)
        await sink.begin(b"x")
        sink.close()
        sink.close()

    async with exchanging(handler, length=1, limit=limit) as exchange:
        await delivered(exchange, 1)
    assert seen == [1]
    assert limit.takers == 0


async def test_descriptor_is_the_same_one_each_time_and_gone_after_the_end() -> None:
    taken: list[int | None] = []

    async def handler(sink: ClientSink) -> None:
        await sink.begin(b"x")
        taken.extend([await sink.descriptor(), await sink.descriptor()])
        assert taken[0] is not None
        os.fstat(taken[0])
        sink.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(taken[0])

    async with exchanging(handler, length=1) as exchange:
        assert await delivered(exchange, 1) == b"x"
        assert exchange.error is None
    assert taken[0] == taken[1]


async def test_descriptor_of_a_client_that_closed_is_no_more() -> None:
    closed = asyncio.Event()

    async def handler(sink: ClientSink) -> None:
        await sink.begin(b"x")
        sink._request.transport.abort()  # type: ignore[union-attr]
        closed.set()
        await sink.write(b"y", "copy")

    async with exchanging(handler, length=2) as exchange:
        await exchange.over.wait()
        assert isinstance(exchange.error, ClientGone)


async def test_ready_descriptor_is_told_at_once_and_one_that_is_not_after_the_time() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        assert await is_ready(near.fileno(), 5.0, writing=True)
        assert not await is_ready(near.fileno(), 0.02)
        far.send(b"x")
        assert await is_ready(near.fileno(), 5.0)


async def test_waiting_for_a_descriptor_that_is_cancelled_watches_it_no_longer() -> None:
    near, far = socket.socketpair()
    with near, far:
        loop = asyncio.get_running_loop()
        for writing in (False, True):
            while writing:
                try:
                    near.send(bytes(MIB), socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
            task = asyncio.create_task(is_ready(near.fileno(), 60.0, writing=writing))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            remove = loop.remove_writer if writing else loop.remove_reader
            assert not remove(near.fileno()), "it is still watched"


@pytest.mark.parametrize("unread", [b"", b"GET /more HTTP/1.1\r\nhost: x\r\n\r\n"])
async def test_cut_is_an_end_that_the_client_sees_and_no_reset_even_with_input_unread(unread: bytes) -> None:
    over = asyncio.Event()

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        response.force_close()
        await response.prepare(request)
        await response.write(b"x" * 10)
        try:
            await cut(request)
        finally:
            over.set()
        return response

    runner = web.ServerRunner(web.Server(serve, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with asyncio.timeout(AT_MOST_S):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(10) == b"x" * 10
            writer.write(unread)
            assert await reader.read() == b""
            assert not over.is_set(), "it waits for the client to close first"
            writer.close()
            await writer.wait_closed()
            await until(over.is_set, "the handler ends with the client")
    finally:
        await runner.cleanup()
