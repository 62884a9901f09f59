"""Reads a probe's messages, and connects again when the probe comes back.

An agent also tells the probe its sockets, so that the probe can tell them from other processes'.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.flows.messages import (
    LINE_MAX,
    Claims,
    Hello,
    Introduced,
    Introduction,
    Message,
    MessageInvalid,
    Request,
    decode,
    encode_request,
)
from agent.flows.sockets import AcceptedSockets
from agent.probe.sockets import peer_uid

_log = logging.getLogger(__name__)

_AGAIN_S = 1.0
_HELLO_S = 2.0
_QUEUED_S = 1.0  # what waited to be accepted when the kernel began to mark is accepted by then


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSockets:
    """What an agent tells the probe. ``listeners``: its listening sockets. ``accepted``: what they took.

    ``known``: returns the programs of another probe, see `Introduction`.
    """

    node: str
    listeners: Sequence[socket.socket]
    accepted: AcceptedSockets
    known: Callable[[], tuple[int, ...]] = lambda: ()


async def read_hello(path: Path) -> Hello:
    """The first message of the probe at this socket. Raises OSError, `MessageInvalid`, TimeoutError."""
    async with asyncio.timeout(_HELLO_S):
        incoming, outgoing = await _connect(path)
        try:
            return _as_hello(decode(await _line(incoming)))
        finally:
            outgoing.close()


def _as_hello(message: Message) -> Hello:
    """Check that a message is the first message of a probe. Raises `MessageInvalid`."""
    if not isinstance(message, Hello):
        raise MessageInvalid("the first message is not a hello")
    return message


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = await _trusted(path)
    return await asyncio.open_unix_connection(sock=connection, limit=LINE_MAX)


async def _trusted(path: Path) -> socket.socket:
    """A connection to a process of root or of this user."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, str(path))
        uid = peer_uid(connection)
        if uid not in (0, os.getuid()):
            raise PermissionError(f"{path} is served by user {uid}, which is neither root nor this user")
    except BaseException:
        connection.close()
        raise
    return connection


def introduce(connection: socket.socket, own: OwnSockets) -> None:
    """Send an agent's introduction over a new connection. Raises OSError."""
    line = encode_request(Introduction(node=own.node, known=own.known()))
    socket.send_fds(connection, [line], [fd for listener in own.listeners if (fd := listener.fileno()) >= 0])


async def _line(incoming: asyncio.StreamReader) -> bytes:
    try:
        return await incoming.readline()
    except ValueError as error:
        raise MessageInvalid(f"a line of more than {LINE_MAX} bytes") from error


class ProbeReader:
    """Follows a probe. ``on_message`` gets each message. ``on_gone`` is called when the probe disconnects.

    ``node``: the node that the probe must belong to; None for any. ``own``: what to tell it, if this is an
    agent.
    """

    def __init__(
        self,
        path: Path,
        *,
        node: str | None,
        on_message: Callable[[Message], None],
        on_gone: Callable[[], None],
        own: OwnSockets | None = None,
    ) -> None:
        self._path = path
        self._own = own
        self._outgoing: asyncio.StreamWriter | None = None
        self._node = node
        self._on_message = on_message
        self._on_gone = on_gone
        self._logged = ""

    async def run(self) -> None:
        """Follow the probe until cancelled. Connects again when the connection ends."""
        while True:
            try:
                await self.follow()
            except OSError as error:
                self._log_once(f"{self._path}: {error.strerror or error}")
            except MessageInvalid as error:
                self._log_once(f"{self._path}: {error}")
            await asyncio.sleep(_AGAIN_S)

    async def follow(self) -> None:
        """Follow one connection to its end. Raises OSError, `MessageInvalid`."""
        connection = await _trusted(self._path)
        if self._own is not None:
            introduce(connection, self._own)
        incoming, outgoing = await asyncio.open_unix_connection(sock=connection, limit=LINE_MAX)
        self._outgoing = outgoing
        heard = False
        claiming: asyncio.Task[None] | None = None
        try:
            while line := await _line(incoming):
                message = decode(line)
                if not heard:
                    self._check_hello(message)
                    heard = True
                    self._logged = ""
                    _log.info("connected to the probe", extra={"fields": {"socket": self._path}})
                if isinstance(message, Introduced) and self._own is not None:
                    claiming = asyncio.create_task(_claim(outgoing, self._own.accepted), name="claims")
                self._on_message(message)
                await asyncio.sleep(0)  # so that a backlog does not delay the agent's pulls
            if not heard:
                raise PermissionError(
                    f"the probe at {self._path} refuses this user: be root, or list the uid in probe.readers"
                )
        except ConnectionError:
            if not heard:
                raise  # otherwise the probe is gone, which may happen at any time
        finally:
            self._outgoing = None
            if claiming is not None:
                claiming.cancel()
            outgoing.close()
            with contextlib.suppress(OSError):
                await outgoing.wait_closed()
            if heard:
                self._on_gone()
                _log.warning("the probe is gone", extra={"fields": {"socket": self._path}})

    def request(self, request: Request) -> None:
        """Ask the probe for something, if it is connected."""
        if self._outgoing is not None:
            self._outgoing.write(encode_request(request))

    def _check_hello(self, message: Message) -> None:
        hello = _as_hello(message)
        if self._node is not None and hello.node != self._node:
            raise MessageInvalid(f"the probe is that of node {hello.node}, not of {self._node}")

    def _log_once(self, problem: str) -> None:
        """Log a problem once, not every second. A node without a probe is nothing unusual."""
        if problem != self._logged:
            self._logged = problem
            _log.info("no probe", extra={"fields": {"reason": problem}})


async def _claim(outgoing: asyncio.StreamWriter, accepted: AcceptedSockets) -> None:
    """Tell what was accepted before the kernel began to mark: what is known now, then the rest."""
    cookies, _ = accepted.cookies()
    outgoing.write(encode_request(Claims(cookies=cookies)))
    await asyncio.sleep(_QUEUED_S)
    cookies, every = accepted.cookies()
    outgoing.write(encode_request(Claims(cookies=cookies, complete=every)))
