"""A client, an aiohttp server with a `ClientSink` in it, and holders of a content, all on loopback."""

import asyncio
import hashlib
import os
import random
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from agent.oci.digest import Digest
from agent.oci.ranges import RangeSpec
from agent.oci.reference import Addressed, Kind, Repository
from agent.peering.dial import Dialer
from agent.pull.bucket import TokenBucket
from agent.transfer.answers import AttemptFailed, FetchRequest
from agent.transfer.peers import PeerClient
from agent.transfer.sink import ClientGone, ClientSink
from tests.unit.agent.transfer.scripted import AT_MOST_S, Connection, Script, ScriptedPeer, scripted, until
from tests.unit.twins import CREDENTIALS

KIB, MIB = 1 << 10, 1 << 20
_RANGE = re.compile(r"range: bytes=(\d+)-(\d*)", re.IGNORECASE)


def pattern(size_bytes: int, seed: int = 0) -> bytes:
    """Bytes of which no two parts are alike."""
    return random.Random(seed).randbytes(size_bytes)


def wanted(content: bytes, start: int | None = None, stop: int | None = None) -> FetchRequest:
    """A request for all of a content, or for a part of it."""
    digest = Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")
    target = Addressed(registry=None, repository=Repository("a"), kind=Kind.BLOB, digest=digest)
    spec = None if start is None else RangeSpec(first=start, last=None if stop is None else stop - 1)
    return FetchRequest(target=target, range_spec=spec, size_bytes=len(content))


def part_asked_for(head: str, content: bytes) -> tuple[int, int]:
    """The range of bytes that a request asks for."""
    match = _RANGE.search(head)
    if match is None:
        return 0, len(content)
    return int(match[1]), int(match[2]) + 1 if match[2] else len(content)


def head_for(head: str, content: bytes) -> bytes:
    """The head of the correct answer."""
    start, stop = part_asked_for(head, content)
    lines = [f"content-length: {stop - start}"]
    if _RANGE.search(head):
        lines.append(f"content-range: bytes {start}-{stop - 1}/{len(content)}")
    return "\r\n".join((f"HTTP/1.1 {206 if len(lines) > 1 else 200} OK", *lines, "\r\n")).encode()


def serving(content: bytes, *, pieces: Callable[[], int] = lambda: 256 * KIB, pause_s: float = 0.0) -> Script:
    """Answer every request as a correct holder does, in pieces of these sizes, with a pause after each."""

    async def script(connection: Connection) -> None:
        while True:
            head = await connection.request()
            start, stop = part_asked_for(head, content)
            connection.writer.write(head_for(head, content))
            while start < stop:
                end = min(stop, start + pieces())
                connection.writer.write(content[start:end])
                await connection.writer.drain()
                start = end
                if pause_s:
                    await asyncio.sleep(pause_s)

    return script


def serving_until(content: bytes, at: int, then: Callable[[Connection], Awaitable[None]]) -> Script:
    """Answer as a correct holder does up to this byte of the content. Then do something else."""

    async def script(connection: Connection) -> None:
        while True:
            head = await connection.request()
            start, stop = part_asked_for(head, content)
            connection.writer.write(head_for(head, content) + content[start : min(stop, max(start, at))])
            await connection.writer.drain()
            if stop > at:
                await then(connection)
                return

    return script


async def close(_: Connection) -> None:
    """End the connection."""


async def reset(connection: Connection) -> None:
    """End the connection with an RST."""
    connection.reset()


async def stall(connection: Connection) -> None:
    """Do nothing until the other side has closed."""
    await connection.closed()


@dataclass
class Received:
    """What a client got."""

    body: bytearray = field(default_factory=bytearray)
    ended: bool = False  # the connection was closed


Client = Callable[[asyncio.StreamReader, Received], Awaitable[None]]


async def eager(reader: asyncio.StreamReader, received: Received) -> None:
    """Read everything as fast as possible."""
    while part := await reader.read(256 * KIB):
        received.body += part
    received.ended = True


Handler = Callable[[ClientSink], Awaitable[None]]


@dataclass
class Exchange:
    """One response to one client: what the client got, and how the handler ended."""

    received: Received = field(default_factory=Received)
    sink: ClientSink | None = None
    error: BaseException | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[object] | None" = None

    @property
    def ways(self) -> dict[str, int]:
        """How many bytes went in each way. Ways without bytes are left out."""
        assert self.sink is not None
        return {way: size_bytes for way, size_bytes in self.sink.ways.items() if size_bytes}


@asynccontextmanager
async def exchanging(
    handler: Handler,
    *,
    length: int,
    client: Client = eager,
    stall_s: float = 10.0,
    limit: TokenBucket | None = None,
    narrow: bool = False,
    duplicate: Callable[[int], int] = os.dup,
    closes: bool = False,
) -> AsyncIterator[Exchange]:
    """Request a response of this length, whose body ``handler`` sends. The client reads it meanwhile.

    ``narrow``: the kernel's buffers between them hold a few KiB only. ``duplicate``: see `ClientSink`.
    ``closes``: the client closes when it has read what it wants.
    """
    exchange = Exchange()

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = length
        response.force_close()
        told: list[int] = []
        sink = exchange.sink = ClientSink(
            request,
            response,
            stall_s=stall_s,
            limit=limit or TokenBucket(0),
            sent=told.append,
            duplicate=duplicate,
        )
        exchange.task = asyncio.current_task()
        if narrow and request.transport is not None:
            request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        try:
            await handler(sink)
        except (AttemptFailed, ClientGone) as error:
            exchange.error = error
            raise ConnectionResetError from error
        except BaseException as error:
            exchange.error = error
            raise
        finally:
            sink.close()
            assert sum(told) == sink.sent_bytes == sink.ways.total()
            exchange.over.set()
        return response

    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    writer: asyncio.StreamWriter | None = None
    reading: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(AT_MOST_S):
            own = socket.socket()
            if narrow:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            own.setblocking(False)
            await asyncio.get_running_loop().sock_connect(own, (host, port))
            reader, writer = await asyncio.open_connection(sock=own, limit=2 * KIB if narrow else 64 * KIB)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")

            async def read() -> None:
                await reader.readuntil(b"\r\n\r\n")
                await client(reader, exchange.received)
                if closes:
                    writer.close()

            reading = asyncio.create_task(read())
            yield exchange
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if writer is not None:
            writer.transport.abort()
        await runner.cleanup()


@asynccontextmanager
async def holders(*scripts: Script) -> AsyncIterator[tuple[list[ScriptedPeer], PeerClient]]:
    """Peers, and a client that fetches from them."""
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(scripted(script, f"p{place}"))
            for place, script in enumerate(scripts)
        ]
        client = await stack.enter_async_context(
            PeerClient(Dialer(credentials=CREDENTIALS, connect_s=5.0), stall_s=5.0)
        )
        yield peers, client


async def delivered(exchange: Exchange, length: int) -> bytes:
    """Wait until all of the body has arrived. Returns what the client got."""
    await exchange.over.wait()
    await until(lambda: len(exchange.received.body) >= length or exchange.received.ended, "all arrives")
    return bytes(exchange.received.body)
