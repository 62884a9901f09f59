"""Questions to peers, over one WebSocket for each peer that stays open between questions.

A node asks many peers before it has a first byte, so the cost of one question counts several times. On a
standing connection a question takes a fraction of the CPU time of an HTTP request (docs/decisions/0005).
A channel opens at the first question. Several questions share it. It closes when its peer leaves or moves,
when its peer vanishes, and after `_IDLE_S` without a reply. What the messages mean is up to a `Codec`.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from agent.members.member import Peer, Peers
from agent.peering.dial import Dialer, Unreachable
from agent.peering.websocket import PeerSocket
from topology.placement import NodeName

_OPEN_S = 5.0
_GIVE_UP_S = 0.2  # a shorter wait says nothing about the connection
_IDLE_S = 330.0  # the accepting side closes after 300 s; one that does not is not well

Question = TypeVar("Question")
Reply = TypeVar("Reply")


class NoReply(Exception):
    """A peer gave no usable reply: it is unreachable, too slow, or sends what can't be understood."""


class MessageInvalid(Exception):
    """A message that can't be understood. The channel that it came on is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec(Generic[Question, Reply]):
    """How questions and replies become messages.

    ``path``: where peers accept the WebSocket. ``encode``: the message for a question and its number.
    ``decode``: the number in a reply, and the function that reads the rest of it for that number's question.
    Both raise `MessageInvalid`.
    """

    path: str
    reply_max_bytes: int
    encode: Callable[[int, Question], bytes]
    decode: Callable[[bytes], tuple[int, Callable[[Question], Reply]]]


class _ChannelClosed(Exception):
    """The connection ended. ``worked``: it had brought a reply before, so the peer may have restarted."""

    def __init__(self, *, worked: bool) -> None:
        super().__init__("the connection ended")
        self.worked = worked


class _Channel(Generic[Question, Reply]):
    """One open connection to one peer, and the questions that wait for a reply on it.

    ``ended``: is called when it has ended, for whatever reason.
    """

    def __init__(
        self,
        socket: PeerSocket,
        codec: Codec[Question, Reply],
        *,
        idle_s: float,
        ended: Callable[["_Channel[Question, Reply]"], None],
    ) -> None:
        self._socket = socket
        self._codec = codec
        self._idle_s = idle_s
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[Question, asyncio.Future[Reply]]] = {}
        self._unanswered = 0  # questions that were sent; their askers may have given up
        self._worked = False
        self._ended = ended
        self._opened_s = time.monotonic()
        self.last_reply_s = 0.0  # on the monotonic clock
        self._idle_timer = asyncio.get_running_loop().call_later(idle_s, self._check_idle)
        self._reader = asyncio.create_task(self._read(), name="replies")
        self._reader.add_done_callback(self._reader_ended)

    @property
    def closed(self) -> bool:
        return self._socket.closed or self._reader.done()

    async def query(self, question: Question) -> Reply:
        """Raises `_ChannelClosed`. Cancelling leaves the channel to others."""
        number = next(self._numbers)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (question, future)
        self._unanswered += 1
        try:
            await self._socket.send(self._codec.encode(number, question))  # its asker has a deadline
            return await future
        except ConnectionError as error:
            raise _ChannelClosed(worked=self._worked) from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End the channel and the questions on it. Takes half a second at most."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()

    async def _read(self) -> None:
        try:
            while (message := await self._socket.receive()) is not None:
                self._unanswered -= 1
                if self._unanswered < 0:
                    break  # more replies than questions
                self._deliver(message)
        except MessageInvalid:
            pass  # the peer can't be understood: no reply of it counts any more
        finally:
            for _, future in self._waiting.values():
                if not future.done():
                    future.set_exception(_ChannelClosed(worked=self._worked))
            await self._socket.close()

    def _check_idle(self) -> None:
        """End an idle channel. One timer that is set again costs less than a time-out for each reply."""
        left_s = max(self._opened_s, self.last_reply_s) + self._idle_s - time.monotonic()
        if left_s > 0:
            self._idle_timer = asyncio.get_running_loop().call_later(left_s, self._check_idle)
        else:
            self._reader.cancel()

    def _reader_ended(self, _: asyncio.Task[None]) -> None:
        self._idle_timer.cancel()
        self._ended(self)

    def _deliver(self, message: bytes) -> None:
        number, read = self._codec.decode(message)
        question, future = self._waiting.get(number, (None, None))
        if question is None or future is None or future.done():
            return  # its asker gave up
        self._worked = True
        self.last_reply_s = time.monotonic()
        future.set_result(read(question))


_Key = tuple[NodeName, str]


class Channels(Generic[Question, Reply]):
    """The channels to all peers, for one kind of question. Use as an async context manager, or `close` it.

    ``idle_s``: a channel on which no reply came for so long is closed.
    """

    def __init__(self, dialer: Dialer, codec: Codec[Question, Reply], *, idle_s: float = _IDLE_S) -> None:
        self._dialer = dialer
        self._codec = codec
        self._idle_s = idle_s
        self._channels: dict[_Key, _Channel[Question, Reply]] = {}
        self._opening: dict[_Key, asyncio.Task[_Channel[Question, Reply]]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._admitted: frozenset[_Key] | None = (
            None  # None: everybody, until `members_changed` says who is a member
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def open(self) -> tuple[NodeName, ...]:
        """The peers that have a channel now."""
        return tuple(name for name, _ in self._channels)

    async def query(self, peer: Peer, question: Question, timeout_s: float) -> Reply:
        """Put a question to a peer. Raises `NoReply` when there is no usable reply in time."""
        channel: _Channel[Question, Reply] | None = None
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    channel = await self._channel(peer)
                    return await channel.query(question)
                except _ChannelClosed as error:
                    if not error.worked:
                        raise
                # The peer may have closed an idle connection, or restarted: that is no failure yet.
                channel = await self._channel(peer)
                return await channel.query(question)
        except TimeoutError as error:
            # No reply at all came meanwhile: the peer may hang or may have vanished. Both look the same, so
            # the next question opens a new channel. Other questions on this one end now.
            if channel is not None and channel.last_reply_s < started_s and timeout_s >= _GIVE_UP_S:
                await channel.close()
            raise NoReply(f"{peer.name}: no reply within {timeout_s} s") from error
        except (Unreachable, _ChannelClosed) as error:
            raise NoReply(f"{peer.name}: {error}") from error

    def members_changed(self, members: Peers) -> None:
        """Have channels to these peers only, at their present addresses; close the others.

        Call it with every new list of members. A channel that is being opened to somebody else fails.
        """
        self._admitted = frozenset(_key(peer) for peer in members.values())
        for key in self._channels.keys() - self._admitted:
            task = asyncio.create_task(self._channels.pop(key).close(), name="close a channel")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all channels, and open no more."""
        self._admitted = frozenset()
        opening = [*self._opening.values()]
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        channels, self._channels = [*self._channels.values()], {}
        await asyncio.gather(*(channel.close() for channel in channels), return_exceptions=True)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _channel(self, peer: Peer) -> _Channel[Question, Reply]:
        key = _key(peer)
        channel = self._channels.get(key)
        if channel is not None and not channel.closed:
            return channel
        opening = self._opening.get(key)
        if opening is None:
            opening = self._opening[key] = asyncio.create_task(self._open(peer), name="open a channel")
            opening.add_done_callback(lambda task: self._opened(key, task))
        # Others may wait for the same channel: an asker that gives up must not end it.
        return await asyncio.shield(opening)

    def _opened(self, key: _Key, task: asyncio.Task[_Channel[Question, Reply]]) -> None:
        self._opening.pop(key, None)
        if not task.cancelled():
            task.exception()  # every asker may have given up: nobody else would retrieve it

    async def _open(self, peer: Peer) -> _Channel[Question, Reply]:
        key = _key(peer)
        self._require_admitted(key)
        socket = await self._dialer.open_websocket(
            peer, self._codec.path, timeout_s=_OPEN_S, message_max_bytes=self._codec.reply_max_bytes
        )
        try:
            self._require_admitted(key)  # it may have left meanwhile
        except Unreachable:
            await socket.close()
            raise

        def forget(ended: _Channel[Question, Reply]) -> None:
            if self._channels.get(key) is ended:
                del self._channels[key]

        channel = _Channel(socket, self._codec, idle_s=self._idle_s, ended=forget)
        self._channels[key] = channel
        return channel

    def _require_admitted(self, key: _Key) -> None:
        if self._admitted is not None and key not in self._admitted:
            raise Unreachable("not a member of the cluster at this address")


def _key(peer: Peer) -> _Key:
    return peer.name, peer.authority
