"""Accepts the connections of a listener, a few at a time, and only those of clients that may have one more.

The event loop's own server would accept all that wait at once. While it does, nobody else is served, and
every connection costs its objects before anybody can say no. A refused one costs two system calls here.
"""

import asyncio
import ctypes
import errno
import logging
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from agent.bounds.accounts import ACCEPT_S, HANDSHAKE_S, Account, Excess
from agent.bounds.bans import BANNED_S, filter_program
from agent.listen.bounded import ClientBounds
from agent.listen.tlsgate import Factory, TlsGate
from agent.observe.seldom import Seldom

_log = logging.getLogger(__name__)

_AT_ONCE = 8  # accepted in one turn of the event loop: half a millisecond
_RECEIVE_BYTES = 32 * 1024  # what the kernel takes for a client that is not read; one turn reads that much
_PAUSE_S = 0.1
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h
_RESET = struct.pack("ii", 1, 0)  # struct linger: close() resets, and no port stays in TIME_WAIT


class Accepting:
    """Accepts on ``listener`` from `start` to `close`.

    ``factory``: makes the protocol of a connection. ``name``: the listener's, for the log. ``bounds``: those
    on its clients; None: all are accepted. ``open_now``: how many connections of the listener are open.
    ``gate``: opens them with TLS.
    """

    def __init__(
        self,
        listener: socket.socket,
        factory: Factory,
        *,
        name: str,
        bounds: ClientBounds | None,
        open_now: Callable[[], int],
        gate: TlsGate | None = None,
    ) -> None:
        self._listener = listener
        listener.setblocking(False)
        self._factory = factory
        self._name = name
        self._bounds = bounds
        self._open_now = open_now
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._lifted: asyncio.TimerHandle | None = None
        self._seldom = Seldom()

    def start(self) -> None:
        """Accept from now on."""
        self._paused = None
        if self._bounds is not None:
            self._bounds.banned = self._filter
            self._filter()
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept no more, and close the listening socket. Closing twice does nothing."""
        if self._listener.fileno() < 0:
            return
        self._loop.remove_reader(self._listener)
        for timer in (self._paused, self._lifted):
            if timer is not None:
                timer.cancel()
        if self._bounds is not None:
            self._bounds.banned = lambda: None
            _detach(self._listener)  # perhaps another process accepts on it from now on
        self._listener.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if self._gate is not None and len(self._opening) >= self._gate.most:
                self._rest()  # whoever waits in the kernel takes this node for busy, and not for broken
                return
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._pause(error)
                return
            connection.setblocking(False)
            if self._bounds is not None and not self._admits(connection, peer, self._bounds):
                continue
            task = self._loop.create_task(self._open(connection, peer), name="accept")
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _admits(self, connection: socket.socket, peer: Any, bounds: ClientBounds) -> bool:
        """Prepare the connection of a client that may have one more, and reset that of another one."""
        admitted: Account | Excess = Excess.CONNECTIONS
        if self._open_now() + len(self._opening) < bounds.connections_max:
            cost_s = ACCEPT_S if self._gate is None else HANDSHAKE_S
            admitted = bounds.accounts.admit(peer[0], cost_s, time.monotonic())
        if isinstance(admitted, Excess):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.close()
            bounds.refused(admitted, peer[0])
            return False
        bounds.opening[peer] = admitted
        if self._lifted is not None:
            _detach(connection)  # it has the filter of its listener
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        return True

    async def _open(self, connection: socket.socket, peer: Any) -> None:
        try:
            if self._gate is not None:
                await self._gate.open(connection, self._factory)
            else:
                await self._loop.connect_accepted_socket(self._factory, connection)
        except OSError:
            connection.close()  # it has left again
        finally:
            if self._bounds is not None:
                self._bounds.gave_up(peer)

    def _filter(self) -> None:
        """Have the kernel drop what banned clients send. Looks again when the bans are over."""
        if self._bounds is None:
            return
        self._bounds.bans.expire(time.monotonic())
        banned = self._bounds.bans.banned
        if banned and self._lifted is None:
            self._lifted = self._loop.call_later(BANNED_S / 2, self._look_again)
        if banned:
            _attach(
                self._listener, filter_program(banned, 6 if self._listener.family == socket.AF_INET6 else 4)
            )
        else:
            _detach(self._listener)

    def _look_again(self) -> None:
        self._lifted = None
        self._filter()

    def _rest(self) -> None:
        """Accept no more for a moment."""
        self._loop.remove_reader(self._listener)
        self._paused = self._loop.call_later(_PAUSE_S, self.start)

    def _pause(self, error: OSError) -> None:
        """There is no descriptor. What waits keeps waiting: trying at once would fail at once."""
        self._rest()
        if self._seldom.happened():
            _log.error(
                "listen.%s can't accept: %s; raise the limit of open files (ulimit -n, LimitNOFILE)",
                self._name,
                error.strerror,
            )


def _attach(listener: socket.socket, program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))  # struct sock_fprog
    with suppress(OSError):  # a kernel without filters: each refusal costs its 30 µs
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def _detach(sock: socket.socket) -> None:
    with suppress(OSError):  # there is none
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
