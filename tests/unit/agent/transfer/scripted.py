"""A peer on loopback. On each connection it does what the test's script says."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from agent.members.member import Peer
from tests.unit.twins import node, placed

AT_MOST_S = 20.0


@dataclass
class Connection:
    """One accepted connection, from the peer's side."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[str] = field(default_factory=list)  # request lines
    over: bool = False  # its script has ended

    async def request(self) -> str:
        """The next request's head. Raises `asyncio.IncompleteReadError` when the other side closed."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.requests.append(head.partition("\r\n")[0])
        return head

    async def send(self, *parts: bytes) -> None:
        """Send these pieces one after the other, each in its own segment if the kernel does so."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def closed(self) -> None:
        """Return when the other side has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        """Close with an RST."""
        own: socket.socket = self.writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Connection], Awaitable[None]]


@dataclass
class ScriptedPeer:
    """The address that the peer listens on, and the connections to it."""

    peer: Peer
    connections: list[Connection] = field(default_factory=list)

    @property
    def requests(self) -> list[str]:
        """The request lines of all connections."""
        return [line for connection in self.connections for line in connection.requests]


@asynccontextmanager
async def scripted(script: Script, name: str = "p") -> AsyncIterator[ScriptedPeer]:
    """Listen while entered; a connection is closed when its script ends."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        connection = Connection(len(made.connections), reader, writer)
        made.connections.append(connection)
        try:
            await script(connection)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the other side has closed
        finally:
            tasks.discard(task)
            connection.over = True
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    member = Peer(name=node(name), address=host, port=port, placement=placed("r", "z"))
    made = ScriptedPeer(peer=member)
    try:
        async with asyncio.timeout(AT_MOST_S):
            yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def answer(body: bytes = b"", status: int = 200, **headers: str | int) -> bytes:
    """A response. Its Content-Length is the body's if no other is given. None leaves a header out."""
    fields = {
        "content-length": len(body),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value != "")
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + body


async def until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as the condition holds."""
    async with asyncio.timeout(AT_MOST_S):
        while not condition():  # noqa: ASYNC110 - of the kernel's, which tells nobody
            await asyncio.sleep(0.002)
    assert condition(), what


def descriptors() -> dict[str, str]:
    """This process' open files, and what they are."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except OSError:
            continue  # the descriptor of this listing itself
    return found


def opened_since(before: Mapping[str, str]) -> int:
    """How many files this process opened since then, and has not closed.

    What earlier tests left to the garbage collector may be closed at any time, and does not count.
    """
    return len(descriptors().items() - before.items())


class NoLeak:
    """Fails if a descriptor that was opened meanwhile is still open.

    Entered with ``async with`` it waits for those that the loop is about to close.
    """

    def __enter__(self) -> None:
        self._before = descriptors()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert error is not None or not self._left, f"left open: {self._left}"

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(500):
            if not self._left:
                break
            await asyncio.sleep(0.01)
        self.__exit__(kind, error, trace)

    @property
    def _left(self) -> dict[str, str]:
        return {number: what for number, what in descriptors().items() if self._before.get(number) != what}
