"""WebSockets that peers open, on real sockets: how many there may be, for how long, and what ends them."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
import uvloop
from aiohttp import web

from agent.members.introduction import Answer
from agent.members.member import Peer
from agent.oci.errors import OciError
from agent.peering.accept import AcceptLimits, Acceptor, Introduce, introduce_nothing
from agent.peering.dial import Dialer
from agent.peering.websocket import PeerSocket
from tests.frames import BINARY, CLOSE, PING, PONG, frame
from tests.unit.agent.peering.raw import QUICK, read_frame, upgraded, vanish, web_server
from tests.unit.agent.transfer.scripted import descriptors, opened_since, until
from tests.unit.twins import CREDENTIALS, located, node, other_tasks

ROOMY = AcceptLimits(total_max=100, address_max=100, message_max_bytes=1024)


class EchoServer:
    """Sends every message back, if its acceptor may send."""

    def __init__(self, limits: AcceptLimits = ROOMY, *, sends: bool = True) -> None:
        self.acceptor = Acceptor(purpose="echoes", limits=limits, sends=sends, heartbeat=QUICK)
        self.received: list[bytes] = []
        self.refused: list[int] = []
        self._sends = sends

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self.acceptor.serve(request, request.remote or "", self._converse)
        except OciError as error:
            self.refused.append(error.status)
            return web.Response(status=error.status)

    async def _converse(self, socket: PeerSocket, address: str) -> None:
        assert address == "127.0.0.1"
        while (message := await socket.receive()) is not None:
            self.received.append(message)
            if self._sends:
                await socket.send(message, 5.0)


async def test_messages_come_and_go() -> None:
    echo = EchoServer()
    async with web_server(echo.handle) as server, upgraded(server.address) as (reader, writer):
        for payload in (b"one", b"", b"x" * 1000):
            writer.write(frame(payload, masked=True))
            assert await read_frame(reader) == (BINARY, payload)
        assert len(echo.acceptor) == 1
    await until(lambda: len(echo.acceptor) == 0, "it is forgotten")


@pytest.mark.parametrize("sends", [True, False])
async def test_connections_that_stay_go_on_when_the_others_are_ended(*, sends: bool) -> None:
    echo = EchoServer(sends=sends)
    async with (
        web_server(echo.handle) as server,
        upgraded(server.address, "X-Key: old") as (ending, _),
        upgraded(server.address, "X-Key: new") as (_, writer),
    ):
        await until(lambda: len(echo.acceptor) == 2, "both are open")
        await echo.acceptor.close(lambda headers: headers["X-Key"] == "new")
        await ending.read()
        await until(lambda: len(echo.acceptor) == 1, "one is left")
        writer.write(frame(b"on", masked=True))
        await until(lambda: echo.received == [b"on"], "it goes on")


async def test_dialer_is_told_who_accepted_and_nothing_by_who_does_not_say() -> None:
    told: list[Answer | None] = []
    introductions: tuple[Introduce, ...] = (CREDENTIALS.answer, introduce_nothing)
    for introduction in introductions:
        acceptor = Acceptor(purpose="echoes", limits=ROOMY, heartbeat=QUICK, introduction=introduction)

        async def listen(socket: PeerSocket, _address: str) -> None:
            await socket.receive()

        async def handle(request: web.BaseRequest, acceptor: Acceptor = acceptor) -> web.StreamResponse:
            return await acceptor.serve(request, request.remote or "", listen)

        async with (
            web_server(handle) as server,
            Dialer(
                credentials=CREDENTIALS,
                connect_s=5.0,
                introduced=lambda _peer, answer: told.append(answer),
            ) as dialer,
        ):
            host, port = server.address
            peer = Peer(name=node("listed"), address=host, port=port, placement=located())
            socket = await dialer.open_websocket(peer, "/", timeout_s=20.0, message_max_bytes=10)
            await socket.close()
    who = CREDENTIALS.introduced(CREDENTIALS.introduction())
    assert who is not None
    assert told == [Answer(who=who, how="as an agent"), None]


async def test_request_that_is_no_websocket_is_refused() -> None:
    echo = EchoServer()
    async with web_server(echo.handle) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()
    assert echo.refused == [400]
    assert len(echo.acceptor) == 0


@pytest.mark.parametrize(
    "limits",
    [
        AcceptLimits(total_max=3, address_max=100, message_max_bytes=10),
        AcceptLimits(total_max=100, address_max=3, message_max_bytes=10),
    ],
    ids=["total", "address"],
)
async def test_connections_beyond_a_limit_are_refused_until_one_closes(limits: AcceptLimits) -> None:
    echo = EchoServer(limits)
    async with web_server(echo.handle) as server, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(upgraded(server.address))
        async with upgraded(server.address):
            with pytest.raises(AssertionError):
                await stack.enter_async_context(upgraded(server.address))
            assert echo.refused == [503]
        await until(lambda: len(echo.acceptor) == 2, "one is gone")
        await stack.enter_async_context(upgraded(server.address))


@pytest.mark.parametrize("sends", [True, False], ids=["questions", "reports"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_peers_that_vanish_without_a_word_leave_no_socket_no_task_and_no_entry(
    run: Callable[..., None], sends: bool
) -> None:
    async def main() -> None:
        echo = EchoServer(sends=sends)
        async with web_server(echo.handle) as server, AsyncExitStack() as stack:
            own_tasks, own_descriptors = other_tasks(), descriptors()
            writers = []
            for _ in range(6):
                _, writer = await stack.enter_async_context(upgraded(server.address))
                writer.write(frame(b"here I am", masked=True))
                writers.append(writer)
            await until(lambda: len(echo.received) == len(echo.acceptor) == 6, "all are there")
            assert opened_since(own_descriptors) == 12
            for writer in writers:
                await vanish(writer)
            await until(lambda: len(echo.acceptor) == 0, "no entry is left")
            await until(lambda: opened_since(own_descriptors) == 6, "the peers' own sockets are left")
            await until(lambda: other_tasks() <= own_tasks, "no task is left")

    run(main())


@pytest.mark.parametrize("sends", [True, False], ids=["questions", "reports"])
async def test_heartbeat_does_not_end_a_connection_that_is_only_quiet(sends: bool) -> None:
    echo = EchoServer(sends=sends)
    async with web_server(echo.handle) as server, upgraded(server.address) as (_, writer):
        await asyncio.sleep(QUICK.limit_s + 2 * QUICK.interval_s)
        writer.write(frame(b"still here", masked=True))
        await until(lambda: echo.received == [b"still here"], "it is heard")


async def test_nothing_is_sent_where_nothing_may_be_sent() -> None:
    echo = EchoServer(sends=False)
    async with web_server(echo.handle) as server:
        async with upgraded(server.address) as (reader, writer):
            writer.write(frame(b"a", masked=True) + frame(b"b", opcode=PING, masked=True))
            assert await reader.read() == b""
        async with upgraded(server.address) as (reader, _):
            await echo.acceptor.close()
            assert await reader.read() == b""
    assert echo.received == [b"a"]


async def test_flood_of_pings_is_cut_off_and_others_are_served() -> None:
    echo = EchoServer()
    pongs = 0
    async with (
        web_server(echo.handle) as server,
        upgraded(server.address) as (reader, writer),
        upgraded(server.address) as (calm_reader, calm_writer),
    ):
        writer.write(frame(b"", opcode=PING, masked=True) * 50_000)
        calm_writer.write(frame(b"x", masked=True))
        assert await read_frame(calm_reader) == (BINARY, b"x")
        try:
            while (received := await read_frame(reader))[0] == PONG:
                pongs += 1
            assert received[0] == CLOSE
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        await until(lambda: len(echo.acceptor) == 1, "the other is left")
    assert pongs <= 32


async def test_flood_of_messages_leaves_time_for_others() -> None:
    echo = EchoServer(sends=False)
    async with (
        web_server(echo.handle) as server,
        upgraded(server.address) as (_, writer),
        upgraded(server.address) as (_, calm_writer),
    ):
        writer.write(frame(b"", masked=True) * 20_000)
        calm_writer.write(frame(b"calm", masked=True))
        await until(lambda: b"calm" in echo.received, "the other is heard")
        assert echo.received.index(b"calm") < 20_000
        await until(lambda: len(echo.received) == 20_001, "the flood ends")


async def test_peers_are_told_when_the_agent_stops() -> None:
    echo = EchoServer()
    async with web_server(echo.handle) as server, upgraded(server.address) as (reader, writer):
        closing = asyncio.create_task(echo.acceptor.close())
        assert await read_frame(reader) == (CLOSE, (1001).to_bytes(2, "big"))
        writer.write(frame((1001).to_bytes(2, "big"), opcode=CLOSE, masked=True))
        await closing
    await until(lambda: len(echo.acceptor) == 0, "it is forgotten")


async def test_peers_that_do_not_take_it_are_cut_off_when_the_agent_stops() -> None:
    echo = EchoServer()
    async with web_server(echo.handle) as server, upgraded(server.address):
        async with asyncio.timeout(10.0):
            await echo.acceptor.close()
        await until(lambda: len(echo.acceptor) == 0, "it is forgotten")
