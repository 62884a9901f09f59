"""HTTP serving on aiohttp's low-level server: no router, no middleware, one handler per listener.

It adds what that server lacks: OCI errors for what the HTTP parser rejects, a `Caller` for each connection,
a time limit for the head of a request, and an end without a lost request. The limit is aiohttp's keep-alive
timer, which also runs before the first request.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import ERROR, RequestHandler
from yarl import URL

from agent.config import HttpSettings
from agent.listen.accepting import Accepting
from agent.listen.bounded import BoundedConnection, ClientBounds
from agent.listen.caller import Caller, Maker
from agent.listen.headcheck import head_problem
from agent.listen.sockets import BACKLOG, accepted_now, waiting_connections
from agent.listen.tlsgate import TlsGate
from agent.observe.refusals import Reason
from agent.observe.requests import RequestPath
from agent.oci.errors import Internal, OciError, RequestInvalid
from agent.peering.tlssocket import peer_certificate
from agent.peering.websocket import Consumption
from agent.probe.sockets import socket_cookie

_log = logging.getLogger(__name__)

_FRESH_S = 1.0  # a client sends its request right after it has connected
_LOOK_S = 0.05
_HTTPS = "HTTPS traffic"  # aiohttp's word for a TLS handshake where a request should be
_BODY_BYTES = 16 * 1024  # nobody reads the body of a request
_HALF_CLOSED_S = 0.2  # aiohttp may still finish the response after its handler returned

_ROOT = URL("/")

STOPPING = "stopping"
"""The message of a handler's cancellation when the agent ends the request, and not the client."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HeadTooLarge(RequestInvalid):
    """The head of the request is too large (RFC 6585, section 5)."""

    status = 431


class ConnectionWatcher(Protocol):
    """Is told of the connections of the pull API, by their cookies (SO_COOKIE)."""

    def accepted(self, cookie: int) -> None:
        """A client connected."""

    def closed(self, cookie: int) -> None:
        """The connection ended."""


class ClientAsker(Protocol):
    """Knows who is at the other end of a local connection."""

    @property
    def asks(self) -> bool:
        """Whether it is to be asked at all."""

    def maker(self, client: tuple[str, int], listener: tuple[str, int]) -> Maker | Reason:
        """Who made the socket of a client that just connected."""


