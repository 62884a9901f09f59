"""Many callers on one connection: commands are sent at once, and replies come back in their order.

One task always reads, so that what the server pushes is heard when it comes, and a late reply to a caller
that has gone is not taken for the next caller's.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from agent.holders.valkey.trouble import (
    IndexDown,
    Refused,
    clipped,
    lost,
    of_garbage,
    of_reply,
    of_silence,
)
from agent.holders.valkey.wire import Command, ErrorReply, Reply, Wire
from agent.tasks import end_all

_UNSENT_MOST_BYTES = 4 << 20

Invalidated = Callable[[Sequence[bytes] | None], None]
"""Called with the keys whose tracked values are no longer true. None: all of them."""


class _Batch:
    """Commands of one caller that wait for their replies. ``skip``: so many first replies are not theirs."""

    __slots__ = ("commands", "replies", "skip", "told")

    def __init__(self, commands: Sequence[Command], skip: int, told: "asyncio.Future[list[Reply]]") -> None:
        self.commands = commands
        self.replies: list[Reply] = []
        self.skip = skip
        self.told = told

    @property
    def is_whole(self) -> bool:
        return len(self.replies) == self.skip + len(self.commands)


class Lane:
    """One connection. ``lost``: done when it has ended; its result says why.

    ``moved``: called with the text of an error that says where in a Cluster a key is.
    """

    is_clustered = False

    def __init__(self, wire: Wire, invalidated: Invalidated) -> None:
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[IndexDown] = loop.create_future()
        self.is_tracking = False
        self.moved: Callable[[str], None] = _ignore
        self._wire = wire
        self._waiting: deque[_Batch] = deque()
        self._invalidated = invalidated
        self._idle = asyncio.Event()
        self._idle.set()
        wire.parser.pushed = self._pushed
        self._reading = loop.create_task(self._read(), name="index: read")

    @property
    def lanes(self) -> "tuple[Lane, ...]":
        """The connections of the server: this one."""
        return (self,)

    @property
    def place(self) -> str:
        """The other end, for people."""
        return self._wire.place

    def send(self, commands: Sequence[Command], *, tracked: bool = False) -> "asyncio.Future[list[Reply]]":
        """Send commands. The future gets one reply for each, or `IndexDown`.

        ``tracked``: the server tells when a key changes that the first one reads.
        """
        told: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        told.add_done_callback(seen)
        if self.lost.done():
            told.set_exception(self.lost.result())
            return told
        if self._wire.unsent_bytes > _UNSENT_MOST_BYTES:
            told.set_exception(of_silence(0.0))
            return told
        first: tuple[Command, ...] = (("CLIENT", "CACHING", "YES"),) if tracked and self.is_tracking else ()
        try:
            self._wire.write((*first, *commands))
        except IndexDown as error:
            told.set_exception(error)
            return told
        self._idle.clear()
        self._waiting.append(_Batch(commands, len(first), told))
        return told

    def give_up(self, error: IndexDown) -> None:
        """Tell everybody who waits. Their replies, if they come, are dropped."""
        for batch in self._waiting:
            if not batch.told.done():
                batch.told.set_exception(error)

    async def drained(self) -> None:
        """Wait until every reply that is owed has come, or the connection has ended."""
        await self._idle.wait()

    async def close(self) -> None:
        """End the connection. Closing twice does nothing."""
        await end_all([self._reading])
        self._end(lost(self.place))  # a task that never ran ends nothing

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._wire.read_raw())
        except IndexDown as error:
            self._end(error)
        finally:
            self._end(lost(self.place))

    def _take(self, reply: Reply) -> None:
        if not self._waiting:
            if isinstance(reply, ErrorReply):  # what a server says before it hangs up
                raise of_reply(reply.text) or of_garbage(reply.text)
            raise of_garbage("it answers what nobody asked")
        batch = self._waiting[0]
        batch.replies.append(reply)
        if not batch.is_whole:
            return
        self._waiting.popleft()
        if not self._waiting:
            self._idle.set()
        for each in batch.replies:
            if isinstance(each, ErrorReply) and each.text.startswith("MOVED "):
                self.moved(each.text)
        if not batch.told.done():
            _tell(batch)

    def _pushed(self, message: list[Reply]) -> None:
        if len(message) == 2 and message[0] == b"invalidate":
            keys = message[1]
            self._invalidated(keys if isinstance(keys, list) else None)

    def _end(self, error: IndexDown) -> None:
        self._wire.end()
        if self.lost.done():
            return
        self.lost.set_result(error)
        self.give_up(error)
        self._waiting.clear()
        self._idle.set()
        self._invalidated(None)


def _ignore(_: str) -> None:
    pass


def _tell(batch: _Batch) -> None:
    """An error about the server as a whole is raised for the whole batch."""
    replies: list[Reply] = []
    for place, reply in enumerate(batch.replies):
        if not isinstance(reply, ErrorReply):
            replies.append(reply)
            continue
        command = batch.commands[place - batch.skip][0] if place >= batch.skip else "CLIENT CACHING"
        trouble = of_reply(reply.text, str(command))
        if trouble is not None:
            batch.told.set_exception(trouble)
            return
        replies.append(Refused(clipped(reply.text)))
    batch.told.set_result(replies[batch.skip :])


def seen(told: "asyncio.Future[list[Reply]]") -> None:
    """Its error is known: nobody may wait any more."""
    if not told.cancelled():
        told.exception()
