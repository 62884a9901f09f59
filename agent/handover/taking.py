"""The newer agent's side of a hand-over: asks the older one for its sockets, and stays in touch with it.

`ask` runs before the event loop. What can go wrong there: nobody serves the path (then there is no older
agent), another user does, or the older agent hangs, refuses, or dies half-way.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from agent import __version__
from agent.handover.link import Link, is_trusted
from agent.handover.messages import (
    LINE_MAX,
    SOCKETS_MAX,
    Claim,
    Claims,
    Leaving,
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

_log = logging.getLogger("shorthaul.handover")

ANSWER_S = 5.0
"""How long an older agent may take to answer. A busy one takes milliseconds, so it hangs or is frozen."""

_AGAIN_S = 0.2
_PART_BYTES = 65536
_YIELD_S = 3.0  # the older agent may hang by now: this one serves in any case
_RESUME_S = 2.0  # so long this agent goes on serving while it asks the older one to serve again
_CLAIM_S = 0.25


_T = TypeVar("_T")


class HandoverError(Exception):
    """An older agent seems to run, and gives no sockets. ``hint``: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Older:
    """The older agent of this node, which gave its listening sockets.

    ``sockets``: those, until somebody takes them. ``offer``: what it said with them. ``urgent`` is set when
    it stops or is gone: nobody may serve then until this agent does.
    """

    def __init__(self, connection: socket.socket, offer: Offer, sockets: Sequence[socket.socket]) -> None:
        self._connection = connection
        self.offer = offer
        self.sockets = [*sockets]
        self.urgent = asyncio.Event()
        self.claims: Claims | None = None
        self._link: Link | None = None
        self._yielded: asyncio.Future[Yielded | None] | None = None
        self._resumed: asyncio.Future[bool] | None = None

    def keep(self, used: Collection[socket.socket]) -> None:
        """These sockets belong to this agent now. Close the others."""
        while self.sockets:
            one = self.sockets.pop()
            if one not in used:
                one.close()

    def close(self) -> None:
        """Forget it: close the connection, if `run` did not begin, and the sockets that nobody took."""
        self._connection.close()
        while self.sockets:
            self.sockets.pop().close()

    async def run(self) -> None:
        """Listen to it until it is gone. If this is cancelled, it thinks that this agent died."""
        self._link = link = await Link.open(self._connection)
        asking = asyncio.create_task(self._keep_asking(link), name="claims of the older agent")
        try:
            while (message := await link.heard()) is not None:
                match message:
                    case Claims():
                        self.claims = message
                    case Leaving():
                        self.urgent.set()
                    case Yielded():
                        self.claims = Claims(cookies=message.cookies, every=message.every)
                        _settle(self._yielded, message)
                    case Resumed():
                        _settle(self._resumed, True)
                    case _:
                        pass
        finally:
            asking.cancel()
            self._link = None
            self.urgent.set()
            _settle(self._yielded, None)
            _settle(self._resumed, False)
            await link.close()

    async def serving(self, places: Sequence[tuple[str, int]]) -> Yielded | None:
        """Tell it that this agent accepts connections at these places. It stops doing so.

        Returns what it says then. None if it is gone, or hangs: either way it accepts nothing.
        """
        if self._link is None:
            return None
        self._yielded = asyncio.get_running_loop().create_future()
        self._link.say(Serving(places=tuple(places)))
        with suppress(TimeoutError):
            async with asyncio.timeout(_YIELD_S):
                return await self._yielded
        _log.warning("the older agent does not say that it stopped accepting connections")
        return None

    async def resign(self) -> bool:
        """This agent stops: ask the older one, if it still runs, to serve again. Returns whether it does."""
        if self._link is None:
            return False
        self._resumed = asyncio.get_running_loop().create_future()
        self._link.say(Leaving())
        with suppress(TimeoutError):
            async with asyncio.timeout(_RESUME_S):
                return await self._resumed
        return False

    async def _keep_asking(self, link: Link) -> None:
        """Keep up to date what it accepted, until it accepts nothing any more."""
        while self._yielded is None:
            link.say(Claim())
            await asyncio.sleep(_CLAIM_S)


def ask(path: Path, *, node: str, answer_s: float = ANSWER_S) -> Older | None:
    """Ask the agent that serves this path for its sockets. None if there is none. Raises `HandoverError`.

    Blocks for at most ``answer_s``.
    """
    until_s = time.monotonic() + answer_s
    while True:
        connection = _connect(path, until_s)
        if connection is None:
            return None
        try:
            answer, sockets = _exchange(connection, node, until_s)
        except TimeoutError as error:
            connection.close()
            raise HandoverError(
                f"an agent of this node runs, but does not answer at {path} within {answer_s:.0f} s",
                "it hangs: end it (in Kubernetes its liveness probe does)",
            ) from error
        except (OSError, MessageInvalid) as error:
            connection.close()
            if isinstance(error, ConnectionError):
                continue  # it ended while it was asked: ask whoever serves the path now
            raise HandoverError(f"{path}: {error}", "end the process that serves this socket") from error
        if isinstance(answer, Offer):
            connection.settimeout(None)
            return Older(connection, answer, sockets)
        connection.close()
        if not answer.again or time.monotonic() + _AGAIN_S > until_s:
            raise HandoverError(
                f"the agent that runs on this node keeps its ports: {answer.reason}",
                "give each node of this machine its own handover.socket; or end the other agent",
            )
        time.sleep(_AGAIN_S)


def _connect(path: Path, until_s: float) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(max(0.01, until_s - time.monotonic()))
        connection.connect(str(path))
        if is_trusted(connection):
            return connection
        reason = "it is served by another user, who is not root"
    except (FileNotFoundError, ConnectionRefusedError):  # a killed agent leaves its socket's file
        connection.close()
        return None
    except (OSError, ValueError) as error:
        reason = str(error)
    connection.close()
    raise HandoverError(f"{path}: {reason}", "name another path in handover.socket")


def _exchange(
    connection: socket.socket, node: str, until_s: float
) -> tuple[Offer | Refusal, list[socket.socket]]:
    """Say `Take`, and wait for the answer. Raises OSError, `MessageInvalid`; then no socket stays open."""
    sockets: list[socket.socket] = []
    line = b""
    try:
        connection.sendall(encode(Take(node=node, agent=__version__)))
        while not line.endswith(b"\n"):
            connection.settimeout(max(0.01, until_s - time.monotonic()))
            part, descriptors, _, _ = socket.recv_fds(
                connection, _PART_BYTES, SOCKETS_MAX, socket.MSG_CMSG_CLOEXEC
            )
            sockets += [socket.socket(fileno=one) for one in descriptors]
            line += part
            if not part:
                raise ConnectionResetError("the other agent ended meanwhile")
            if len(line) > LINE_MAX:
                raise MessageInvalid("a line without an end")
        answer = decode(line)
        if not isinstance(answer, Offer | Refusal):
            raise MessageInvalid("neither an offer nor a refusal")
    except BaseException:
        for one in sockets:
            one.close()
        raise
    return answer, sockets


def _settle(future: "asyncio.Future[_T] | None", result: _T) -> None:
    if future is not None and not future.done():
        future.set_result(result)
