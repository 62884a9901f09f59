"""Follows what a probe tells, for as long as there is one, and again when it comes back."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from agent.flows.messages import LINE_MAX, Hello, Message, MessageInvalid, decode
from agent.probe.sockets import peer_uid

_log = logging.getLogger(__name__)

_AGAIN_S = 1.0
_HELLO_S = 2.0


async def read_hello(path: Path) -> Hello:
    """Whose probe serves this socket now. Raises OSError, `MessageInvalid`, TimeoutError."""
    async with asyncio.timeout(_HELLO_S):
        incoming, outgoing = await _connect(path)
        try:
            return _as_hello(decode(await _line(incoming)))
        finally:
            outgoing.close()


def _as_hello(message: Message) -> Hello:
    """The first message of a probe. Raises `MessageInvalid`."""
    if not isinstance(message, Hello):
        raise MessageInvalid("the first message is no hello")
    return message


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    incoming, outgoing = await asyncio.open_unix_connection(path, limit=LINE_MAX)
    uid = peer_uid(outgoing.get_extra_info("socket"))
    if uid not in (0, os.getuid()):
        outgoing.close()
        raise PermissionError(f"{path} is served by user {uid}: not a probe to be believed")
    return incoming, outgoing


async def _line(incoming: asyncio.StreamReader) -> bytes:
    try:
        return await incoming.readline()
    except ValueError as error:
        raise MessageInvalid(f"a line of more than {LINE_MAX} bytes") from error


class ProbeReader:
    """``take`` gets each message, ``gone`` is called when the probe went away. ``node``: whose it must be."""

    def __init__(
        self, path: Path, *, node: str | None, take: Callable[[Message], None], gone: Callable[[], None]
    ) -> None:
        self._path = path
        self._node = node
        self._take = take
        self._gone = gone
        self._said = ""

    async def run(self) -> None:
        """Follow it until cancelled."""
        while True:
            try:
                await self.follow()
            except OSError as error:
                self._say(f"{self._path}: {error.strerror or error}")
            except MessageInvalid as error:
                self._say(f"{self._path}: {error}")
            await asyncio.sleep(_AGAIN_S)

    async def follow(self) -> None:
        """Follow one connection to its end. Raises OSError, `MessageInvalid`."""
        incoming, outgoing = await _connect(self._path)
        heard = False
        try:
            while line := await _line(incoming):
                message = decode(line)
                if not heard:
                    self._check_hello(message)
                    heard = True
                    self._said = ""
                    _log.info("a probe tells of this node's flows", extra={"fields": {"socket": self._path}})
                self._take(message)
                await asyncio.sleep(0)  # a backlog must not keep the agent from its pulls
            if not heard:
                raise PermissionError(
                    f"the probe at {self._path} refuses this user: be root, or list the uid in probe.readers"
                )
        except ConnectionError:
            if not heard:
                raise  # else the probe is gone, as it may be at any time
        finally:
            outgoing.close()
            with contextlib.suppress(OSError):
                await outgoing.wait_closed()
            if heard:
                self._gone()
                _log.warning("the probe is gone", extra={"fields": {"socket": self._path}})

    def _check_hello(self, message: Message) -> None:
        hello = _as_hello(message)
        if self._node is not None and hello.node != self._node:
            raise MessageInvalid(f"the probe is that of node {hello.node}, not of {self._node}")

    def _say(self, problem: str) -> None:
        """Once, not every second: a node without a probe is nothing unusual."""
        if problem != self._said:
            self._said = problem
            _log.info("no probe", extra={"fields": {"reason": problem}})
