"""HTTP/1.1 connections to peers, on sockets of our own, whose bodies the kernel can pass on by itself.

aiohttp's client reads ahead into its own buffers; here nothing is read of a body but what came along
with its head. Heads are h11's. A connection serves one request at a time and is kept for the next one
when the body was read to its end. Sources: RFC 9112; splice(2).
"""

import asyncio
import socket
from collections.abc import Callable, Mapping

import h11

from agent.members.member import Peer
from agent.transfer.answers import Head

_IDLE_S = 15.0  # shorter than a server's http.idle_s, so that no request meets a connection that is closing
_IDLE_MAX = 8  # kept for each peer
_HEAD_MAX_BYTES = 32 * 1024
_READ_BYTES = 64 * 1024
_INFORMATIONAL_MAX = 16  # heads before the one that counts; agents send none


class Unreachable(Exception):
    """No connection: refused, no route, or no answer in time."""


class Exhausted(Exception):
    """This process has no descriptor left."""


class Malformed(Exception):
    """The answer is not HTTP, or its head is too large."""


class PeerConnection:
    """One connection. Whoever takes it from the pool gives it back or closes it."""

    def __init__(self, own: socket.socket, *, host: str) -> None:
        self.socket = own
        self.used = False
        self._host = host

    async def ask(self, method: str, target: str, headers: Mapping[str, str]) -> Head:
        """Send a request without a body; its answer's head. Raises ConnectionError and `Malformed`.

        Has no deadline. After cancelling the connection is of no more use.
        """
        loop = asyncio.get_running_loop()
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_MAX_BYTES)
        fields = [("Host", self._host), *headers.items()]
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
        return Head(
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
        """Closing twice does nothing."""
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
                await asyncio.sleep(0)  # a peer that never stops talking must not have the loop for itself
            elif isinstance(event, h11.InformationalResponse) and informational < _INFORMATIONAL_MAX:
                informational += 1
            else:
                raise Malformed(
                    "no response" if informational < _INFORMATIONAL_MAX else "no end of 1xx heads"
                )


class ConnectionPool:
    """Connections to all peers, by the address they are reached at.

    ``connected`` is told of each new one, with its socket.
    """

    def __init__(self, *, connect_s: float, connected: Callable[[Peer, socket.socket], None]) -> None:
        self._connect_s = connect_s
        self._connected = connected
        self._idle: dict[tuple[str, int], list[tuple[PeerConnection, asyncio.TimerHandle]]] = {}

    async def ask(
        self, peer: Peer, method: str, target: str, headers: Mapping[str, str]
    ) -> tuple[PeerConnection, Head]:
        """A connection with the peer's answer. Raises `Unreachable`, `Exhausted`, `Malformed`, OSError."""
        while True:
            connection = self._take(peer) or await self._open(peer)
            try:
                return connection, await connection.ask(method, target, headers)
            except _Stale:  # it was closed while idle: that says nothing about the peer
                connection.close()
            except BaseException:
                connection.close()
                raise

    def give_back(self, peer: Peer, connection: PeerConnection) -> None:
        """The answer was read to its end: keep the connection for the next request."""
        idle = self._idle.setdefault((peer.address, peer.port), [])
        if len(idle) >= _IDLE_MAX:
            connection.close()
            return
        timer = asyncio.get_running_loop().call_later(_IDLE_S, self._expire, peer, connection)
        idle.append((connection, timer))

    def close(self) -> None:
        """Close what is idle."""
        for idle in self._idle.values():
            for connection, timer in idle:
                timer.cancel()
                connection.close()
        self._idle.clear()

    def _take(self, peer: Peer) -> PeerConnection | None:
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
            connection.close()  # its end had come, or bytes that nobody asked for
        return None

    async def _open(self, peer: Peer) -> PeerConnection:
        family = socket.AF_INET6 if ":" in peer.address else socket.AF_INET
        try:
            own = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise Exhausted(str(error)) from error
        try:
            own.setblocking(False)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(self._connect_s):
                await asyncio.get_running_loop().sock_connect(own, (peer.address, peer.port))
        except (OSError, TimeoutError) as error:
            own.close()
            raise Unreachable(str(error) or f"no answer within {self._connect_s} s") from error
        except BaseException:
            own.close()
            raise
        self._connected(peer, own)
        return PeerConnection(own, host=peer.authority)

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