class HttpListener:
    """One listening socket and the handler behind it.

    ``path``: which listener of the pull API it is; None for the admin port, whose requests have no `Caller`.
    ``clients``: is asked who made a client's socket, once per connection. ``respond``: makes the response for
    what never reaches the handler; the default is the OCI spec's error. ``gate``: opens its connections with
    TLS; None: they have none. ``heard_tls``: is called with the address of a client that speaks TLS to a
    listener without it. ``bounds``: those on each client, for listeners that other machines reach.
    ``connections_max``: for the others: a further connection takes the place of the oldest one that is not in
    use.
    """

    def __init__(
        self,
        listener: socket.socket,
        handler: Handler,
        settings: HttpSettings,
        *,
        path: RequestPath | None = None,
        watcher: ConnectionWatcher | None = None,
        clients: ClientAsker | None = None,
        respond: Callable[[OciError], web.Response] | None = None,
        gate: TlsGate | None = None,
        heard_tls: Callable[[str], None] = lambda _address: None,
        bounds: ClientBounds | None = None,
        connections_max: int = 1024,
    ) -> None:
        self.socket = listener
        self._gate = gate
        # A client that closes cancels its handler, so that nothing is fetched for a client that left.
        self._web = _Server(
            self._handle,
            request_factory=self._request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=settings.idle_s,
            max_line_size=settings.head_max_bytes,
            max_field_size=settings.head_max_bytes,
            lingering_time=1.0 if bounds is None else 0.0,  # a body in single bytes costs the loop seconds
            auto_decompress=False,  # bodies are thrown away, and a bomb stays small
            read_bufsize=_BODY_BYTES,
        )
        self._web.heard_tls = heard_tls
        self._web.path, self._web.watcher = path, watcher
        if clients is not None and clients.asks:
            self._web.clients, self._web.place = clients, self.place
        self._web.respond = respond or error_response
        self._web.bounds, self._web.connections_max = bounds, connections_max
        self._handler = handler
        self._running: set[asyncio.Task[object]] = set()
        self._server: asyncio.Server | Accepting | None = None
        self._ending = False

    async def start(self) -> None:
        """Accept connections from now on, also after `pause`."""
        loop = asyncio.get_running_loop()
        self._ending = False
        accepting = self.socket.dup()  # what asyncio closes at `pause` is not the last hold on the socket
        if accepting.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(self._web, sock=accepting, backlog=BACKLOG)
            return
        self._server = Accepting(
            accepting,
            self._web,
            name="admin" if self._web.path is None else self._web.path.value,
            bounds=self._web.bounds,
            open_now=lambda: self.connections,
            gate=self._gate,
        )
        self._server.start()

    @property
    def place(self) -> tuple[str, int]:
        """Where it listens. Not for a Unix socket."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def pause(self) -> None:
        """Accept no more connections. What waits to be accepted keeps waiting. Open connections go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def end_connections(self, *, idle: bool) -> None:
        """End each connection with its next response, which says so. ``idle``: also those that have none.

        A client that has just connected, or just had a response, may be about to ask: it has a second.
        """
        self._ending = True
        if idle:
            for connection in self._web.connections:
                if isinstance(connection, _Protocol):
                    self._end_idle(connection)

    def _end_idle(self, connection: "_Protocol") -> None:
        if connection.busy:
            return  # its response ends it
        left_s = connection.used_s + _FRESH_S - time.monotonic()
        if left_s <= 0:
            connection.force_close()
        else:
            asyncio.get_running_loop().call_later(left_s, self._end_idle, connection)

    async def stop_accepting(self) -> None:
        """Take what waits to be accepted, and close the listening socket. Idle connections end.

        If another process holds the socket too, what waits is left to it: call `release`.
        """
        self.pause()
        waiting = accepted_now(self.socket)
        self.socket.close()
        for connection in waiting:
            if self._gate is not None:
                self._gate.begin(connection, self._web)
                continue
            with suppress(OSError):  # it has left again
                await asyncio.get_running_loop().connect_accepted_socket(self._web, connection)
        self.end_connections(idle=True)

    def release(self) -> None:
        """Let go of the listening socket, which another process serves. Idle connections end."""
        self.pause()
        self.socket.close()
        self.end_connections(idle=True)

    @property
    def connections(self) -> int:
        """How many connections are open now, standing ones of other agents included."""
        return len(self._web.connections)

    @property
    def accepts(self) -> bool:
        """Whether it accepts connections now."""
        return self._server is not None

    @property
    def accepted(self) -> int:
        """How many connections it accepted so far."""
        return self._web.accepted

    def waiting(self) -> int:
        """How many connections wait to be accepted. Raises OSError if the socket does not listen."""
        return waiting_connections(self.socket)

    async def drain(self, at_most_s: float) -> None:
        """Wait for running responses, at most ``at_most_s``. Then end those that are left."""
        await self.finish(at_most_s)
        for task in self._running:
            task.cancel(STOPPING)
        if self._gate is not None:
            await self._gate.close()
        # aiohttp waits for this time-out twice. It is short, because nothing is left to wait for.
        await self._web.shutdown(1.0)

    async def finish(self, at_most_s: float, is_between: Callable[[], bool] = lambda: False) -> None:
        """Wait until no response runs, at most ``at_most_s``. It may go on accepting meanwhile.

        ``is_between``: whether another response may follow soon.
        """
        until_s = time.monotonic() + at_most_s
        while (left_s := until_s - time.monotonic()) > 0:
            if self._running:
                await asyncio.wait(self._running, timeout=min(left_s, _LOOK_S))
            elif is_between() or self._awaited():
                await asyncio.sleep(min(left_s, _LOOK_S))
            else:
                return

    def _awaited(self) -> bool:
        """Whether a client may be about to ask, see `end_connections`."""
        now_s = time.monotonic()
        connections = (one for one in self._web.connections if isinstance(one, _Protocol))
        return any(not one.busy and now_s - one.used_s < _FRESH_S for one in connections)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        assert isinstance(protocol, _Protocol)
        protocol.refused = None if message is ERROR else _problem_of(message)  # ERROR: refused already
        if protocol.refused is not None:  # what follows is not to be taken for a request
            message = message._replace(should_close=True, version=HttpVersion11, url=message.url or _ROOT)
        elif self._ending:  # as if the client had said so: every response then says that it is the last one
            message = message._replace(should_close=True)
        return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Run the handler. Meanwhile `drain` waits for its task, and its connection counts as busy."""
        protocol, task = request.protocol, asyncio.current_task()
        assert isinstance(protocol, _Protocol)
        assert task is not None
        self._running.add(task)
        protocol.busy = True
        try:
            await protocol.pay()
            if protocol.refused is not None:
                return self._refuse(protocol.refused)
            return await self._handler(request)
        finally:
            protocol.busy = False
            protocol.answered += 1
            protocol.used_s = time.monotonic()
            self._running.discard(task)
            if protocol.half_closed and not protocol.owes_answers:  # flush what is written, then close
                asyncio.get_running_loop().call_later(_HALF_CLOSED_S, protocol.force_close)

    def _refuse(self, problem: str) -> web.StreamResponse:
        response = self._web.respond(
            RequestInvalid(f"this request is refused: {problem}", hint="send what RFC 9112 allows")
        )
        response.force_close()
        return response


def _problem_of(message: RawRequestMessage) -> str | None:
    if message.url is None:  # aiohttp's for "CONNECT " without a target; it can't make a request of it
        return "it has no target"
    version = (message.version.major, message.version.minor)
    return head_problem(message.method, message.path, version, message.headers)


def error_response(error: OciError) -> web.Response:
    """An OCI error as a response."""
    return web.Response(
        status=error.status,
        reason=error.reason,
        body=error.body(),
        headers={"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0"}
        | error.headers,
    )


def connection_caller(request: web.BaseRequest) -> Caller:
    """The caller as far as the connection tells. Only for listeners that have a path."""
    protocol = request.protocol
    assert isinstance(protocol, _Protocol)
    assert protocol.caller is not None, "a listener without a path"
    return protocol.caller


def is_first_call_for_connection(request: web.BaseRequest) -> bool:
    """Whether this is the first call for the request's connection."""
    protocol = request.protocol
    if not isinstance(protocol, _Protocol) or protocol.called_before:
        return False
    protocol.called_before = True
    return True


