"""Both ends of a WebSocket, written by hand, and peers that vanish without closing."""

import asyncio
import base64
import ctypes
import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from agent.heartbeat import Heartbeat
from agent.members.member import Peer
from agent.peering.channel import Codec, MessageInvalid
from tests.frames import accept_head
from tests.unit.agent.transfer.scripted import Connection, until
from tests.unit.twins import node, placed

QUICK = Heartbeat(idle_s=1, interval_s=1, lost_max=2)
PATH = "/echo"

_SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0 bytes


async def vanish(writer: asyncio.StreamWriter) -> None:
    """From now on the kernel drops every packet for this connection, and acknowledges none.

    The other end sees what it would see if this machine had lost its power. The connection must have no
    heartbeat of its own: that would notice, and reset the connection.
    """
    sock = writer.get_extra_info("socket")
    # Otherwise the kernel would retransmit what is not acknowledged. A machine without power does not.
    await until(lambda: _unacknowledged_bytes(sock) == 0, "all is acknowledged")
    program = struct.pack("HL", 1, ctypes.addressof(_DROP_ALL))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _unacknowledged_bytes(sock: socket.socket) -> int:
    """SIOCOUTQ, see tcp(7)."""
    count = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(count, sys.byteorder)


async def accept_upgrade(connection: Connection) -> None:
    """The accepting side's half of the handshake."""
    head = await connection.request()
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    await connection.send(accept_head(fields["Sec-WebSocket-Key"]))


@asynccontextmanager
async def upgraded(
    address: tuple[str, int], *fields: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A WebSocket to this address, after the handshake. Raises AssertionError when it is refused.

    ``fields``: more of them for the head of the request.
    """
    reader, writer = await asyncio.open_connection(*address)
    try:
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n".encode()
            + b"".join(f"{field}\r\n".encode() for field in fields)
            + b"\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next frame's opcode and payload. Raises `asyncio.IncompleteReadError` at the end."""
    first, second = await reader.readexactly(2)
    length = second & 127
    if length == 126:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
    mask = await reader.readexactly(4) if second & 128 else bytes(4)
    payload = await reader.readexactly(length)
    return first & 15, bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def _read_reply(body: bytes) -> tuple[int, Callable[[str], str]]:
    number, _, text = body.decode().partition(" ")
    if not number.isdecimal():
        raise MessageInvalid(text)
    return int(number), lambda question: f"{question}: {text}"


ECHO: Codec[str, str] = Codec(
    path=PATH,
    reply_max_bytes=1024,
    encode=lambda number, question: f"{number} {question}".encode(),
    decode=_read_reply,
)
"""Questions and replies are a number and a text."""


@dataclass(frozen=True)
class WebServer:
    """The address that an aiohttp handler listens on."""

    address: tuple[str, int]

    def peer(self, name: str = "p") -> Peer:
        """The server as a peer. One server can be several peers."""
        host, port = self.address
        return Peer(name=node(name), address=host, port=port, placement=placed("r", "z"))


@asynccontextmanager
async def web_server(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
) -> AsyncIterator[WebServer]:
    """Serve as the agent does: a handler is cancelled when its client leaves."""
    runner = web.ServerRunner(web.Server(handler, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield WebServer(address=(host, port))
    finally:
        await runner.cleanup()
