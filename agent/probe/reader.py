"""Reads a probe's messages, and connects again when the probe comes back."""

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
    incoming, outgoing = await asyncio.open_unix_connection(path, limit=LINE_MAX)
    uid = peer_uid(outgoing.get_extra_info("socket"))
    if uid not in (0, os.getuid()):
        outgoing.close()
        raise PermissionError(f"{path} is served by user {uid}, which is neither root nor this user")
    return incoming, outgoing


async def _line(incoming: asyncio.StreamReader) -> bytes:
    try:
        return await incoming.readline()
    except ValueError as error:
        raise MessageInvalid(f"a line of more than {LINE_MAX} bytes") from error


class ProbeReader:
    """Follows a probe. ``on_message`` gets each message. ``on_gone`` is called when the probe disconnects.

    ``node``: the node that the probe must belong to; None for any.
    """

    def __init__(
        self,
        path: Path,
        *,
        node: str | None,
        on_message: Callable[[Message], None],
        on_gone: Callable[[], None],
    ) -> None:
        self._path = path
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
        incoming, outgoing = await _connect(self._path)
        heard = False
        try:
            while line := await _line(incoming):
                message = decode(line)
                if not heard:
                    self._check_hello(message)
                    heard = True
                    self._logged = ""
                    _log.info("connected to the probe", extra={"fields": {"socket": self._path}})
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
            outgoing.close()
            with contextlib.suppress(OSError):
                await outgoing.wait_closed()
            if heard:
                self._on_gone()
                _log.warning("the probe is gone", extra={"fields": {"socket": self._path}})

    def _check_hello(self, message: Message) -> None:
        hello = _as_hello(message)
        if self._node is not None and hello.node != self._node:
            raise MessageInvalid(f"the probe is that of node {hello.node}, not of {self._node}")

    def _log_once(self, problem: str) -> None:
        """Log a problem once, not every second. A node without a probe is nothing unusual."""
        if problem != self._logged:
            self._logged = problem
            _log.info("no probe", extra={"fields": {"reason": problem}})
