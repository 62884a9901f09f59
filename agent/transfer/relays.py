"""Relaying a peer's body to a client: inside the kernel by splice(2), else by copying.

Spliced bytes do not enter this process. That takes about half of the processor time that copying takes
(docs/benchmarks.md).
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial

from agent.pull.meter import Meter, Rate
from agent.transfer.peers import PeerBody
from agent.transfer.reader import BodyReader, receive_into
from agent.transfer.sink import ClientGone, ClientSink

_log = logging.getLogger(__name__)

_TURN_BYTES = 8 * 1024 * 1024  # other tasks get a turn on the event loop after this many bytes
_COPY_BYTES = 256 * 1024
_PIPE_BYTES = 1024 * 1024
_PIPES_MAX = 32  # kept for reuse; an empty one holds no memory
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Relays:
    """Moves peers' bodies to clients. Only this class decides between splicing and copying."""

    def __init__(self, *, zero_copy: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._zero_copy = zero_copy and _can_splice()
        self._pipes: list[_Pipe] = []

    async def move(
        self, body: PeerBody, sink: ClientSink, meter: Meter, stall_s: float
    ) -> AsyncGenerator[Rate, None]:
        """Move the rest of a peer's body to the client. Yields the rate, a few times a second.

        Raises `AttemptFailed` if the peer fails or gives nothing for ``stall_s``, and `ClientGone`.
        """
        is_plain = sink.plain and body.connection is not None and body.connection.is_plain
        out_fd = await sink.descriptor() if self._zero_copy and is_plain else None
        pipe = None if out_fd is None else self._free_pipe()
        if out_fd is None or pipe is None:
            rates = self._copy(body, sink, meter, stall_s)
        else:
            rates = self._splice(body, sink, out_fd, pipe, meter, stall_s)
        async with contextlib.aclosing(rates):
            async for rate in rates:
                yield rate

    def close(self) -> None:
        """Close the pipes that are kept for reuse."""
        while self._pipes:
            self._pipes.pop().close()

    def _free_pipe(self) -> "_Pipe | None":
        """An empty pipe. None if no descriptor is left."""
        try:
            return self._pipes.pop() if self._pipes else _Pipe()
        except OSError as error:
            _log.warning("bytes are copied: %s", error)
            return None

    async def _splice(
        self, body: PeerBody, sink: ClientSink, out_fd: int, pipe: "_Pipe", meter: Meter, stall_s: float
    ) -> AsyncGenerator[Rate, None]:
        turn = 0
        try:
            with BodyReader(body, meter, stall_s, clock=self._clock) as reader:
                while body.left_bytes:
                    most_bytes = min(_PIPE_BYTES, sink.piece_bytes or _PIPE_BYTES, body.left_bytes)
                    turn += await reader.receive(partial(_into_pipe, pipe, most_bytes))
                    await _out_of_pipe(pipe, sink, out_fd)
                    if turn >= _TURN_BYTES:
                        turn = 0
                        await asyncio.sleep(0)
                    if (rate := meter.rate(self._clock())) is not None:
                        yield rate
        finally:
            if pipe.held_bytes or len(self._pipes) >= _PIPES_MAX:
                pipe.close()
            else:
                self._pipes.append(pipe)

    async def _copy(
        self, body: PeerBody, sink: ClientSink, meter: Meter, stall_s: float
    ) -> AsyncGenerator[Rate, None]:
        """Through this process's memory."""
        with (
            memoryview(bytearray(_COPY_BYTES)) as buffer,
            BodyReader(body, meter, stall_s, clock=self._clock) as reader,
        ):
            while body.left_bytes:
                received = await reader.receive(partial(receive_into, buffer[: body.left_bytes]))
                await sink.write(buffer[:received], "copy")
                await asyncio.sleep(0)  # a socket that always has bytes must not block other tasks
                if (rate := meter.rate(self._clock())) is not None:
                    yield rate


class _Pipe:
    """The pipe that the kernel splices through. If bytes are left in it, close it: do not use it again."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held_bytes = 0
        with contextlib.suppress(OSError):  # a user without rights may have no more large pipes
            fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def close(self) -> None:
        os.close(self.out)
        os.close(self.into)


def _can_splice() -> bool:
    """Whether this kernel can splice from a socket to a socket. Some sandboxes can't."""
    pipe = _Pipe()
    near, far = socket.socketpair()
    with near, far:
        try:
            near.send(b"x")
            return os.splice(far.fileno(), pipe.into, 1) == os.splice(pipe.out, far.fileno(), 1) == 1
        except OSError as error:
            _log.warning("no splice here, peers' bytes are copied: %s", error)
            return False
        finally:
            pipe.close()


def _into_pipe(pipe: _Pipe, most_bytes: int, source: socket.socket) -> int:
    pipe.held_bytes = os.splice(source.fileno(), pipe.into, most_bytes, flags=_FLAGS)
    return pipe.held_bytes


async def _out_of_pipe(pipe: _Pipe, sink: ClientSink, out_fd: int) -> None:
    while pipe.held_bytes:
        try:
            sent = os.splice(pipe.out, out_fd, pipe.held_bytes, flags=_FLAGS)
        except BlockingIOError:
            await sink.writable(out_fd)
        except OSError as error:
            raise ClientGone(str(error)) from error
        else:
            pipe.held_bytes -= sent
            await sink.record_sent(sent, "splice")
