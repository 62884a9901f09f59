"""Receives a peer's body from its connection, in large pieces, and notices a stall.

SO_RCVLOWAT (socket(7)) lets the kernel wake the event loop only for large pieces. Smaller pieces are received
at the next tick anyway, so that a slow source is not mistaken for a silent one.
"""

import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from agent.descriptors import is_ready
from agent.pull.events import Failure
from agent.pull.lateness import held_up
from agent.pull.meter import TICK_S, Meter
from agent.transfer.answers import AttemptFailed
from agent.transfer.peers import PeerBody, translated

_ENOUGH_BYTES = 192 * 1024  # the kernel wakes the loop for this many bytes, while twice as many are left


def receive_into(view: memoryview, source: socket.socket) -> int:
    """Receive at most as many bytes as the view holds. For `BodyReader.receive`."""
    return source.recv_into(view)


class BodyReader:
    """Receives what is left of a body. Use as a context manager: leaving resets the connection's options."""

    def __init__(
        self,
        body: PeerBody,
        meter: Meter,
        stall_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert body.connection is not None, "a body that was not closed"
        self._body = body
        self._socket = body.connection.socket
        self._meter = meter
        self._stall_s = stall_s
        self._clock = clock
        self._wakes_for_bytes = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Reset the connection's options."""
        self._wake_for(1)

    async def receive(self, receive_some: Callable[[socket.socket], int]) -> int:
        """Call ``receive_some`` until it has received bytes. Returns how many, at least one.

        Raises `AttemptFailed` if the peer closes, or sends nothing for ``stall_s``.
        """
        body, since_s = self._body, self._clock()
        self._wake_for(_ENOUGH_BYTES if body.left_bytes > 2 * _ENOUGH_BYTES else 1)
        while True:
            try:
                with translated():
                    received = receive_some(self._socket)
                break
            except BlockingIOError:
                now_s = self._clock()
                if now_s - since_s >= self._stall_s:
                    raise AttemptFailed(Failure.SILENT, f"no byte for {self._stall_s} s") from None
                tick_s = min(TICK_S, self._stall_s)
                await is_ready(self._socket.fileno(), tick_s)
                waited_s = self._clock() - now_s
                self._meter.waited_s += waited_s
                if held_up(waited_s - tick_s):  # this node did not run, so that time does not count
                    since_s += waited_s
        if received == 0:
            raise AttemptFailed(Failure.BROKEN, f"{body.left_bytes} bytes short")
        body.left_bytes -= received
        self._meter.moved_bytes += received
        return received

    def _wake_for(self, wanted_bytes: int) -> None:
        if wanted_bytes != self._wakes_for_bytes and self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted_bytes)
            self._wakes_for_bytes = wanted_bytes
