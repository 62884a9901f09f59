"""A TLS connection to a peer that is used like a plain socket: it never blocks, and is waited for by its fd.

OpenSSL reads and writes the kernel's socket itself, so the bytes are copied once less than by asyncio's TLS.
A record has at most 16 KiB. Here one call receives as many records as there are: to wake once for each would
cost more than to decrypt it.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from agent.descriptors import is_ready
from agent.peering.certificate import Certificate, certificate_of
from agent.peering.tlsfailure import TlsRefused, failure_of

_WAITS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
_STEP_S = 60.0  # its caller has a deadline; this is only how long one wait lasts


class TlsSocket(ssl.SSLSocket):
    """Made by the contexts of `agent.peering.tls`. `opened` opens one.

    ``recv``, ``recv_into`` and ``send`` raise BlockingIOError where a plain socket does, and `TlsRefused` if
    TLS ended the connection. An end without TLS's own goodbye is an end like any other: every body's length
    is known.
    """

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive what there is, at most as much as the buffer holds. 0: the peer closed."""
        got = 0
        with memoryview(buffer) as view:
            most = nbytes or len(view)
            while got < most:
                try:
                    some = self._received(view, got, most)
                except BlockingIOError:
                    if got:
                        break
                    raise
                if not some:
                    break  # if something came before, the next call says that it closed
                got += some
        return got

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive what there is, at most this many bytes. Empty: the peer closed."""
        buffer = bytearray(buflen)
        return bytes(buffer[: self.recv_into(buffer)])

    def send(self, data: Any, flags: int = 0) -> int:
        """Send what there is room for. Returns how many bytes that was."""
        try:
            return super().send(data)
        except ssl.SSLError as error:
            raise _as_plain(error) from error

    def _received(self, view: memoryview, start: int, stop: int) -> int:
        try:
            return super().recv_into(view[start:stop])
        except ssl.SSLError as error:
            raise _as_plain(error) from error


def _as_plain(error: ssl.SSLError) -> OSError:
    """What a plain socket would raise, if it would."""
    if isinstance(error, _WAITS):
        return BlockingIOError()
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ConnectionResetError("the other end closed the connection")
    return TlsRefused(failure_of(error))


refusing: ContextVar[Callable[[ssl.SSLError], None]] = ContextVar("refusing")
"""Is called with why a handshake fails, in the context in which the connection was opened or accepted."""


class TellingTls(ssl.SSLObject):
    """TLS for an event loop's connections. If the handshake fails, the other end is told why.

    OpenSSL leaves an alert to be sent, and fails. The event loops then drop the connection and the alert with
    it, so the other end could only guess. Here the failure looks as if more had to come: then what is left is
    sent, and the other end closes. Whoever opens or accepts is told by `refusing`.
    """

    _failed = False

    def do_handshake(self) -> None:
        """See `ssl.SSLObject.do_handshake`."""
        told = refusing.get(None)
        if self._failed:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "it failed before")
        try:
            super().do_handshake()
        except _WAITS:
            raise
        except ssl.SSLError as error:
            if told is not None:
                told(error)
            if told is None or failure_of(error).told:  # the other end knows it already
                raise
            self._failed = True
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the alert goes first") from error


async def opened(context: ssl.SSLContext, own: socket.socket) -> TlsSocket:
    """The TLS connection over a connected socket, which it takes over. Has no deadline.

    Raises `TlsRefused` and ConnectionError. The socket is closed then, and when this is cancelled.
    """
    try:
        secured = context.wrap_socket(own, do_handshake_on_connect=False, server_side=False)
    except BaseException:
        own.close()
        raise
    assert isinstance(secured, TlsSocket)
    try:
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                await is_ready(secured.fileno(), _STEP_S)
            except ssl.SSLWantWriteError:
                await is_ready(secured.fileno(), _STEP_S, writing=True)
            else:
                return secured
    except ssl.SSLError as error:
        secured.close()
        raise TlsRefused(failure_of(error)) from error
    except BaseException:
        secured.close()
        raise


def peer_certificate(connection: Any) -> Certificate | None:
    """The certificate of the other end, which was verified. None: there is no TLS any more.

    ``connection``: an SSLSocket or an SSLObject.
    """
    try:
        decoded = None if connection is None else connection.getpeercert()
    except (OSError, ValueError):  # it has ended
        return None
    return certificate_of(decoded) if decoded else None


async def send_all(own: socket.socket, content: bytes) -> None:
    """Send all of it, with TLS or without. Raises ConnectionError."""
    if not isinstance(own, TlsSocket):
        await asyncio.get_running_loop().sock_sendall(own, content)
        return
    left = memoryview(content)
    while left:
        try:
            left = left[own.send(left) :]
        except BlockingIOError:
            await is_ready(own.fileno(), _STEP_S, writing=True)


async def receive(own: socket.socket, most_bytes: int) -> bytes:
    """The next bytes, with TLS or without. Empty: the peer closed. Raises ConnectionError."""
    if not isinstance(own, TlsSocket):
        return await asyncio.get_running_loop().sock_recv(own, most_bytes)
    while True:
        try:
            return own.recv(most_bytes)
        except BlockingIOError:
            await is_ready(own.fileno(), _STEP_S)


def is_quiet(own: socket.socket) -> bool:
    """Whether nothing came on a connection that was not read, and the other end did not close it."""
    try:
        # The kernel's own view, below TLS: even an alert is a reason not to use the connection again.
        socket.socket.recv(own, 1, socket.MSG_PEEK)
    except BlockingIOError:
        return not (isinstance(own, TlsSocket) and own.pending())
    except OSError:
        return False
    return False
