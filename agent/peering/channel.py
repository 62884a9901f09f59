"""One channel: a WebSocket to one peer that carries many questions and their replies.

Several questions may be open at once. Each has a number, and its reply repeats the number. A `Codec` gives
the messages their meaning.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.peering.websocket import PeerSocket

Question = TypeVar("Question")
Reply = TypeVar("Reply")


class MessageInvalid(Exception):
    """A message can't be understood. The channel that it came on is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec(Generic[Question, Reply]):
    """How questions and replies become messages.

    ``path``: where peers accept the WebSocket. ``encode``: makes a message of a number and a question.
    ``decode``: returns the number in a reply, and a function that reads the reply to that question. Both
    raise `MessageInvalid`.
    """

    path: str
    reply_max_bytes: int
    encode: Callable[[int, Question], bytes]
    decode: Callable[[bytes], tuple[int, Callable[[Question], Reply]]]


class ChannelClosed(Exception):
    """The channel's connection ended. ``worked``: a reply came before, so perhaps the peer restarted."""

    def __init__(self, *, worked: bool) -> None:
        super().__init__("the connection ended")
        self.worked = worked


class Channel(Generic[Question, Reply]):
    """One open connection to one peer, and the questions that wait for a reply on it.

    ``idle_s``: it ends after this time without a reply. ``ended``: is called when it has ended, for any
    reason.
    """

    def __init__(
        self,
        socket: PeerSocket,
        codec: Codec[Question, Reply],
        *,
        idle_s: float,
        ended: Callable[["Channel[Question, Reply]"], None],
    ) -> None:
        self._socket = socket
        self._codec = codec
        self._idle_s = idle_s
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[Question, asyncio.Future[Reply]]] = {}
        self._unanswered = 0  # questions that were sent; perhaps nobody waits for the reply any more
        self.replies = 0  # how many came that somebody waited for
        self._ended = ended
        self._opened_s = time.monotonic()
        self.last_reply_s = 0.0  # on the monotonic clock
        self._idle_timer = asyncio.get_running_loop().call_later(idle_s, self._check_idle)
        self._reader = asyncio.create_task(self._read(), name="replies")
        self._reader.add_done_callback(self._reader_ended)

    @property
    def closed(self) -> bool:
        """Whether it takes no more questions."""
        return self._socket.closed or self._reader.done()

    @property
    def is_idle(self) -> bool:
        """Whether it was used, and nobody waits for a reply."""
        return self.replies > 0 and not self._waiting

    async def query(self, question: Question) -> Reply:
        """Send a question and wait for its reply. Raises `ChannelClosed`. Has no deadline.

        Cancelling does not affect other questions on the channel.
        """
        number = next(self._numbers)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (question, future)
        self._unanswered += 1
        try:
            await self._socket.send(self._codec.encode(number, question))
            return await future
        except ConnectionError as error:
            raise ChannelClosed(worked=self.replies > 0) from error
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
                del message  # a thousand channels wait here: none of their last replies is kept
        except MessageInvalid:
            pass  # no further reply of this peer can be trusted
        finally:
            for _, future in self._waiting.values():
                if not future.done():
                    future.set_exception(ChannelClosed(worked=self.replies > 0))
            await self._socket.close()

    def _check_idle(self) -> None:
        """End the channel if it is idle. One timer for all replies costs less than a time-out for each."""
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
            return  # nobody waits for it any more
        self.replies += 1
        self.last_reply_s = time.monotonic()
        future.set_result(read(question))