def end_with_peer(request: web.BaseRequest) -> None:
    """The connection became a WebSocket: end it when the peer closes its side, or if it has already."""
    protocol = request.protocol
    if isinstance(protocol, _Protocol):
        protocol.upgraded = True
        if protocol.half_closed and protocol.transport is not None:
            protocol.transport.close()


@contextmanager
def close_is_departure(request: web.BaseRequest) -> Iterator[None]:
    """If the client closes its side meanwhile, it has left: its handler is cancelled.

    For clients that never close one side only, and for waits that may be long. Otherwise a client that has
    left is noticed only when something is sent to it.
    """
    protocol = request.protocol
    if not isinstance(protocol, _Protocol):
        yield
        return
    protocol.close_is_departure = True
    if protocol.half_closed and protocol.transport is not None:
        protocol.transport.close()
    try:
        yield
    finally:
        protocol.close_is_departure = False


def guard_frames(request: web.BaseRequest, message_max_bytes: int) -> Consumption:
    """The connection is about to become an agent's WebSocket: let nothing else through than its messages."""
    protocol = request.protocol
    assert isinstance(protocol, _Protocol)
    protocol.guard_frames(message_max_bytes)
    return protocol


def prove(request: web.BaseRequest, name: str) -> bool:
    """The client was proven to be this node, or something at this address. False: it has too many
    connections.
    """
    return not isinstance(request.protocol, _Protocol) or request.protocol.prove(name)


