"""Sending bodies to clients: from a file by sendfile, from anything else by copying.

Uses aiohttp's public surface only, on asyncio's loop and on uvloop alike. uvloop has no
`loop.sendfile`, and aiohttp's FileResponse then falls back to copying without a word, so the
file's bytes go to a duplicate of the socket's descriptor once aiohttp's own buffer is empty.
Every wait on the client is bounded by ``stall_s``.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

from aiohttp import web

from agent.content.store import Blob, ContentUnavailable

_FIRST_BYTES = 64 * 1024
_SENDFILE_BYTES = 2 * 1024 * 1024
_TURN_BYTES = 8 * 1024 * 1024  # others get a turn on the event loop after this much
_READ_AHEAD_BYTES = 8 * 1024 * 1024
_COPY_BYTES = 1024 * 1024
_LINGER_S = 2.0


class ClientGone(Exception):
    """The client closed the connection or takes no bytes any more."""


async def read_first(blob: Blob, start: int, stop: int) -> bytes:
    """The first bytes of a body, to be in hand before its head is sent. Raises `ContentError`."""
    first = await blob.read(start, min(_FIRST_BYTES, stop - start))
    if not first and stop > start:
        raise ContentUnavailable("the blob's file is shorter than it was a moment ago")
    return first


async def send_first(
    request: web.BaseRequest, response: web.StreamResponse, first: bytes, stall_s: float
) -> None:
    """Send the head and the first bytes. Raises `ClientGone`."""
    try:
        async with asyncio.timeout(stall_s):
            await response.prepare(request)
            if first:
                await response.write(first)
    except (ConnectionError, TimeoutError) as error:
        raise ClientGone(str(error) or "it takes no bytes") from error


async def send_blob(
    request: web.BaseRequest,
    response: web.StreamResponse,
    blob: Blob,
    start: int,
    stop: int,
    stall_s: float,
) -> AsyncIterator[int]:
    """Send bytes ``start`` to ``stop`` of a blob; yields how many went out at each step.

    Raises `ClientGone`, or `ContentError` when the bytes can't be read.
    """
    if start >= stop:
        return
    if blob.fd is not None:
        async for sent in _send_file(request, blob.fd, start, stop, stall_s):
            yield sent
        return
    while start < stop:
        chunk = await blob.read(start, min(_COPY_BYTES, stop - start))
        if not chunk:
            raise ContentUnavailable("the blob ended early")
        await send_chunk(response, chunk, stall_s)
        start += len(chunk)
        yield len(chunk)


async def send_chunk(response: web.StreamResponse, chunk: bytes, stall_s: float) -> None:
    """Send some bytes by copying. Raises `ClientGone`."""
    try:
        async with asyncio.timeout(stall_s):
            await response.write(chunk)
    except (ConnectionError, TimeoutError) as error:
        raise ClientGone(str(error) or "it takes no bytes") from error


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


async def _send_file(
    request: web.BaseRequest, file_fd: int, start: int, stop: int, stall_s: float
) -> AsyncIterator[int]:
    transport = request.transport
    if transport is None:
        raise ClientGone("it closed the connection")
    # Nothing may be left in aiohttp's buffer, or bytes would overtake each other.
    transport.set_write_buffer_limits(high=0)
    try:
        async with asyncio.timeout(stall_s):
            while transport.get_write_buffer_size() and not transport.is_closing():
                await request.writer.drain()
                await asyncio.sleep(0)
    except (ConnectionError, TimeoutError) as error:
        raise ClientGone(str(error) or "it takes no bytes") from error
    if transport.is_closing():
        raise ClientGone("it closed the connection")
    own: socket.socket = transport.get_extra_info("socket")
    # The loop refuses to watch a descriptor that one of its transports owns; a duplicate it takes.
    try:
        out_fd = os.dup(own.fileno())
    except OSError as error:  # no descriptor left, most likely
        raise ContentUnavailable(f"dup: {error.strerror}") from error
    try:
        turn = 0
        ahead = start
        while start < stop:
            try:
                if start >= ahead:
                    # Have the disk work while the network does: sendfile itself would wait for it.
                    os.posix_fadvise(file_fd, start, 2 * _READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
                    ahead = start + _READ_AHEAD_BYTES
                sent = os.sendfile(out_fd, file_fd, start, min(_SENDFILE_BYTES, stop - start))
            except BlockingIOError:
                await _writable(out_fd, stall_s)
                continue
            except ConnectionError as error:
                raise ClientGone(str(error)) from error
            except OSError as error:
                raise ContentUnavailable(f"sendfile: {error.strerror}") from error
            if sent == 0:
                raise ContentUnavailable("the blob's file was cut short")
            start += sent
            turn += sent
            yield sent
            if turn >= _TURN_BYTES:
                turn = 0
                await asyncio.sleep(0)
    finally:
        os.close(out_fd)


async def _writable(fd: int, stall_s: float) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _wake, ready)
    try:
        async with asyncio.timeout(stall_s):
            await ready
    except TimeoutError as error:
        raise ClientGone(f"it takes no bytes for {stall_s} s") from error
    finally:
        loop.remove_writer(fd)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
