"""Asking peers who has what, over one WebSocket a peer that stays open between questions.

A question is asked of many peers on the way to a first byte, so its cost counts several times: over a
standing connection it takes a fraction of the processor time of an HTTP request
(docs/decisions/0005). Connections are opened when first needed; several questions share one.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import aiohttp
from yarl import URL

from agent.holders.scatter import PeerSilent
from agent.holders.wire import (
    PATH,
    REPLY_MAX_BYTES,
    Question,
    Reply,
    ReplyInvalid,
    decode_reply,
    encode_question,
)
from agent.members.member import Peer

Connected = Callable[[Peer, Any], None]
"""Told of each new connection to a peer, with its socket."""

_CONNECT_S = 5.0
_GIVE_UP_S = 0.2  # a shorter wait says nothing about the connection


class _ChannelClosed(Exception):
    """The connection ended; ``used``: it had answered before, so the peer may just have restarted."""

    def __init__(self, *, used: bool) -> None:
        super().__init__("the connection ended")
        self.used = used


class _Channel:
    """One open connection to one peer, and the questions that wait for their reply on it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[Question, asyncio.Future[Reply]]] = {}
        self._used = False
        self.heard_s = 0.0  # when the last reply came, on the monotonic clock
        self._reader = asyncio.create_task(self._read(), name="replies")

    @property
    def closed(self) -> bool:
        return self._socket.closed or self._reader.done()

    async def ask(self, question: Question) -> Reply:
        """Raises `_ChannelClosed`; cancelling leaves the connection to others."""
        number = next(self._numbers)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (question, future)
        try:
            await self._socket.send_bytes(encode_question(number, question))
            return await future
        except (ConnectionError, aiohttp.ClientError) as error:
            raise _ChannelClosed(used=self._used) from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                self._take(message.data)
        except ReplyInvalid:
            pass  # a peer that can't be understood: no reply of it counts any more
        finally:
            for _, future in self._waiting.values():
                if not future.done():
                    future.set_exception(_ChannelClosed(used=self._used))
            await self._socket.close()

    def _take(self, body: bytes) -> None:
        number, decode = decode_reply(body)
        question, future = self._waiting.get(number, (None, None))
        if question is None or future is None or future.done():
            return  # its asker no longer waits
        self._used = True
        self.heard_s = time.monotonic()
        future.set_result(decode(question))


class QuestionChannels:
    """The channels to all peers, by the address they are reached at."""

    def __init__(self, session: aiohttp.ClientSession, connected: Connected) -> None:
        self._session = session
        self._connected = connected
        self._channels: dict[str, _Channel] = {}
        self._opening: dict[str, asyncio.Task[_Channel]] = {}

    async def ask(self, peer: Peer, question: Question, timeout_s: float) -> Reply:
        """Put a question to a peer. Raises `PeerSilent` when there is no usable reply in time."""
        channel: _Channel | None = None
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    channel = await self._channel(peer)
                    return await channel.ask(question)
                except _ChannelClosed as error:
                    if not error.used:
                        raise
                # The peer may have closed an idle connection, or restarted: that is no failure yet.
                channel = await self._channel(peer)
                return await channel.ask(question)
        except TimeoutError as error:
            # Nothing at all came since: a peer that froze and one that vanished look alike, so start
            # over with it next time. Questions of others that wait on it end now.
            if channel is not None and channel.heard_s < started_s and timeout_s >= _GIVE_UP_S:
                if self._channels.get(peer.base_url) is channel:
                    del self._channels[peer.base_url]
                await channel.close()
            raise PeerSilent(f"{peer.name}: no reply within {timeout_s} s") from error
        except (aiohttp.ClientError, OSError, _ChannelClosed) as error:
            raise PeerSilent(f"{peer.name}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Close all channels."""
        opening = [*self._opening.values()]
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        channels, self._channels = [*self._channels.values()], {}
        await asyncio.gather(*(channel.close() for channel in channels), return_exceptions=True)

    async def _channel(self, peer: Peer) -> _Channel:
        key = peer.base_url
        channel = self._channels.get(key)
        if channel is not None and not channel.closed:
            return channel
        opening = self._opening.get(key)
        if opening is None:
            opening = self._opening[key] = asyncio.create_task(self._open(peer), name="open a channel")
            opening.add_done_callback(lambda task: self._opened(key, task))
        # Others may wait for the same connection: an asker that gives up must not end it.
        return await asyncio.shield(opening)

    def _opened(self, key: str, task: asyncio.Task[_Channel]) -> None:
        self._opening.pop(key, None)
        if not task.cancelled():
            task.exception()  # every asker may have given up by now: nobody else would look at it

    async def _open(self, peer: Peer) -> _Channel:
        key = peer.base_url
        async with asyncio.timeout(_CONNECT_S):
            socket = await self._session.ws_connect(
                URL(f"{key}{PATH}", encoded=True), compress=0, max_msg_size=REPLY_MAX_BYTES
            )
        self._connected(peer, socket.get_extra_info("socket"))
        channel = self._channels[key] = _Channel(socket)
        return channel
