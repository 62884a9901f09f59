"""Asking peers who has what, over one WebSocket a peer that stays open between questions.

A question is asked of many peers on the way to a first byte, so its cost counts several times: over a
standing connection it takes a fraction of the processor time of an HTTP request
(docs/decisions/0005). Connections are opened when first needed; several questions share one.
"""

import asyncio
import itertools

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
        future.set_result(decode(question))


class QuestionChannels:
    """The channels to all peers, by the address they are reached at."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._channels: dict[str, _Channel] = {}
        self._opening: dict[str, asyncio.Lock] = {}

    async def ask(self, peer: Peer, question: Question, timeout_s: float) -> Reply:
        """Put a question to a peer. Raises `PeerSilent` when there is no usable reply in time."""
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await (await self._channel(peer)).ask(question)
                except _ChannelClosed as error:
                    if not error.used:
                        raise
                # The peer may have closed an idle connection, or restarted: that is no failure yet.
                return await (await self._channel(peer)).ask(question)
        except TimeoutError as error:
            # A peer that froze and one that vanished look alike: start over with it next time.
            channel = self._channels.pop(peer.base_url, None)
            if channel is not None:
                await channel.close()
            raise PeerSilent(f"{peer.name}: no reply within {timeout_s} s") from error
        except (aiohttp.ClientError, OSError, _ChannelClosed) as error:
            raise PeerSilent(f"{peer.name}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Close all channels."""
        channels, self._channels = [*self._channels.values()], {}
        await asyncio.gather(*(channel.close() for channel in channels), return_exceptions=True)

    async def _channel(self, peer: Peer) -> _Channel:
        key = peer.base_url
        channel = self._channels.get(key)
        if channel is not None and not channel.closed:
            return channel
        async with self._opening.setdefault(key, asyncio.Lock()):
            channel = self._channels.get(key)
            if channel is None or channel.closed:
                socket = await self._session.ws_connect(
                    URL(f"{key}{PATH}", encoded=True), compress=0, max_msg_size=REPLY_MAX_BYTES, autoping=True
                )
                channel = self._channels[key] = _Channel(socket)
        return channel
