"""Sending this node's blobs to a client: from a file by sendfile(2), else by copying.

The bytes of a file do not enter this process. That takes about half of the processor time that copying takes
(docs/benchmarks.md).
"""

import asyncio
import os

from agent.content.store import Blob, ContentUnavailable, GrowingBlob
from agent.transfer.sink import ClientGone, ClientSink

_FIRST_BYTES = 16 * 1024  # sent with the head by copying; more would delay the first byte
_SENDFILE_BYTES = 2 * 1024 * 1024
_TURN_BYTES = 8 * 1024 * 1024  # other tasks get a turn on the event loop after this many bytes
_READ_AHEAD_BYTES = 8 * 1024 * 1024
_COPY_BYTES = 256 * 1024

_SILENT_S = 60.0
"""A body whose content does not arrive ends after this long. A follower gives up much sooner, by itself."""


async def read_first(blob: Blob, start: int, stop: int) -> bytes:
    """The first bytes of a body. Read them before its head is sent. Raises `ContentError`."""
    first = await blob.read(start, min(_FIRST_BYTES, stop - start))
    if not first and stop > start:
        raise ContentUnavailable("the blob's file is shorter than it was a moment ago")
    return first


async def send_blob(blob: Blob, sink: ClientSink, start: int, stop: int) -> None:
    """Send bytes ``start`` to ``stop`` of a blob of this node.

    Raises `ClientGone`, and `ContentError` if the bytes can't be read.
    """
    out_fd = await sink.descriptor() if blob.fd is not None and sink.plain and start < stop else None
    if blob.fd is not None and out_fd is not None:
        await _sendfile(blob.fd, out_fd, sink, start, stop)
        return
    while start < stop:
        chunk = await blob.read(start, min(_COPY_BYTES, stop - start))
        if not chunk:
            raise ContentUnavailable("the blob ended early")
        await sink.write(chunk, "copy")
        start += len(chunk)


async def send_growing(blob: GrowingBlob, sink: ClientSink, start: int, stop: int) -> None:
    """Send bytes ``start`` to ``stop`` of a blob that is still arriving, as they come.

    Raises `ClientGone`, `ContentError` if the bytes can't be read or won't come, and TimeoutError if none
    came for `_SILENT_S`.
    """
    while start < stop:
        available_bytes = min(blob.available_bytes, stop)
        if available_bytes <= start:
            async with asyncio.timeout(_SILENT_S):
                await blob.wait_beyond(start)
            continue
        await send_blob(blob, sink, start, available_bytes)
        start = available_bytes


async def _sendfile(file_fd: int, out_fd: int, sink: ClientSink, start: int, stop: int) -> None:
    turn = 0
    ahead = start
    while start < stop:
        try:
            if start >= ahead:
                # Read ahead, so that disk and network work at the same time. sendfile waits for the disk.
                os.posix_fadvise(file_fd, start, 2 * _READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
                ahead = start + _READ_AHEAD_BYTES
            piece_bytes = min(_SENDFILE_BYTES, sink.piece_bytes or _SENDFILE_BYTES, stop - start)
            sent = os.sendfile(out_fd, file_fd, start, piece_bytes)
        except BlockingIOError:
            await sink.writable(out_fd)
            continue
        except ConnectionError as error:
            raise ClientGone(str(error)) from error
        except OSError as error:
            raise ContentUnavailable(f"sendfile: {error.strerror}") from error
        if sent == 0:
            raise ContentUnavailable("the blob's file was cut short")
        start += sent
        turn += sent
        await sink.record_sent(sent, "sendfile")
        if turn >= _TURN_BYTES:
            turn = 0
            await asyncio.sleep(0)
