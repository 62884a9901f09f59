"""Sends one case over one connection and reads what comes back, to the end."""

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.grammar import Case, Ending

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]
_PAUSE_S = 0.002  # so that the server reads the parts one by one
_ABSENT_S = 10.0
_READ_MAX_BYTES = 64 << 20
_STREAM = b"Content-Type: text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a connection brought. ``hung``: it was still open after the time that it may take."""

    received: bytes
    hung: bool = False


def to_tcp(host: str, port: int) -> Connect:
    """Connects to a TCP port."""

    async def connect() -> Streams:
        return await asyncio.open_connection(host, port)

    return connect


def to_unix(path: Path) -> Connect:
    """Connects to a Unix socket. It may be gone for a while: an agent that gave its sockets away has none."""

    async def connect() -> Streams:
        until_s = time.monotonic() + _ABSENT_S
        while True:
            try:
                return await asyncio.open_unix_connection(path)
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > until_s:
                    raise
                await asyncio.sleep(_PAUSE_S)

    return connect


async def play(case: Case, connect: Connect, *, at_most_s: float) -> Outcome:
    """Send a case and wait until the server has closed. Raises OSError if nobody listens."""
    reader, writer = await connect()
    received = bytearray()
    reading = asyncio.create_task(_read(reader, received))
    try:
        async with asyncio.timeout(at_most_s):
            with suppress(ConnectionError):
                await _send(case, writer)
            if case.ending is Ending.RESET:
                _reset(writer)
            elif case.ending is not Ending.CLOSE:
                await reading
    except TimeoutError:
        return Outcome(received=bytes(received), hung=True)
    finally:
        reading.cancel()
        writer.transport.abort() if case.ending is Ending.RESET else writer.close()
    return Outcome(received=bytes(received))


async def _send(case: Case, writer: asyncio.StreamWriter) -> None:
    for number, part in enumerate(case.parts):
        if number:
            await asyncio.sleep(_PAUSE_S)
        writer.write(part)
        await writer.drain()
    if case.ending is Ending.HALF_CLOSE and writer.can_write_eof():
        with suppress(OSError):
            writer.write_eof()


async def _read(reader: asyncio.StreamReader, received: bytearray) -> None:
    with suppress(ConnectionError):
        while (part := await reader.read(1 << 16)) and len(received) < _READ_MAX_BYTES:
            received += part
            if _STREAM in received:  # it goes on until its client leaves
                return


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
