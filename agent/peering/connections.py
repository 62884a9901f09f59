"""HTTP/1.1 connections to peers on sockets of our own, so that the kernel can splice a body to the client.

aiohttp's client reads ahead into its own buffers. Here only the head is read, and the part of the body that
came with it. A connection serves one request at a time. It is kept for the next request if the body was read
to its end. Source: splice(2).
"""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping

from agent.members.member import Peer
from agent.peering.dial import Dialer
from agent.peering.heads import HeadReader, ResponseHead, request_head
from agent.peering.received import received_bytes
from agent.peering.tlsfailure import TlsRefused
from agent.peering.tlssocket import TlsSocket, is_quiet, receive, send_all

_IDLE_S = 15.0  # shorter than a server's http.idle_s, so that no request goes to a connection that closes
_IDLE_MAX = 32  # idle connections kept for each peer: as many as a containerd in chunks uses at once
_READ_BYTES = 16 * 1024  # a head and the first bytes; more would delay the first byte


Account = Callable[[int], None]
"""Is called with how many bytes came on a connection for one request, by the kernel's count."""


class PeerConnection:
    """One connection. Its user gives it back to the pool, or closes it.

    ``account``: is told what came for the present request: the head, and all of the body that crossed the
    network, whether it was read or not. ``connect_s``: how long it took to connect, with TLS, for the present
    request; 0 if there was a connection already.
    """

    def __init__(self, own: socket.socket, *, peer: Peer, dialer: Dialer) -> None:
        self.socket = own
        self.used = False
        self.connect_s = 0.0
        self.account: Account | None = None
        self._accounted_bytes = received_bytes(own)  # of the TLS handshake: no request's
        self._peer = peer
        self._dialer = dialer

    async def request(self, method: str, target: str, headers: Mapping[str, str]) -> ResponseHead:
        """Send a request without a body and return the response's head.

        Raises ConnectionError, `Malformed` and `NotAccepted`. Has no deadline. Close the connection after
        cancelling.
        """
        own_headers = self._dialer.credentials.headers(self._peer, method, target, headers)
        request = request_head(method, target, {"Host": self._peer.authority, **own_headers})
        self.used, was_used = True, self.used
        try:
            try:
                await send_all(self.socket, request)
            except TlsRefused:
                raise
            except ConnectionError as error:
                raise _NothingCame from error
            head = await self._response(HeadReader(method))
        except _NothingCame as error:
            if was_used:
                raise _Stale from error
            raise ConnectionResetError("closed before an answer") from error
        if head.status in (401, 403):
            self._dialer.judge(self._peer, head.status, head.headers)
        else:
            self._dialer.acceptance.accepted(self._peer.name)
        return head

    async def read(self, most_bytes: int = _READ_BYTES) -> bytes:
        """The next bytes of a body; empty when the peer closed. Raises ConnectionError."""
        return await receive(self.socket, most_bytes)

    @property
    def is_plain(self) -> bool:
        """Whether the bytes of a body are those that cross the network, so that the kernel can move them."""
        return not isinstance(self.socket, TlsSocket)

    def settle(self) -> None:
        """The present request ended: account for what came."""
        account, self.account = self.account, None
        if account is None:
            return
        total_bytes = received_bytes(self.socket)
        account(max(0, total_bytes - self._accounted_bytes))
        self._accounted_bytes = total_bytes

    def close(self) -> None:
        """Close the connection. Closing twice does nothing."""
        self.settle()
        self.socket.close()

    async def _response(self, reader: HeadReader) -> ResponseHead:
        nothing_yet = True
        while True:
            try:
                received = await self.read()
            except TlsRefused:
                raise
            except ConnectionError as error:
                if nothing_yet:
                    raise _NothingCame from error
                raise
            if not received:
                raise _NothingCame if nothing_yet else ConnectionResetError("closed within a head")
            nothing_yet = False
            head = reader.feed(received)
            if head is not None:
                return head
            await asyncio.sleep(0)  # a peer that sends without end must not block other tasks


class ConnectionPool:
    """Connections to all peers, by address and port.

    ``idle_s``: how long a connection without a request is kept.
    """

    def __init__(self, dialer: Dialer, *, idle_s: float = _IDLE_S) -> None:
        self._dialer = dialer
        self._idle_s = idle_s
        self._idle: dict[tuple[str, int], list[tuple[PeerConnection, asyncio.TimerHandle]]] = {}

    async def request(
        self,
        peer: Peer,
        method: str,
        target: str,
        headers: Mapping[str, str],
        account: Account | None = None,
    ) -> tuple[PeerConnection, ResponseHead]:
        """Send a request to a peer. Returns the connection and the response's head.

        ``account``: is told what came for this request, when the connection is given back or closed.
        ``headers``: of this request only; `Credentials.headers` adds the common ones. Raises `Malformed`,
        OSError, and what `Dialer.connect` raises.
        """
        while True:
            connection = self._idle_connection(peer) or await self._connect(peer)
            connection.account = account
            try:
                return connection, await connection.request(method, target, headers)
            except _Stale:  # the peer closed an idle connection: that is no failure
                connection.close()
            except TlsRefused as error:  # a peer reads this node's certificate after this node's handshake
                connection.close()
                raise self._dialer.tls_failure(peer, error.failure) from error
            except BaseException:
                connection.close()
                raise

    async def _connect(self, peer: Peer) -> PeerConnection:
        began_s = time.monotonic()
        connection = PeerConnection(await self._dialer.connect(peer), peer=peer, dialer=self._dialer)
        connection.connect_s = time.monotonic() - began_s
        return connection

    def give_back(self, peer: Peer, connection: PeerConnection) -> None:
        """Keep the connection for the next request. Its response was read to the end."""
        connection.settle()
        connection.connect_s = 0.0
        idle = self._idle.setdefault((peer.address, peer.port), [])
        if len(idle) >= _IDLE_MAX:
            connection.close()
            return
        timer = asyncio.get_running_loop().call_later(self._idle_s, self._expire, peer, connection)
        idle.append((connection, timer))

    def close(self) -> None:
        """Close the idle connections."""
        for idle in self._idle.values():
            for connection, timer in idle:
                timer.cancel()
                connection.close()
        self._idle.clear()

    def _idle_connection(self, peer: Peer) -> PeerConnection | None:
        idle = self._idle.get((peer.address, peer.port))
        while idle:
            connection, timer = idle.pop()
            timer.cancel()
            if is_quiet(connection.socket):
                return connection
            connection.close()  # the peer closed it, or sent bytes without a request
        return None

    def _expire(self, peer: Peer, connection: PeerConnection) -> None:
        idle = self._idle.get((peer.address, peer.port), [])
        idle[:] = [(kept, timer) for kept, timer in idle if kept is not connection]
        if not idle:
            self._idle.pop((peer.address, peer.port), None)
        connection.close()


class _NothingCame(Exception):
    """The peer closed before the first byte of an answer."""


class _Stale(Exception):
    """The peer had closed a connection that was idle."""
