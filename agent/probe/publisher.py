"""Publishes the probe's messages over a Unix socket to the readers that are allowed, above all the agent.

A reader that is too slow is cut off. When it connects again it gets every open flow again, so it misses
nothing that still matters. What readers send, and the sockets that come with it, goes to the probe.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, Self

from agent.flows.messages import LINE_MAX, Message, MessageInvalid, Request, decode_request, encode
from agent.probe.sockets import peer_uid

_log = logging.getLogger(__name__)

_BEHIND_MAX = 4 << 20  # bytes that a reader may leave unread
_READERS_MAX = 16
_FDS_MAX = 8  # sockets with a message; an agent has four
_PART_BYTES = 65536


class SocketTaken(Exception):
    """Another probe serves this socket, or the socket can't be made. ``hint`` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class ReaderDesk(Protocol):
    """Is told of the readers. ``reader`` stands for one connection."""

    def came(self, reader: Hashable) -> None:
        """A reader connected."""

    def requested(
        self, reader: Hashable, request: Request, sockets: Sequence[socket.socket]
    ) -> Message | None:
        """A reader sent this, with these sockets, which are closed afterwards. Returns what to answer.

        Raises `MessageInvalid` if the reader is to be cut off.
        """

    def left(self, reader: Hashable) -> None:
        """A reader disconnected."""


class _NoDesk:
    def came(self, reader: Hashable) -> None:
        pass

    def requested(
        self, reader: Hashable, request: Request, sockets: Sequence[socket.socket]
    ) -> Message | None:
        pass

    def left(self, reader: Hashable) -> None:
        pass


class Publisher:
    """The socket and its readers. ``initial_messages``: the messages for a new reader.

    ``uids``: the users that may read, and that are believed when they say that a socket is an agent's.
    """

    def __init__(
        self,
        path: Path,
        *,
        initial_messages: Callable[[], Iterable[Message]],
        uids: Collection[int],
        desk: ReaderDesk | None = None,
    ) -> None:
        self._path = path
        self._initial_messages = initial_messages
        self._desk: ReaderDesk = desk or _NoDesk()
        self._uids = frozenset({0, os.getuid(), *uids})
        self._for_all = bool(uids)
        self._readers: set[_Reader] = set()
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
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: _Reader(self), sock=_listening(self._path, for_all=self._for_all)
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
            reader.transport.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # else it is another probe's socket by now
                self._path.unlink()

    def publish(self, message: Message) -> None:
        """Send a message to every reader, without waiting for any."""
        if not self._readers:
            return
        line = encode(message)
        for reader in list(self._readers):
            reader.transport.write(line)
            if reader.transport.get_write_buffer_size() > _BEHIND_MAX:
                self.cut_off += 1
                reader.transport.abort()
                self.left(reader)

    def admits(self, reader: "_Reader") -> bool:
        """Whether this connection may read. If so, it is told what every new reader is told."""
        uid = peer_uid(reader.transport.get_extra_info("socket"))
        if uid not in self._uids or len(self._readers) >= _READERS_MAX:
            self.refused += 1
            if uid not in self._logged:  # once per user, because anybody may try as often as they like
                self._logged.add(uid)
                _log.warning(
                    "refused a reader", extra={"fields": {"uid": uid, "readers": len(self._readers)}}
                )
            return False
        for message in self._initial_messages():
            reader.transport.write(encode(message))
        self._readers.add(reader)
        self._desk.came(reader)
        return True

    def requested(self, reader: "_Reader", line: bytes, sockets: Sequence[socket.socket]) -> None:
        """A reader sent a line. Raises `MessageInvalid`."""
        answer = self._desk.requested(reader, decode_request(line), sockets)
        if answer is not None:
            reader.transport.write(encode(answer))

    def left(self, reader: "_Reader") -> None:
        """A reader is gone, or cut off."""
        if reader in self._readers:
            self._readers.discard(reader)
            self._desk.left(reader)


class _Reader(asyncio.Protocol):
    """One connection. asyncio only writes to it: it drops the sockets that come with a message, so a
    duplicate of the connection is read here.
    """

    transport: asyncio.Transport

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._loop = asyncio.get_running_loop()
        self._incoming: socket.socket | None = None
        self._line = bytearray()
        self._sockets: list[socket.socket] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._loop.call_soon(self._begin)  # after asyncio has begun to read, which can't be prevented before

    def _begin(self) -> None:
        self.transport.pause_reading()
        if self.transport.is_closing():
            return
        if not self._publisher.admits(self):
            self.transport.close()
            return
        try:
            self._incoming = self.transport.get_extra_info("socket").dup()
        except OSError as error:
            _log.warning("cut a reader off: %s", error)
            self._end()
            return
        self._loop.add_reader(self._incoming.fileno(), self._read)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._publisher.left(self)

    def _read(self) -> None:
        assert self._incoming is not None
        try:
            data, sockets = _received(self._incoming)
            self._sockets += sockets
            if len(self._sockets) > _FDS_MAX:
                raise MessageInvalid(f"more than {_FDS_MAX} sockets with a message")
            if not data:
                self._end()
                return
            self._line += data
            while b"\n" in self._line:
                line, _, rest = self._line.partition(b"\n")
                self._line = rest
                self._publisher.requested(self, bytes(line), self._sockets)
                self._drop_sockets()
            if len(self._line) > LINE_MAX:
                raise MessageInvalid(f"a line of more than {LINE_MAX} bytes")
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end()
        except MessageInvalid as error:
            _log.warning("cut a reader off: %s", error)
            self._end()

    def _end(self) -> None:
        self._stop()
        self.transport.close()

    def _stop(self) -> None:
        self._drop_sockets()
        if self._incoming is not None:
            self._loop.remove_reader(self._incoming.fileno())
            self._incoming.close()
            self._incoming = None

    def _drop_sockets(self) -> None:
        while self._sockets:
            self._sockets.pop().close()


def _received(incoming: socket.socket) -> tuple[bytes, list[socket.socket]]:
    """What a reader sent, and the sockets that came with it. Raises `OSError` if it can't be read.

    Raises `MessageInvalid` if other descriptors came, or some were lost. Then all that came are closed.
    """
    data, fds, flags, _ = socket.recv_fds(incoming, _PART_BYTES, _FDS_MAX, socket.MSG_CMSG_CLOEXEC)
    sockets: list[socket.socket] = []
    try:
        if flags & socket.MSG_CTRUNC:  # also if this process may open no more
            raise MessageInvalid("not all descriptors of a message could be taken")
        for fd in fds:
            sockets.append(_socket_of(fd))
    except MessageInvalid:
        for one in sockets:
            one.close()
        for fd in fds[len(sockets) :]:
            os.close(fd)
        raise
    return data, sockets


def _socket_of(fd: int) -> socket.socket:
    """The socket of a descriptor. Raises `MessageInvalid` if it is none; then it stays open."""
    try:
        return socket.socket(fileno=fd)
    except OSError as error:
        raise MessageInvalid(f"a descriptor that is no socket: {error.strerror or error}") from error


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