class _Protocol(BoundedConnection):
    __slots__ = (
        "answered",
        "busy",
        "called_before",
        "caller",
        "clients",
        "close_is_departure",
        "crowd",
        "half_closed",
        "heard_tls",
        "is_tls",
        "path",
        "place",
        "refused",
        "respond",
        "upgraded",
        "used_s",
        "watcher",
    )

    path: RequestPath | None
    watcher: ConnectionWatcher | None
    clients: ClientAsker | None
    place: tuple[str, int]
    respond: Callable[[OciError], web.Response]
    refused: str | None  # why the request just read is refused
    heard_tls: Callable[[str], None]
    crowd: "_Server"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.busy = self.half_closed = self.called_before = self.upgraded = False
        self.close_is_departure = False
        self.is_tls = transport.get_extra_info("sslcontext") is not None
        self.answered = 0
        self.used_s = time.monotonic()  # when it connected, or when its last response ended
        self.caller = None if self.path is None else _caller(self.path, transport, self.clients, self.place)
        if self.watcher is not None and self.caller is not None:
            self.watcher.accepted(self.caller.cookie)
        self.crowd.make_room()
        super().connection_made(transport)
        if self._task_handler is not None:
            self._task_handler.add_done_callback(self._reading_ended)

    def _reading_ended(self, reading: asyncio.Task[None]) -> None:
        """aiohttp's own task for this connection ended. If by a bug, it would leave the connection open."""
        if not reading.cancelled() and (error := reading.exception()) is not None:
            _log.error("a connection ended by a bug", exc_info=error)
            if self.transport is not None:
                self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.watcher is not None and self.caller is not None:
            self.watcher.closed(self.caller.cookie)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.busy = True  # from the first byte of a request on, and not only while a handler runs
        super().data_received(data)

    def makes_room(self) -> bool:
        """End this connection for another one, unless it is in use or ends already. Whether it ends now."""
        if self.busy or self.transport is None:
            return False
        self.busy = True
        self.transport.abort()
        return True

    @property
    def owes_answers(self) -> bool:
        """Whether a request came whole, or something that is none, and is not answered yet."""
        return self._request_count > self.answered

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio.Protocol lets it say "stay open"
        """The client closed its side. It still gets the answers to its requests. Then the connection ends.

        Half a head will never be a request: then it ends now. TLS has no half of a connection.
        """
        self.half_closed = True
        stays = self.owes_answers and not self.close_is_departure
        return stays and not self.upgraded and not self.is_tls

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):
            raise exc  # the client left: this is no error, and there is no client to answer
        if isinstance(exc, LineTooLong):
            error: OciError = HeadTooLarge(
                "a line of the request's head is too long", hint="http.head_max_bytes is the limit"
            )
        elif status < 500 and _HTTPS in (message or ""):
            self.heard_tls(request.remote or "")
            error = RequestInvalid("this port speaks no TLS")
        elif status < 500:
            error = RequestInvalid(f"not an HTTP request: {(message or '').partition(chr(10))[0]}")
        else:
            _log.error("error outside of a handler", exc_info=exc)
            error = Internal("internal error")
        if request.writer.output_size > 0:
            raise ConnectionError("a response is on its way already")
        response = self.respond(error)
        response.force_close()
        return response


class _Server(web.Server):
    path: RequestPath | None = None
    watcher: ConnectionWatcher | None = None
    clients: ClientAsker | None = None
    place = ("", 0)
    respond: Callable[[OciError], web.Response]
    heard_tls: Callable[[str], None]
    bounds: ClientBounds | None = None
    connections_max = 0
    accepted = 0

    def make_room(self) -> None:
        """Before one more connection: if there are too many, end the oldest one that is not in use."""
        if self.bounds is not None or len(self.connections) < self.connections_max:
            return
        for connection in self.connections:
            if isinstance(connection, _Protocol) and connection.makes_room():
                return

    def __call__(self) -> _Protocol:
        self.accepted += 1
        protocol = _Protocol(self, loop=self._loop, **self._kwargs)
        protocol.bounds, protocol.crowd = self.bounds, self
        protocol.path, protocol.watcher, protocol.respond = self.path, self.watcher, self.respond
        protocol.clients, protocol.place, protocol.heard_tls = self.clients, self.place, self.heard_tls
        return protocol


def _caller(
    path: RequestPath, transport: asyncio.BaseTransport, clients: ClientAsker | None, place: tuple[str, int]
) -> Caller:
    peer = transport.get_extra_info("peername")
    return Caller(
        listener=path,
        address=peer[0] if peer else "",  # the connection has ended already
        certificate=peer_certificate(transport.get_extra_info("ssl_object")),
        cookie=_cookie(transport),
        connected_s=time.monotonic(),
        maker=clients.maker(peer[:2], place) if clients is not None and peer else None,
    )


def _cookie(transport: asyncio.BaseTransport) -> int:
    try:
        return socket_cookie(transport.get_extra_info("socket"))
    except OSError:
        return 0  # the connection has ended already
