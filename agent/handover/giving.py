"""The older agent's side of a hand-over: gives its sockets to a newer agent, and stands by until it ends.

From `Offer` on, both processes hold the sockets, and this agent goes on accepting. When the newer agent (the
*heir*) serves, this one stops. It keeps the sockets: if the heir dies or leaves, this agent accepts again,
and what waited in between is served. One heir at a time.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from agent.handover.link import Link, is_trusted
from agent.handover.messages import (
    Claim,
    Claims,
    Leaving,
    Message,
    MessageInvalid,
    Offer,
    Refusal,
    Resumed,
    Serving,
    Take,
    Yielded,
    decode,
    encode,
)
from agent.tasks import end_all
from agent.unixsocket import UnixListener

_log = logging.getLogger("shorthaul.handover")

HINT = "handover.socket must be in a directory that this user may write"
"""What to do if no newer agent can ask."""

_KEEP_S = 5.0
_TAKE_S = 5.0  # an heir says what it wants at once
_TAKE_MAX_BYTES = 4096
_HURRIED_S = 3.0  # an heir that was still getting ready serves by then, or it is of no use
_AT_ONCE_MAX = 8
_AGAIN_S = 1.0


class Desk(Protocol):
    """What an agent does for an heir."""

    def claims(self) -> Claims:
        """What it accepted so far."""

    def offer(self) -> Offer:
        """What goes with the sockets."""

    async def yield_to(self, places: Sequence[tuple[str, int]]) -> Yielded:
        """Stop accepting at these addresses. Nothing that was accepted ends."""

    async def resume(self) -> None:
        """Accept again."""


class Giver:
    """Serves the path of ``handover.socket``. ``sockets``: the listening sockets now.

    ``keep_s``: so often it looks whether the path still leads here.
    """

    def __init__(
        self,
        path: Path,
        *,
        node: str,
        sockets: Callable[[], Sequence[socket.socket]],
        desk: Desk,
        keep_s: float = _KEEP_S,
    ) -> None:
        self._path = path
        self._node = node
        self._sockets = sockets
        self._desk = desk
        self._listener: UnixListener | None = None
        self._keep_s = keep_s
        self._keeping: asyncio.Task[None] | None = None
        self._accepting: asyncio.Task[None] | None = None
        self.problem: str | None = None  # why no newer agent can ask
        self._conversations: set[asyncio.Task[None]] = set()
        self._heir: Link | None = None
        self._given = False  # somebody has the sockets, or is just getting them
        self._heir_serves = asyncio.Event()
        self._leaving = False

    @property
    def stands_by(self) -> bool:
        """Whether an heir serves in this agent's place."""
        return self._heir_serves.is_set()

    def listen(self) -> None:
        """Let a newer agent ask from now on."""
        self._open()
        self._keeping = asyncio.create_task(self._keep(), name="the path for heirs")

    def _open(self) -> None:
        try:
            self._listener = UnixListener(self._path)
        except OSError as error:
            problem = f"{self._path}: {error.strerror or error}"
            if problem != self.problem:
                _log.warning("no newer agent can take over: %s", problem, extra={"fields": {"hint": HINT}})
            self.problem = problem
            return
        self.problem = None
        self._accepting = asyncio.create_task(self._accept(self._listener.socket), name="heirs")

    async def _keep(self) -> None:
        """Listen again if somebody removed the socket, or if the directory can be written by now."""
        while True:
            await asyncio.sleep(self._keep_s)
            if self._listener is None or self._listener.is_gone:
                await self._stop_listening()
                self._open()

    async def leave(self) -> bool:
        """This agent stops. Returns whether an heir serves in its place.

        An heir that is still getting ready is told to serve at once.
        """
        self._leaving = True
        if self._heir is None:
            return False
        self._heir.say(Leaving())
        try:
            async with asyncio.timeout(_HURRIED_S):
                await self._heir_serves.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop: an heir sees that this agent is gone."""
        await self._deafen()
        await end_all(self._conversations)

    async def _deafen(self) -> None:
        if self._keeping is not None:
            await end_all([self._keeping])
            self._keeping = None
        await self._stop_listening()

    async def _stop_listening(self) -> None:
        if self._accepting is not None:
            await end_all([self._accepting])
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor is left, for now
                _log.warning("can't be asked for this agent's sockets: %s", error.strerror or error)
                await asyncio.sleep(_AGAIN_S)
                continue
            if len(self._conversations) >= _AT_ONCE_MAX:
                connection.close()
                continue
            task = asyncio.create_task(self._converse(connection), name="an heir")
            self._conversations.add(task)
            task.add_done_callback(self._conversations.discard)

    async def _converse(self, connection: socket.socket) -> None:
        try:
            link = await self._begin(connection)
        except (OSError, TimeoutError, MessageInvalid) as error:
            _log.warning("asked for this agent's sockets, and gave none: %s", error)
            connection.close()
            return
        if link is None:
            connection.close()
            return
        try:
            while (message := await link.heard()) is not None:
                await self._answer(link, message)
        finally:
            self._heir, self._given = None, False
            await link.close()
        await self._bereaved()

    async def _begin(self, connection: socket.socket) -> Link | None:
        """The link to a new heir, which has the sockets now. None: it was refused.

        Raises OSError, TimeoutError, `MessageInvalid`.
        """
        connection.setblocking(False)
        if not is_trusted(connection):
            raise PermissionError("another user, who is not root, asked")
        async with asyncio.timeout(_TAKE_S):
            take = await _take(connection)
        refusal = self._refusal(take)
        if refusal is not None:
            connection.send(encode(refusal))
            return None
        self._given = True  # at once: another one may ask while this one's link is made
        try:
            descriptors = [one.fileno() for one in self._sockets()]
            socket.send_fds(connection, [encode(self._desk.offer())], descriptors)
            self._heir = link = await Link.open(connection)
        except BaseException:
            self._given = False
            raise
        if self._leaving:
            link.say(Leaving())
        _log.info("a newer agent of this node gets ready", extra={"fields": {"version": take.agent}})
        return link

    def _refusal(self, take: Take) -> Refusal | None:
        if take.node != self._node:
            return Refusal(reason=f"it is the agent of node {self._node}, not of {take.node}")
        if self._given:
            return Refusal(reason="another new agent takes over just now", again=True)
        return None

    async def _answer(self, link: Link, message: Message) -> None:
        match message:
            case Claim():
                link.say(self._desk.claims())
            case Serving():
                try:
                    yielded = await self._desk.yield_to(message.places)
                except Exception:
                    await self._desk.resume()  # some listeners may have stopped
                    raise
                await self._deafen()
                self._heir_serves.set()
                link.say(yielded)
                _log.info("a newer agent of this node serves now: standing by")
            case Leaving() if self.stands_by and not self._leaving:
                await self._serve_again("leaves")
                link.say(Resumed())
            case _:
                pass

    async def _bereaved(self) -> None:
        """The heir is gone."""
        if self.stands_by and not self._leaving:
            await self._serve_again("is gone")

    async def _serve_again(self, why: str) -> None:
        _log.warning("the newer agent of this node %s: serving again", why)
        self._heir_serves.clear()
        await self._desk.resume()
        self.listen()


async def _take(connection: socket.socket) -> Take:
    """The first message of whoever connected. Raises OSError, `MessageInvalid`."""
    line = b""
    while not line.endswith(b"\n"):
        part = await asyncio.get_running_loop().sock_recv(connection, _TAKE_MAX_BYTES)
        line += part
        if not part or len(line) > _TAKE_MAX_BYTES:
            raise MessageInvalid("it did not say what it wants")
    take = decode(line)
    if not isinstance(take, Take):
        raise MessageInvalid("it did not ask for sockets")
    return take
