"""The connection between two agents of one node, at either end."""

import asyncio
import contextlib
import logging
import os
import socket

from agent.handover.messages import LINE_MAX, Message, MessageInvalid, decode, encode
from agent.probe.sockets import peer_uid

_log = logging.getLogger("shorthaul.handover")


def is_trusted(connection: socket.socket) -> bool:
    """Whether the process at the other end is root's or this user's (SO_PEERCRED)."""
    return peer_uid(connection) in (0, os.getuid())


class Link:
    """One open connection. Only `open` makes it, inside the event loop that will use it."""

    def __init__(self, incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    @classmethod
    async def open(cls, connection: socket.socket) -> "Link":
        """A link over a connected Unix socket, which belongs to it from now on."""
        connection.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=connection, limit=LINE_MAX))

    def say(self, message: Message) -> None:
        """Send a message. If the other end is gone, `heard` tells."""
        self._outgoing.write(encode(message))

    async def heard(self) -> Message | None:
        """The next message. None once the other end is gone, or says what makes no sense."""
        while True:
            try:
                line = await self._incoming.readline()
                if not line.endswith(b"\n"):
                    return None
                message = decode(line)
            except (OSError, ValueError) as error:  # ValueError: a line that is too long
                if isinstance(error, MessageInvalid) or not isinstance(error, OSError):
                    _log.warning("the other agent of this node: %s", error)
                return None
            if message is not None:
                return message

    async def close(self) -> None:
        """Close this end."""
        self._outgoing.close()
        with contextlib.suppress(OSError):
            await self._outgoing.wait_closed()
