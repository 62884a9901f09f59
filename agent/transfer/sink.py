"""The client's side of one response: aiohttp sends the head, the body bypasses aiohttp.

Uses aiohttp's public interface only. Works on asyncio's loop and on uvloop. Once aiohttp's buffer is empty,
the body is written to a duplicate of the socket's descriptor: the loops refuse to watch a descriptor that a
transport owns. Every wait for the client is bounded by ``stall_s``.
"""

import asyncio
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from agent.descriptors import is_ready
from agent.pull.bucket import TokenBucket

_log = logging.getLogger(__name__)

_LINGER_S = 2.0
_PIECE_BYTES = 256 * 1024  # given to aiohttp at a time, where it sends the body


class ClientGone(Exception):
    """The client closed the connection, or it no longer takes bytes."""


class ClientSink:
    """Sends the body of one response. Close it at the end.

    ``sent``: is called with the size of each part that was sent. ``limit``: the rate limit. ``duplicate``:
    returns a second descriptor of the socket, or raises OSError.
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
        self.ways: Counter[str] = Counter()  # how many bytes were sent in which way
        limit.takers += 1
        self._open = True
        self.held_s = 0.0  # how long the client or the rate limit was waited for

    @property
    def plain(self) -> bool:
        """Whether the kernel can write the body to the client's connection. With TLS it can't."""
        transport = self._request.transport
        tls = transport is not None and transport.get_extra_info("sslcontext") is not None
        return not tls and not self._exhausted

    @property
    def piece_bytes(self) -> int | None:
        """The most bytes to send at a time under the rate limit. None: any number."""
        return self._limit.piece_bytes

    async def begin(self, first: bytes) -> None:
        """Send the head, unless it was sent already, and the first bytes. Raises `ClientGone`."""
        if self._fd is not None:
            await self.write(first, "memory")
            return
        try:
            async with asyncio.timeout(self._stall_s):
                await self._response.prepare(self._request)
                await self._response.write(first)  # the head goes with it, also if it is empty
        except (ConnectionError, TimeoutError) as error:
            raise ClientGone(str(error) or "it takes no bytes") from error
        await self.record_sent(len(first), "memory")

    async def descriptor(self) -> int | None:
        """The descriptor to write the rest to. None if this process has none left. Raises `ClientGone`."""
        if self._fd is not None:
            return self._fd
        transport = self._request.transport
        if transport is None:
            raise ClientGone("it closed the connection")
        # Wait until aiohttp's buffer is empty, or later bytes would overtake those in it.
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
        view = memoryview(content)
        while view and fd is None:
            # In pieces: a slow client that takes one of them within the time limit goes on.
            piece = view[: min(_PIECE_BYTES, self.piece_bytes or _PIECE_BYTES)]
            whole = isinstance(content, bytes) and len(piece) == len(content)
            try:
                async with asyncio.timeout(self._stall_s):
                    # Copy a buffer: the transport may keep the bytes, and the caller uses it again.
                    await self._response.write(content if whole else bytes(piece))
            except (ConnectionError, TimeoutError) as error:
                raise ClientGone(str(error) or "it takes no bytes") from error
            view = view[len(piece) :]
            await self.record_sent(len(piece), way)
        while view and fd is not None:
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
        """Count bytes that the client was sent. Waits if they went faster than the rate limit allows."""
        self.sent_bytes += size_bytes
        self.ways[way] += size_bytes
        self._sent(size_bytes)
        wait_s = self._limit.take(size_bytes, time.monotonic())
        if wait_s > 0:
            self.held_s += wait_s
            await asyncio.sleep(wait_s)

    async def writable(self, fd: int) -> None:
        """Wait until `descriptor` can be written to. Raises `ClientGone`."""
        started_s = time.monotonic()
        if not await is_ready(fd, self._stall_s, writing=True):
            raise ClientGone(f"it takes no bytes for {self._stall_s} s")
        self.held_s += time.monotonic() - started_s

    async def stays(self, at_least_s: float) -> None:
        """Return if the client does not close its side within this time. Else raises `ClientGone`.

        aiohttp does not tell: a client may close its side and still read the answer.
        """
        fd = await self.descriptor()
        if fd is None:
            await asyncio.sleep(at_least_s)
        elif await is_ready(fd, at_least_s) and _is_closed(fd):
            raise ClientGone("it closed its side")

    def close(self) -> None:
        """Release the duplicate descriptor. The connection stays open."""
        if self._open:
            self._open = False
            self._limit.takers -= 1
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


async def cut(request: web.BaseRequest) -> None:
    """End a body before its announced length, with a FIN and never an RST.

    containerd resumes after a FIN, and fails the pull after an RST. Closing a socket with unread input sends
    an RST. So this closes only our side, and waits a short time for the client to close: that cancels the
    handler.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        return
    if transport.can_write_eof():
        transport.write_eof()
    await asyncio.sleep(_LINGER_S)


def _is_closed(fd: int) -> bool:
    """Whether the other side of a connection that can be read closed it."""
    own = socket.socket(fileno=fd)
    try:
        return not own.recv(1, socket.MSG_PEEK)
    except BlockingIOError:  # it sent something, which aiohttp took
        return False
    except OSError:
        return True
    finally:
        own.detach()
