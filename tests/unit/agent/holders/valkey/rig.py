"""Runs the door to a server in a test: a real one, or a socket that answers what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from agent.config import Settings
from agent.config.load import make_settings
from agent.holders.valkey.factory import make_server
from agent.holders.valkey.server import Server
from agent.observe.index_metrics import IndexTrouble
from agent.tasks import at_once

PATIENCE_S = 60.0
LOOSE_S = 5.0
"""A deadline that a busy machine keeps. Tests of slow servers have the usual one."""


def settings(url: str, **valkey: object) -> Settings:
    """Settings with this index. The cluster is called *lab* unless the test says otherwise."""
    document = {
        "node": {"name": "node-1", "address": "10.0.0.1"},
        "peering": {"key": "key"},
        "index": url,
        "valkey": {"cluster": "lab", "timeout_s": LOOSE_S, **valkey},
    }
    return make_settings(document, [], base=Path("/"))


class Door:
    """A running `Server`, and what it told. ``failed``: kinds of errors, as metrics count them."""

    def __init__(self, server: Server, failed: list[IndexTrouble]) -> None:
        self.server = server
        self.failed = failed
        self.resets: list[str] = []
        self.invalid: list[Sequence[bytes] | None] = []
        server.on_reset(lambda: self.resets.append(server.reset_reason))
        server.on_invalid(self.invalid.append)

    async def healthy(self) -> None:
        """Wait until it is asked."""
        await until(lambda: self.server.healthy)

    async def down(self, kind: IndexTrouble) -> None:
        """Wait until it is not asked, for this reason."""
        await until(lambda: self.kind is kind and not self.server.healthy)

    @property
    def kind(self) -> IndexTrouble | None:
        """What is wrong."""
        return None if self.server.trouble is None else self.server.trouble.kind


async def until(ready: Callable[[], bool]) -> None:
    """Wait for a condition. Fails if it does not come about in a minute."""
    async with asyncio.timeout(PATIENCE_S):
        while not ready():  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(
    url: str,
    *,
    ids: tuple[str, ...] = (),
    members: Callable[[], int] = lambda: 3,
    members_known: Callable[[], Awaitable[object]] = at_once,
    **valkey: object,
) -> AsyncIterator[Door]:
    """A door to the server of this URL, running. ``ids``: of the cluster's keys, if it has no name."""
    failed: list[IndexTrouble] = []
    made = make_server(
        settings(url, **valkey),
        ids=lambda: ids,
        members=members,
        failed=failed.append,
        members_known=members_known,
    )
    door = Door(made, failed)
    task = asyncio.create_task(made.run())
    try:
        yield door
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(answer: Answering) -> AsyncIterator[str]:
    """A socket on loopback whose connections are answered so. Gives HOST:PORT."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await answer(reader, writer)
        finally:
            running.discard(task)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*listener.sockets[0].getsockname()[:2])
    finally:
        listener.close()
        for task in running.copy():
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def delayed(endpoint: str, delay: Callable[[], float]) -> AsyncIterator[str]:
    """A proxy to a server, whose answers arrive ``delay`` seconds later. Gives its HOST:PORT."""
    host, _, port = endpoint.rpartition(":")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, sink = await asyncio.open_connection(host, int(port))
        there = asyncio.create_task(_pass(reader, sink, lambda: 0.0))
        try:
            await _pass(upstream, writer, delay)
        finally:
            there.cancel()
            sink.close()

    async with listening(answer) as place:
        yield place


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: Callable[[], float]
) -> None:
    while chunk := await reader.read(65536):
        await asyncio.sleep(delay())
        writer.write(chunk)
        await writer.drain()
