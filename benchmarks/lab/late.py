"""A relay in front of a server that passes everything on late, as a server that is overloaded or far away."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any, Self

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
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(end())
            self._loop.close()

    async def _serve(self) -> None:
        await asyncio.start_server(self._relay, sock=self._listener)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = await asyncio.to_thread(inside, self._netns, self._connect)
        if opened is None:
            writer.close()
            return
        upstream, downstream = await asyncio.open_connection(sock=opened)
        ways: list[Coroutine[Any, Any, None]] = [self._pass(reader, downstream), self._pass(upstream, writer)]
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, downstream):
            end.close()
        for task in tasks:
            task.cancel()

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

    async def _send(self, pieces: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                due_s, piece = await pieces.get()
                await asyncio.sleep(max(0.0, due_s - self._loop.time()))
                writer.write(piece)
                await writer.drain()
