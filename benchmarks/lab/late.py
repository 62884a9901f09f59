"""A relay in front of a server that passes everything on late, as a server that is overloaded or far away."""

import asyncio
import contextlib
import socket
import threading
from typing import Self

from benchmarks.lab.network import inside

_PIECE_BYTES = 1 << 16


class LateRelay:
    """Listens at an address of a namespace, and connects to ``host:port`` from there. `close` it.

    Whatever comes from either side is passed on half of the delay later, so an answer is late by all of it.
    """

    def __init__(self, host: str, port: int, *, address: str, netns: str | None = None) -> None:
        self._delay_s = 0.0
        self._target = host, port
        self._netns = netns
        self._listener = inside(netns, lambda: socket.create_server((address, 0)))
        self.endpoint = f"{address}:{self._listener.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._ends = asyncio.Event()
        self._relaying: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="late relay", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def make_late(self, delay_s: float) -> None:
        """Answers are late by so much from now on."""
        self._delay_s = delay_s

    def close(self) -> None:
        """End all connections."""
        self._loop.call_soon_threadsafe(self._ends.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._listener)
        await self._ends.wait()
        server.close()
        for task in self._relaying.copy():
            task.cancel()
        await asyncio.gather(*self._relaying, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relaying.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # nobody waits for it but `_serve`
                await self._relay(reader, writer)
        finally:
            await _end(writer)
            self._relaying.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = await asyncio.to_thread(inside, self._netns, self._connect)
        if opened is None:
            return
        upstream, downstream = await asyncio.open_connection(sock=opened)
        try:
            ways = [
                asyncio.create_task(self._pass(reader, downstream)),
                asyncio.create_task(self._pass(upstream, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            await _end(downstream)

    def _connect(self) -> socket.socket | None:
        try:
            return socket.create_connection(self._target, timeout=5.0)
        except OSError:
            return None

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass pieces on, each at its own time."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.create_task(self._send(pieces, writer))
        try:
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(_PIECE_BYTES):
                    pieces.put_nowait((self._loop.time() + self._delay_s / 2, piece))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, pieces: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                due_s, piece = await pieces.get()
                await asyncio.sleep(max(0.0, due_s - self._loop.time()))
                writer.write(piece)
                await writer.drain()


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
