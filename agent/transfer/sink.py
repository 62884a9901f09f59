"""The client's side of one response: its head by aiohttp, its body past it.

Uses aiohttp's public surface only, on asyncio's loop and on uvloop alike. Once aiohttp's own buffer is
empty, the body's bytes go to a duplicate of the socket's descriptor, as the loops refuse to watch one that
a transport owns. Every wait on the client is bounded by ``stall_s``.
"""

import asyncio
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from agent.pull.bucket import TokenBucket

_log = logging.getLogger(__name__)

_LINGER_S = 2.0


class ClientGone(Exception):
    """The client closed the connection or takes no bytes any more."""


class ClientSink:
    """Takes the body of one response. Close it at the end.

    ``sent``: told of every byte that the client was sent. ``limit``: how fast they may go. ``duplicate``:
    gives a second descriptor of the socket, or raises OSError.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        *,
        stall_s: float,
        limit: TokenBucket,
        sent: Callable[[int], None],
        duplicate: Callable[[int], int] = os.dup,
    ) -> None:
        self._request = request
        self._response = response
        self._stall_s = stall_s
        self._limit = limit
        self._sent = sent
        self._duplicate = duplicate
        self._fd: int | None = None
        self._exhausted = False
        self.sent_bytes = 0
        self.ways: Counter[str] = Counter()  # how they went
        limit.takers += 1
        self._open = True
        self.held_s = 0.0  # how long the client, or the limit, was waited for

    @property
    def plain(self) -> bool:
        """Whether the kernel can write to the client's connection by itself: not through TLS."""
        transport = self._request.transport
        tls = transport is not None and transport.get_extra_info("sslcontext") is not None
        return not tls and not self._exhausted

    @property
    def piece_bytes(self) -> int | None:
        """The most to send at a time under the limit; None: any amount."""
        return self._limit.piece_bytes

    async def begin(self, first: bytes) -> None:
        """Send the head and the first bytes. Raises `ClientGone`."""
        try:
            async with asyncio.timeout(self._stall_s):
                await self._response.prepare(self._request)
                if first:
                    await self._response.write(first)
        except (ConnectionError, TimeoutError) as error:
            raise ClientGone(str(error) or "it takes no bytes") from error
        await self.record_sent(len(first), "memory")

    async def descriptor(self) -> int | None:
        """Where the kernel can write the rest to; None when no descriptor is left. Raises `ClientGone`."""
        if self._fd is not None:
            return self._fd
        transport = self._request.transport
        if transport is None:
            raise ClientGone("it closed the connection")
        # Nothing may be left in aiohttp's buffer, or bytes would overtake each other.
        transport.set_write_buffer_limits(high=0)
        try:
            async with asyncio.timeout(self._stall_s):
                while transport.get_write_buffer_size() and not transport.is_closing():
                    await self._request.writer.drain()
                    await asyncio.sleep(0)
        except (ConnectionError, TimeoutError) as error:
            raise ClientGone(str(error) or "it takes no bytes") from error
        if transport.is_closing():
            raise ClientGone("it closed the connection")
        own: socket.socket = transport.get_extra_info("socket")
        try:
            self._fd = self._duplicate(own.fileno())
        except OSError as error:
            _log.warning("bytes are copied: %s", error)
            self._exhausted = True
        return self._fd

    async def write(self, content: bytes | memoryview, way: str) -> None:
        """Send bytes by copying. Raises `ClientGone`."""
        fd = await self.descriptor() if self.plain else None
        if fd is None:
            try:
                async with asyncio.timeout(self._stall_s):
                    # The transport keeps what it could not send yet, and the caller uses its buffer again.
                    await self._response.write(bytes(content))
            except (ConnectionError, TimeoutError) as error:
                raise ClientGone(str(error) or "it takes no bytes") from error
            await self.record_sent(len(content), way)
            return
        view = memoryview(content)
        while view:
            try:
                written = os.write(fd, view[: self.piece_bytes])
            except BlockingIOError:
                await self.writable(fd)
                continue
            except ConnectionError as error:
                raise ClientGone(str(error)) from error
            view = view[written:]
            await self.record_sent(written, way)

    async def record_sent(self, size_bytes: int, way: str) -> None:
        """So many bytes went to the client: count them, and wait if that was faster than allowed."""
        self.sent_bytes += size_bytes
        self.ways[way] += size_bytes
        self._sent(size_bytes)
        wait_s = self._limit.take(size_bytes, time.monotonic())
        if wait_s > 0:
            self.held_s += wait_s
            await asyncio.sleep(wait_s)

    async def writable(self, fd: int) -> None:
        """Wait until the client takes more by its `descriptor`. Raises `ClientGone`."""
        started_s = time.monotonic()
        if not await is_ready(fd, self._stall_s, writing=True):
            raise ClientGone(f"it takes no bytes for {self._stall_s} s")
        self.held_s += time.monotonic() - started_s

    def close(self) -> None:
        """Let go of the connection, which goes on."""
        if self._open:
            self._open = False
            self._limit.takers -= 1
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


async def is_ready(fd: int, at_most_s: float, *, writing: bool = False) -> bool:
    """Wait until a descriptor can be read from, or written to; false when it can't within the time."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[bool] = loop.create_future()
    timer = loop.call_later(at_most_s, _settle, ready, False)
    (loop.add_writer if writing else loop.add_reader)(fd, _settle, ready, True)
    try:
        return await ready
    finally:
        timer.cancel()
        (loop.remove_writer if writing else loop.remove_reader)(fd)


async def cut(request: web.BaseRequest) -> None:
    """End a body visibly short: FIN, never RST.

    containerd resumes after a FIN and fails the pull after an RST, and closing a socket with unread
    input sends an RST. So only our side is closed, and the client's close is waited for, shortly:
    it cancels the handler.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        return
    if transport.can_write_eof():
        transport.write_eof()
    await asyncio.sleep(_LINGER_S)


def _settle(ready: "asyncio.Future[bool]", outcome: bool) -> None:
    if not ready.done():
        ready.set_result(outcome)
