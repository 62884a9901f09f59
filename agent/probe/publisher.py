"""Publishes the probe's messages over a Unix socket to the readers that are allowed, above all the agent.

A reader that is too slow is cut off. When it connects again it gets every open flow again, so it misses
nothing that still matters.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Self

from agent.flows.messages import Message, encode
from agent.probe.sockets import peer_uid

_log = logging.getLogger(__name__)

_BEHIND_MAX = 4 << 20  # bytes that a reader may leave unread
_READERS_MAX = 16


class SocketTaken(Exception):
    """Another probe serves this socket, or the socket can't be made. ``hint`` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Publisher:
    """The socket and its readers. ``initial_messages``: the messages for a new reader.

    ``uids``: the users that may read. ``on_reader``: called for each new reader.
    """

    def __init__(
        self,
        path: Path,
        *,
        initial_messages: Callable[[], Iterable[Message]],
        uids: Collection[int],
        on_reader: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._initial_messages = initial_messages
        self._on_reader = on_reader
        self._uids = frozenset({0, os.getuid(), *uids})
        self._for_all = bool(uids)
        self._readers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._logged: set[int] = set()
        self.refused = 0
        self.cut_off = 0

    @property
    def readers(self) -> int:
        """How many readers are connected now."""
        return len(self._readers)

    async def __aenter__(self) -> Self:
        """Listen. Raises `SocketTaken`."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(self._path)
            self._server = await asyncio.start_unix_server(
                self._serve, sock=_listening(self._path, for_all=self._for_all)
            )
            self._inode = self._path.stat().st_ino
        except OSError as error:
            raise SocketTaken(
                f"{self._path}: {error.strerror or error}",
                "set probe.socket to a path in a writable directory",
            ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for reader in list(self._readers):
            reader.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # else it is another probe's socket by now
                self._path.unlink()

    def publish(self, message: Message) -> None:
        """Send a message to every reader, without waiting for any."""
        if not self._readers:
            return
        line = encode(message)
        for reader in list(self._readers):
            reader.write(line)
            if reader.transport.get_write_buffer_size() > _BEHIND_MAX:
                self.cut_off += 1
                self._readers.discard(reader)
                reader.transport.abort()

    async def _serve(self, incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        uid = peer_uid(outgoing.get_extra_info("socket"))
        if uid not in self._uids or len(self._readers) >= _READERS_MAX:
            self.refused += 1
            if uid not in self._logged:  # once per user, because anybody may try as often as they like
                self._logged.add(uid)
                _log.warning(
                    "refused a reader", extra={"fields": {"uid": uid, "readers": len(self._readers)}}
                )
            outgoing.close()
            return
        for message in self._initial_messages():
            outgoing.write(encode(message))
        self._readers.add(outgoing)
        self._on_reader()
        try:
            while await incoming.read(4096):  # readers send nothing; this waits until they disconnect
                pass
        except OSError:
            pass
        finally:
            self._readers.discard(outgoing)
            outgoing.close()


def _listening(path: Path, *, for_all: bool) -> socket.socket:
    """The listening socket. ``for_all``: other users may connect; SO_PEERCRED decides who may read.

    The umask sets the mode. A chmod of the path would be unsafe, because somebody might have replaced the
    socket by a link meanwhile.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o111 if for_all else 0o177)
    try:
        listener.bind(str(path))
        listener.listen()  # at once, so that whoever sees the path can connect
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket that a killed probe left behind. Raises `SocketTaken` if a probe serves it."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise SocketTaken(f"{path}: {error.strerror}", "run as root, or set probe.socket") from error
    raise SocketTaken(
        f"another probe serves {path}", "one probe per node is enough; stop it, or set probe.socket"
    )
