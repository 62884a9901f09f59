"""Questions to peers, over one channel for each peer that stays open between questions.

A node asks many peers before it has a first byte, so the cost of one question counts several times. On a
standing connection a question takes a fraction of the CPU time of an HTTP request (docs/decisions/0005).
A channel opens at the first question (see `agent.holders.standing`). It closes if its peer leaves the
members, moves to another address or vanishes, and after `_IDLE_S` without a reply. Of many that are idle,
those that were used least are closed: a question to all of a large cluster leaves no channel to each node.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self

from agent.members.member import Peer, Peers
from agent.peering.channel import Channel, ChannelClosed, Codec, Question, Reply
from agent.peering.dial import Dialer, OwnFault, Refused, Unreachable
from agent.pull.lateness import held_up, in_words
from agent.tasks import end_all
from topology.placement import NodeName

_OPEN_S = 5.0
_GIVE_UP_S = 0.2  # a shorter wait without a reply says nothing about the connection
_IDLE_S = 330.0  # the accepting side closes after 300 s; if it does not, something is wrong

OPEN_MAX = 1152
"""Channels that stay open, at some 15 kB each: to all whom a node asks that has no index in a server to ask.

See `agent.pull.nearby`. If fewer stayed, each of its questions would open a connection again.
"""


class NoReply(Exception):
    """A peer gave no usable reply: it is unreachable or too slow, or its message can't be understood.

    ``own``: this node could not ask, or did not run meanwhile, so the peer has no part in it. ``status``:
    the HTTP status by which the peer refused the channel, so it is alive.
    """

    def __init__(self, message: str, *, own: bool = False, status: int | None = None) -> None:
        super().__init__(message)
        self.own = own
        self.status = status


_Key = tuple[NodeName, str]


class Channels(Generic[Question, Reply]):
    """The channels to all peers, for one kind of question. Use as an async context manager, or `close` it.

    ``idle_s``: a channel is closed after this time without a reply. ``open_max``: if more are open, idle ones
    are closed. ``lost``: is told whose channel ended by itself: the peer closed it, or is gone.
    """

    def __init__(
        self,
        dialer: Dialer,
        codec: Codec[Question, Reply],
        *,
        idle_s: float = _IDLE_S,
        open_max: int = OPEN_MAX,
    ) -> None:
        self._dialer = dialer
        self._codec = codec
        self._idle_s = idle_s
        self._open_max = open_max
        self.lost: Callable[[NodeName], None] = lambda _name: None
        self._channels: dict[_Key, Channel[Question, Reply]] = {}
        self._opening: dict[_Key, asyncio.Task[Channel[Question, Reply]]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._members: Peers | None = None  # None: all are admitted, until `members_changed` is called

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
        """Ask a peer. Raises `NoReply` if there is no usable reply within ``timeout_s``.

        Time in which this node did not run does not count: it asks once more.
        """
        started_s = time.monotonic()
        try:
            return await self._query(peer, question, timeout_s)
        except NoReply:
            if not held_up(late_s := time.monotonic() - started_s - timeout_s):
                raise
        try:
            return await self._query(peer, question, timeout_s)
        except NoReply as error:  # perhaps this node's network is not back yet
            raise NoReply(in_words(late_s), own=True) from error

    async def _query(self, peer: Peer, question: Question, timeout_s: float) -> Reply:
        channel: Channel[Question, Reply] | None = None
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    channel = await self._channel(peer)
                    return await channel.query(question)
                except ChannelClosed as error:
                    if not error.worked:
                        raise
                # Perhaps the peer closed an idle connection, or restarted. That is no failure yet: try again.
                channel = await self._channel(peer)
                return await channel.query(question)
        except TimeoutError as error:
            # No reply to any question came meanwhile. The peer hangs or has vanished: both look the same. So
            # the next question opens a new channel, and other questions on this one end now.
            late = held_up(time.monotonic() - started_s - timeout_s)
            quiet = channel is not None and channel.last_reply_s < started_s
            if channel is not None and quiet and timeout_s >= _GIVE_UP_S and not late:
                self._close_soon(_key(peer), channel)
            raise NoReply(f"no reply to a question within {timeout_s:.3g} s") from error
        except OwnFault as error:
            raise NoReply(str(error), own=True) from error
        except Refused as error:
            raise NoReply(str(error), status=error.status) from error
        except (Unreachable, ChannelClosed) as error:
            raise NoReply(str(error)) from error
        finally:
            self._keep_few()

    def members_changed(self, members: Peers) -> None:
        """These are the members now. Close the channels to other peers, and to other addresses.

        A channel that is being opened to one of those fails.
        """
        self._members = members
        for key in [key for key in self._channels if not self._is_admitted(key)]:
            self._close_soon(key, self._channels[key])

    async def close(self) -> None:
        """Close all channels. No new one opens after that."""
        self._members = {}
        await end_all(self._opening.values())
        channels, self._channels = [*self._channels.values()], {}
        await asyncio.gather(*(channel.close() for channel in channels), return_exceptions=True)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _close_soon(self, key: _Key, channel: Channel[Question, Reply]) -> None:
        """Close a channel in the background. A peer that hangs may take its time, and nobody should wait."""
        if self._channels.get(key) is not channel:
            return  # it ends already
        del self._channels[key]
        task = asyncio.create_task(channel.close(), name="close a channel")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _channel(self, peer: Peer) -> Channel[Question, Reply]:
        key = _key(peer)
        channel = self._channels.get(key)
        if channel is not None and not channel.closed:
            return channel
        opening = self._opening.get(key)
        if opening is None:
            opening = self._opening[key] = asyncio.create_task(self._open(peer), name="open a channel")
            opening.add_done_callback(lambda task: self._opened(key, task))
        # Other questions may wait for the same channel, so one that is cancelled must not end it.
        return await asyncio.shield(opening)

    def _opened(self, key: _Key, task: asyncio.Task[Channel[Question, Reply]]) -> None:
        self._opening.pop(key, None)
        if not task.cancelled():
            task.exception()  # retrieve it: perhaps no question waits for this channel any more

    async def _open(self, peer: Peer) -> Channel[Question, Reply]:
        key = _key(peer)
        self._require_admitted(key)
        socket = await self._dialer.open_websocket(
            peer, self._codec.path, timeout_s=_OPEN_S, message_max_bytes=self._codec.reply_max_bytes
        )
        try:
            self._require_admitted(key)  # perhaps it left the members meanwhile
        except Unreachable:
            await socket.close()
            raise

        def forget(ended: Channel[Question, Reply]) -> None:
            if self._channels.get(key) is ended:
                del self._channels[key]
                self.lost(peer.name)

        channel = Channel(socket, self._codec, idle_s=self._idle_s, ended=forget)
        self._channels[key] = channel
        return channel

    def _keep_few(self) -> None:
        """Close the idle channel that was used least, if there are more than may stay open. O(channels)."""
        if len(self._channels) <= self._open_max:
            return
        idle = [
            (each.replies, each.last_reply_s, key) for key, each in self._channels.items() if each.is_idle
        ]
        if idle:
            _, _, key = min(idle)
            self._close_soon(key, self._channels[key])

    def _require_admitted(self, key: _Key) -> None:
        if not self._is_admitted(key):
            raise Unreachable("not a member of the cluster at this address")

    def _is_admitted(self, key: _Key) -> bool:
        if self._members is None:
            return True
        name, authority = key
        peer = self._members.get(name)
        return peer is not None and peer.authority == authority


def _key(peer: Peer) -> _Key:
    return peer.name, peer.authority
