"""HTTP/1.1 connections to peers on plain sockets, so that the kernel can splice a body to the client.

aiohttp's client reads ahead into its own buffers. Here only the head is read, and the part of the body that
came with it. h11 writes and parses the heads. A connection serves one request at a time. It is kept for the
next request if the body was read to its end. Sources: RFC 9112; splice(2).
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import h11

from agent.members.member import Peer
from agent.peering.credentials import Credentials
from agent.peering.dial import Dialer

_IDLE_S = 15.0  # shorter than a server's http.idle_s, so that no request goes to a connection that closes
_IDLE_MAX = 8  # idle connections kept for each peer
_HEAD_MAX_BYTES = 32 * 1024
_READ_BYTES = 64 * 1024
_INFORMATIONAL_MAX = 16  # 1xx heads before the final one; agents send none


class Malformed(Exception):
    """The answer is not HTTP, or its head is too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """A response's status and headers (names in lower case), and the part of the body that came with them.

    ``first``: that part. ``ended``: it is the whole body. ``keep_alive``: the connection can serve another
    request.
    """

    status: int
    headers: Mapping[str, str]
    first: bytes
    keep_alive: bool
    ended: bool


class PeerConnection:
    """One connection. Its user gives it back to the pool, or closes it."""

    def __init__(self, own: socket.socket, *, peer: Peer, credentials: Credentials) -> None:
        self.socket = own
        self.used = False
        self._peer = peer
        self._credentials = credentials

    async def request(self, method: str, target: str, headers: Mapping[str, str]) -> ResponseHead:
        """Send a request without a body and return the response's head.

        Raises ConnectionError and `Malformed`. Has no deadline. Close the connection after cancelling.
        """
        loop = asyncio.get_running_loop()
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_MAX_BYTES)
        own_headers = self._credentials.headers(self._peer, method, target, headers)
        fields = [("Host", self._peer.authority), *own_headers.items()]
        request = parser.send(h11.Request(method=method, target=target, headers=fields)) or b""
        self.used, was_used = True, self.used
        try:
            try:
                await loop.sock_sendall(self.socket, request + (parser.send(h11.EndOfMessage()) or b""))
            except ConnectionError as error:
                raise _NothingCame from error
            response = await self._response(parser)
            first, ended = bytearray(), False
            while isinstance(event := parser.next_event(), h11.Data | h11.EndOfMessage):
                if isinstance(event, h11.EndOfMessage):
                    ended = True
                    break
                first += event.data
        except _NothingCame as error:
            if was_used:
                raise _Stale from error
            raise ConnectionResetError("closed before an answer") from error
        except h11.RemoteProtocolError as error:
            raise Malformed(str(error)) from error
        surplus = ended and parser.trailing_data[0]
        return ResponseHead(
            status=response.status_code,
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers},
            first=bytes(first),
            ended=ended,
            keep_alive=parser.our_state is h11.DONE and not surplus,
        )

    async def read(self, most_bytes: int = _READ_BYTES) -> bytes:
        """The next bytes of a body; empty when the peer closed. Raises ConnectionError."""
        return await asyncio.get_running_loop().sock_recv(self.socket, most_bytes)

    def close(self) -> None:
        """Close the connection. Closing twice does nothing."""
        self.socket.close()

    async def _response(self, parser: h11.Connection) -> h11.Response:
        nothing_yet = True
        informational = 0
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Response):
                return event
            if event is h11.NEED_DATA:
                try:
                    received = await self.read()
                except ConnectionError as error:
                    if nothing_yet:
                        raise _NothingCame from error
                    raise
                if not received:
                    raise _NothingCame if nothing_yet else ConnectionResetError("closed within a head")
                nothing_yet = False
                parser.receive_data(received)
                await asyncio.sleep(0)  # a peer that sends without end must not block other tasks
            elif isinstance(event, h11.InformationalResponse) and informational < _INFORMATIONAL_MAX:
                informational += 1
            else:
                raise Malformed(
                    "no response" if informational < _INFORMATIONAL_MAX else "no end of 1xx heads"
                )


class ConnectionPool:
    """Connections to all peers, by address and port.

    ``idle_s``: how long a connection without a request is kept.
    """

    def __init__(self, dialer: Dialer, *, idle_s: float = _IDLE_S) -> None:
        self._dialer = dialer
        self._idle_s = idle_s
        self._idle: dict[tuple[str, int], list[tuple[PeerConnection, asyncio.TimerHandle]]] = {}

    async def request(
        self, peer: Peer, method: str, target: str, headers: Mapping[str, str]
    ) -> tuple[PeerConnection, ResponseHead]:
        """Send a request to a peer. Returns the connection and the response's head.

        ``headers``: of this request only; `Credentials.headers` adds the common ones. Raises `Malformed`,
        OSError, and what `Dialer.connect` raises.
        """
        while True:
            connection = self._idle_connection(peer) or PeerConnection(
                await self._dialer.connect(peer), peer=peer, credentials=self._dialer.credentials
            )
            try:
                return connection, await connection.request(method, target, headers)
            except _Stale:  # the peer closed an idle connection: that is no failure
                connection.close()
            except BaseException:
                connection.close()
                raise

    def give_back(self, peer: Peer, connection: PeerConnection) -> None:
        """Keep the connection for the next request. Its response was read to the end."""
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
            try:
                connection.socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return connection
            except OSError:
                pass
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
