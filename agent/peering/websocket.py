"""One WebSocket between two agents, for both ends: it carries messages of bytes and nothing else.

Agents send binary messages only. Other frames are bounded here. aiohttp alone would answer any number of
pings, so one peer could keep the event loop busy. Source: RFC 6455, section 5.5.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import aiohttp
from aiohttp import web

_CONTROL_MAX, _CONTROL_WINDOW_S = 32, 10.0  # agents send no pings; a debugging tool may
_CONTROL_FRAMES = (aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG)
_YIELD_EVERY = 16  # messages: a long queue of them must not block other tasks
_CLOSE_S = 0.5


class AnsweredWebSocket(aiohttp.ClientWebSocketResponse):
    """A client's WebSocket that keeps the headers of the answer which opened it."""

    def __init__(
        self, reader: Any, writer: Any, protocol: Any, response: Any, *rest: Any, **more: Any
    ) -> None:
        super().__init__(reader, writer, protocol, response, *rest, **more)
        self.headers: Mapping[str, str] = response.headers


class Consumption(Protocol):
    """What a client takes of this agent, and how much of it it may take."""

    async def pay(self, cost_s: float) -> None:
        """This much CPU time was spent for the client. Returns when it may have more."""

    def taken(self, message_bytes: int) -> None:
        """A message that came was taken."""


class Unbounded:
    """The `Consumption` of a client that may take what it likes."""

    async def pay(self, cost_s: float) -> None:
        """Nothing to wait for."""

    def taken(self, message_bytes: int) -> None:
        """Nothing to do."""


class PeerSocket:
    """An open WebSocket. The `Dialer`'s caller, or the `Acceptor`, closes it.

    ``answers_pings``: false if this end must send nothing. A ping then ends the connection. ``consumption``:
    what the peer takes of this agent.
    """

    def __init__(
        self,
        websocket: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
        *,
        answers_pings: bool = True,
        consumption: Consumption | None = None,
    ) -> None:
        self._websocket = websocket
        self._consumption = consumption or Unbounded()
        self._answers_pings = answers_pings
        self._window_started_s = float("-inf")
        self._control_frames = 0
        self._received = 0

    @property
    def closed(self) -> bool:
        """Whether the WebSocket is closed, so that no message can be sent."""
        return self._websocket.closed

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the answer that opened it. Empty at the accepting end."""
        return self._websocket.headers if isinstance(self._websocket, AnsweredWebSocket) else {}

    @property
    def kernel_socket(self) -> Any:
        """The TCP socket, for reading and setting options. None if the connection has ended."""
        return self._websocket.get_extra_info("socket")

    @property
    def tls(self) -> Any:
        """The connection's TLS. None if it has none, or has ended."""
        return self._websocket.get_extra_info("ssl_object")

    async def receive(self, timeout_s: float | None = None) -> bytes | None:
        """The next message. None if the peer closed, vanished or violated the protocol.

        Raises TimeoutError if no message came for ``timeout_s``. After cancelling, close the socket.
        """
        while True:
            self._received += 1
            if self._received % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            message = await self._websocket.receive(timeout_s)
            if message.type is aiohttp.WSMsgType.BINARY:
                data: bytes = message.data
                self._consumption.taken(len(data))
                return data
            if message.type not in _CONTROL_FRAMES or not self._admits_control_frame():
                return None
            if message.type is aiohttp.WSMsgType.PING:
                await self._pong(message.data)

    async def pay(self, cost_s: float) -> None:
        """This much CPU time was spent for the peer. Returns when it may have more."""
        await self._consumption.pay(cost_s)

    async def send(self, message: bytes, timeout_s: float | None = None) -> None:
        """Send a message. Raises ConnectionError, and TimeoutError if the peer does not read it in time."""
        try:
            if timeout_s is None:  # saves the cost of a time-out: a tenth of that of a question
                await self._websocket.send_bytes(message)
            else:
                async with asyncio.timeout(timeout_s):
                    await self._websocket.send_bytes(message)
        except aiohttp.ClientError as error:
            raise ConnectionResetError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Close. Takes `_CLOSE_S` at most, whatever the peer does. Closing twice does nothing."""
        await self._close(aiohttp.WSCloseCode.OK, b"")

    async def reject(self, reason: bytes) -> None:
        """Close because a message can't be understood. ``reason`` is sent to the peer."""
        await self._close(aiohttp.WSCloseCode.UNSUPPORTED_DATA, reason)

    async def _close(self, code: int, reason: bytes) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._websocket.close(code=code, message=reason)

    def _admits_control_frame(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._window_started_s > _CONTROL_WINDOW_S:
            self._window_started_s, self._control_frames = now_s, 0
        self._control_frames += 1
        return self._answers_pings and self._control_frames <= _CONTROL_MAX

    async def _pong(self, payload: bytes) -> None:
        with suppress(ConnectionError, aiohttp.ClientError):  # the next `receive` reports it
            await self._websocket.pong(payload)
