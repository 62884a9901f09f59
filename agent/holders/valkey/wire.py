"""One connection to a server: the official client's, with bounds on what it reads.

The client's parser reads whatever length a server names, and calls itself for each message that the server
pushes. So a broken server could take all memory, and a thousand pushed messages in a row the stack. This one
has a budget for each reply, and hands pushed messages to whoever listens, one by one.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from valkey._parsers.resp3 import _AsyncRESP3Parser
from valkey.asyncio.connection import Connection
from valkey.exceptions import InvalidResponse, ResponseError, ValkeyError

from agent.holders.valkey.trouble import IndexDown, Refused, clipped, lost, of_garbage, of_reply

Word: TypeAlias = str | bytes | int
Command: TypeAlias = tuple[Word, ...]
"""A command and its arguments. Texts are sent in UTF-8."""

Reply: TypeAlias = Any
"""bytes, int, None, a list, a dict, or `Refused`."""

REPLY_MOST_BYTES = 4 << 20
"""A bitmap of 100,000 nodes has 12,500 bytes, and nobody asks for more than some hundreds at once."""

_PARTS_MOST = 20_000
_NEVER_READ = "more than an index has"
_PUSHED = object()


def packed(commands: Iterable[Command]) -> bytes:
    """Commands as they are sent (RESP: arrays of bulk strings).

    A third of the client's own cost. It counts: an announcement is some hundred commands, and nothing else in
    the agent goes on meanwhile.
    """
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            raw = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


class ErrorReply(ResponseError):
    """An error that the server answered. ``text``: all of it, its first word included."""

    def __init__(self, text: str) -> None:
        super().__init__(clipped(text))
        self.text = text


class BoundedParser(_AsyncRESP3Parser):
    """Reads replies of bounded size. ``pushed``: called with each message that is no reply."""

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size)  # type: ignore[no-untyped-call]
        self.pushed: Callable[[list[Any]], None] = _ignore
        self._bytes_left = self._parts_left = 0

    @classmethod
    def parse_error(cls, response: str) -> ErrorReply:
        """Keep the whole text: the client's own classes drop the first word, or raise at once."""
        return ErrorReply(response)

    async def read_reply(self) -> Reply:
        """The next reply. Raises what the client raises for a broken one."""
        while True:
            self._bytes_left, self._parts_left = REPLY_MOST_BYTES, _PARTS_MOST
            reply = await self.read_response(disable_decoding=True, push_request=True)
            if reply is not _PUSHED:
                return reply

    async def handle_push_response(
        self, response: list[Any], disable_decoding: bool, push_request: bool
    ) -> object:
        """Hand a message on."""
        self.pushed(response)
        return _PUSHED

    async def _readline(self) -> bytes:
        line = bytes(await super()._readline())
        self._parts_left -= 1
        self._spend(len(line))
        if line[:1] in (b"*", b"~", b"%", b">") and not 0 <= int(line[1:]) <= self._parts_left:
            raise InvalidResponse(_NEVER_READ)
        return line

    async def _read(self, length: int) -> bytes:
        self._spend(length if length >= 0 else REPLY_MOST_BYTES + 1)
        return bytes(await super()._read(length))

    def _spend(self, size_bytes: int) -> None:
        self._bytes_left -= size_bytes
        if self._bytes_left < 0 or self._parts_left < 0:
            raise InvalidResponse(_NEVER_READ)


def _ignore(_: list[Any]) -> None:
    pass


class Wire(Connection):
    """One connection, already made to a socket. ``place``: its other end, for people."""

    def __init__(self, place: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(parser_class=BoundedParser, protocol=3, socket_timeout=None, lib_name=None)
        self.place = place
        self._reader, self._writer = reader, writer
        self._parser.on_connect(self)  # type: ignore[no-untyped-call]

    @property
    def parser(self) -> BoundedParser:
        """What reads the replies."""
        parser = self._parser
        assert isinstance(parser, BoundedParser)
        return parser

    @property
    def unsent_bytes(self) -> int:
        """How much waits to be sent. Large, if the other end does not read."""
        return 0 if self._writer is None else self._writer.transport.get_write_buffer_size()

    def write(self, commands: Iterable[Command]) -> None:
        """Send commands, in order and at once. Raises `IndexDown` if the connection has ended."""
        if self._writer is None or self._writer.is_closing():
            raise lost(self.place)
        self._writer.write(packed(commands))

    async def read(self) -> Reply:
        """The next reply. An error about one command is a `Refused`. Raises `IndexDown`, also for an error
        about the server as a whole.
        """
        reply = await self.read_raw()
        if not isinstance(reply, ErrorReply):
            return reply
        trouble = of_reply(reply.text)
        if trouble is not None:
            raise trouble
        return Refused(clipped(reply.text))

    async def read_raw(self) -> Reply:
        """The next reply, an error as an `ErrorReply`. Raises `IndexDown` if there can be none any more."""
        try:
            return await self.parser.read_reply()
        except (InvalidResponse, ValueError, TypeError, RecursionError, AttributeError) as error:
            raise of_garbage(str(error)) from None
        except (ValkeyError, OSError, EOFError) as error:
            if isinstance(error, ssl.SSLError):
                raise of_garbage(str(error)) from None
            raise lost(self.place) from None

    async def ask(self, *commands: Command) -> list[Reply]:
        """Send commands and read their replies. For a connection that nobody else reads."""
        self.write(commands)
        return [await self.read() for _ in commands]

    def end(self) -> None:
        """Close it at once. What is not sent yet is dropped. Ending twice does nothing."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._reader = self._writer = None
            self._parser.on_disconnect()  # type: ignore[no-untyped-call]


async def open_wire(
    place: str,
    target: tuple[str, int],
    *,
    tls: ssl.SSLContext | None,
    server_name: str,
    handshake_s: float = 60.0,
    family: int = socket.AF_INET,
) -> Wire:
    """Connect to an address. ``server_name``: the name that its certificate has to have.

    Raises OSError, also for a TLS handshake that takes longer than ``handshake_s``.
    """
    sock = await _connected(target, family)
    secured: dict[str, Any] = {}
    if tls is not None:
        secured = {"ssl": tls, "server_hostname": server_name, "ssl_handshake_timeout": handshake_s}
    try:
        reader, writer = await asyncio.open_connection(sock=sock, **secured)
    except BaseException:
        sock.close()
        raise
    return Wire(place, reader, writer)


async def _connected(target: tuple[str, int], family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


async def greet(wire: Wire, *, login: Sequence[str | bytes], name: str, database: int = 0) -> str:
    """Speak RESP3, log in, say who this is. ``login``: nothing, or user and password.

    Returns what the server is: ``standalone``, ``cluster`` or ``sentinel``. Raises `IndexDown`.
    """
    hello: Command = ("HELLO", 3, *(("AUTH", *login) if login else ()), "SETNAME", name)
    replies = await wire.ask(hello, *([("SELECT", database)] if database else []))
    for reply in replies:
        if isinstance(reply, Refused):
            raise of_garbage(reply.words)
    if not isinstance(replies[0], dict):
        raise of_garbage("it answers HELLO with no map")
    mode = replies[0].get(b"mode")
    return mode.decode(errors="replace") if isinstance(mode, bytes) else "standalone"


__all__ = ["Command", "ErrorReply", "IndexDown", "Reply", "Wire", "greet", "open_wire"]
