"""The only place in the agent that opens connections to other agents.

Questions, latency reports and bodies all start here. `agent.peering.credentials` gives the headers, and
`agent.peering.tls` the certificate, if there is one. Bodies are read from the socket itself. With TLS they
have to be copied instead of spliced, which `agent.transfer.relays` decides.
"""

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from agent.heartbeat import Heartbeat, start_heartbeat
from agent.members.introduction import PEER_LISTENER, Answer, Introduction
from agent.members.member import Peer
from agent.observe.refusals import Reason
from agent.peering.credentials import Credentials, Introduced
from agent.peering.refused import read_refusal
from agent.peering.tls import PeerTls
from agent.peering.tlsfailure import ASKS_FOR_TLS, TlsFailure, failure_of, tls_error
from agent.peering.tlssocket import opened, peer_certificate, refusing
from agent.peering.websocket import AnsweredWebSocket, PeerSocket
from agent.pull.acceptance import Acceptance
from agent.pull.acceptance import Refused as NodeRefused
from agent.pull.lateness import held_up, in_words
from agent.pull.ways import Ways
from topology.labels import clean_value

Connected = Callable[[Peer, Any], None]
"""Is called with each new connection to a peer and its TCP socket. Its handshake measured a round trip."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_BY_THE_NETWORK = {errno.ENETUNREACH, errno.EACCES}  # without these words they sound like this node's trouble
_SOFTWARE_MOST = 40  # characters of what a server calls itself
_HANDSHAKE_S = 5.0  # TLS: two processors that are not idle, and a round trip or two
_IP_BIND_ADDRESS_NO_PORT = 24  # include/uapi/linux/in.h; the socket module does not name it


class Unreachable(Exception):
    """There is no connection: it was refused, had no route or no answer in time, or was no WebSocket."""


TLS_ONLY = 426  # Upgrade Required (RFC 9110): what a listener with TLS says to HTTP without it


class Refused(Unreachable):
    """Something answered a request for a WebSocket with this HTTP status. So it is alive."""

    def __init__(self, status: int, by: str = "") -> None:
        super().__init__(f"status {status}{by}")
        self.status = status


class Unproven(Refused):
    """What answered opened the WebSocket, and did not prove that it belongs to the cluster. It may lie."""

    def __init__(self) -> None:
        super().__init__(101, ", but no proof that it knows the cluster's key")


class OwnFault(Exception):
    """This node can't connect now, to this peer or to any other. The peer has no part in it."""


class Exhausted(OwnFault):
    """This process or machine has no descriptor or memory left for a socket."""


class NotAccepted(OwnFault):
    """The peer refuses this node's proof, and as far as is known that is not the peer's fault.

    ``ahead_s``: how far the peer's clock is ahead of this node's, if it said so. ``who``: who it says it is.
    """

    def __init__(self, message: str, ahead_s: float | None = None, who: Introduction | None = None) -> None:
        super().__init__(message)
        self.ahead_s = ahead_s
        self.who = who


class CutOff(OwnFault):
    """This node has no network, no route or no address, a local rule forbids it, or it was suspended."""


class NoTls(Unreachable):
    """TLS ended the connection: the peer has none, or its certificate is wrong."""


class NotCertified(OwnFault):
    """Peers do not take this node's certificate, or its clock is wrong. The peer has no part in it."""


def _translated(
    error: Exception, otherwise: str, late_s: float, peer: Peer, ways: Ways, has_route: Callable[[], bool]
) -> Unreachable | OwnFault:
    """See `Dialer.failure`. ``has_route``: asks this node's routing table."""
    if isinstance(error, aiohttp.WSServerHandshakeError) and error.status >= 200:
        return Refused(error.status)
    caught = _os_error(error)
    number = None if caught is None else caught.errno
    words = otherwise if number is None or number <= 0 else os.strerror(number).lower()
    if number in _EXHAUSTED:
        return Exhausted(words)
    if ways.has_none(number, has_route):
        own = ways.is_own(peer.name, number)
        return CutOff(words) if own else Unreachable(f"no way from here to this peer alone: {words}")
    if number in _BY_THE_NETWORK:
        return Unreachable(f"the network answered: {words}")
    if isinstance(error, TimeoutError) and held_up(late_s):
        return CutOff(in_words(late_s))
    if isinstance(error, aiohttp.ClientResponseError):
        return Unreachable("it answered, but not as an agent does")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Unreachable("it closed the connection without an answer")
    return Unreachable(words)


def _by(answer: Answer) -> str:
    """Who refused, if it is not a peer listener, for the words that are kept of the failure."""
    if answer.who is None:
        return ", and not by an agent"
    is_peer_listener = answer.who.listener == PEER_LISTENER
    return "" if is_peer_listener else f" by its listen.{answer.who.listener}, which is not for peers"


def _os_error(error: BaseException | None) -> OSError | None:
    """The system's error behind an error. None: there is none."""
    while error is not None:
        if isinstance(error, aiohttp.ClientConnectorError):
            error = error.os_error
        if isinstance(error, OSError) and error.errno:
            return error
        error = error.__cause__
    return None


class Dialer:
    """Opens connections to peers. Use as an async context manager, or `close` it.

    Close the connections that it opened before that. ``credentials``: those of this agent. ``connect_s``: the
    longest time for a TCP connection. ``connected``: see `Connected`. ``introduced``: see `Introduced`.
    ``local_address``: the address to connect from; None: any. ``ways``, ``acceptance``: shared by the dialers
    of one node.
    ``tls``: this node's certificate; None: connections are not encrypted.
    """

    def __init__(
        self,
        *,
        credentials: Credentials,
        connect_s: float,
        connected: Connected = lambda _peer, _socket: None,
        introduced: Introduced = lambda _peer, _answer: None,
        local_address: str | None = None,
        heartbeat: Heartbeat | None = None,
        ways: Ways | None = None,
        tls: PeerTls | None = None,
        acceptance: Acceptance | None = None,
    ) -> None:
        self.credentials = credentials
        self._connect_s = connect_s
        self._connected = connected
        self._introduced = introduced
        self._local_address = local_address
        self._heartbeat = heartbeat or Heartbeat()
        self._ways = ways or Ways()
        self._tls = tls
        self.acceptance = acceptance or Acceptance()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self, peer: Peer) -> socket.socket:
        """Open a connection for HTTP requests. Returns a non-blocking socket, which the caller closes.

        With TLS it is a `agent.peering.tlssocket.TlsSocket`, and the peer has shown its certificate.

        Raises `Unreachable` and `OwnFault`. Cancelling leaves nothing open.
        """
        try:
            own = self._new_socket(_family(peer))
        except OSError as error:
            raise self.failure(peer, error, "no socket") from error
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(self._connect_s):
                await asyncio.get_running_loop().sock_connect(own, (peer.address, peer.port))
        except (OSError, TimeoutError) as error:
            own.close()
            late_s = time.monotonic() - started_s - self._connect_s
            raise self.failure(peer, error, f"no answer within {self._connect_s:g} s", late_s) from error
        except BaseException:
            own.close()
            raise
        self._ways.reached(peer.name)
        self._connected(peer, own)
        return own if self._tls is None else await self._secured(self._tls, peer, own)

    async def _secured(self, tls: PeerTls, peer: Peer, own: socket.socket) -> socket.socket:
        """TLS over a new connection. Raises as `connect` does."""
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(_HANDSHAKE_S):
                secured = await opened(tls.client, own)
        except (OSError, TimeoutError) as error:
            late_s = time.monotonic() - started_s - _HANDSHAKE_S
            if isinstance(error, TimeoutError) and held_up(late_s):
                raise CutOff(in_words(late_s)) from error
            raise self.tls_failure(peer, failure_of(error)) from error
        wrong = tls.misnamed(peer_certificate(secured), peer)
        if wrong is not None:
            secured.close()
            raise self.tls_failure(peer, wrong)
        return secured

    def tls_failure(self, peer: Peer, failure: TlsFailure) -> Unreachable | OwnFault:
        """What it means that TLS ended a connection to this peer. Counts it."""
        assert self._tls is not None, "nothing of TLS without it"
        own = self._tls.is_own_trouble(peer.name, failure)
        return NotCertified(f"{peer.name}: {failure.words}") if own else NoTls(failure.words)

    async def open_websocket(
        self, peer: Peer, path: str, *, timeout_s: float, message_max_bytes: int, answers_pings: bool = True
    ) -> PeerSocket:
        """Open a WebSocket with a heartbeat to an agent of this cluster.

        Raises `Unreachable` and `OwnFault`.

        ``timeout_s``: for the connection and the opening handshake together.
        """
        started_s, headers = time.monotonic(), self.credentials.headers(peer, "GET", path)
        lately = self.acceptance.refused_lately(peer.name, started_s)
        if lately is not None:
            raise NotAccepted(f"{peer.name} {lately.words}")
        refusals: list[ssl.SSLError] = []
        refusing.set(refusals.append)
        try:
            async with asyncio.timeout(timeout_s):
                websocket = await self._opened_session().ws_connect(
                    URL(f"{self._scheme}://{peer.authority}{path}", encoded=True),
                    ssl=True if self._tls is None else self._tls.client,
                    headers=headers,
                    compress=0,
                    max_msg_size=message_max_bytes,
                    autoping=False,
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            late_s = time.monotonic() - started_s - timeout_s
            refused = refusals[0] if refusals else tls_error(error)
            if self._tls is not None and refused is not None:
                raise self.tls_failure(peer, failure_of(refused)) from error
            failure = self.failure(peer, error, f"no answer within {timeout_s:g} s", late_s)
            if isinstance(failure, Refused) and failure.status == TLS_ONLY:
                raise Refused(failure.status, by=f": {ASKS_FOR_TLS}") from error
            if not isinstance(failure, OwnFault):
                answer = self._answer(error)
                self._introduced(peer, answer)
                if isinstance(error, aiohttp.WSServerHandshakeError):
                    self.judge(peer, error.status, error.headers or {})
                if isinstance(failure, Refused) and answer is not None:
                    failure = Refused(failure.status, by=_by(answer))
            raise failure from error
        self._ways.reached(peer.name)
        peer_socket = PeerSocket(websocket, answers_pings=answers_pings)
        await self._check_certificate(peer, peer_socket)
        await self._check_proof(peer, headers, peer_socket)
        start_heartbeat(peer_socket.kernel_socket, self._heartbeat)
        self._connected(peer, peer_socket.kernel_socket)
        who = self.credentials.introduced(peer_socket.headers)
        self._introduced(peer, None if who is None else Answer(who=who, how="as an agent"))
        return peer_socket

    async def _check_certificate(self, peer: Peer, peer_socket: PeerSocket) -> None:
        """Close the WebSocket if what answered has another node's certificate. Raises as `connect` does."""
        if self._tls is None:
            return
        wrong = self._tls.misnamed(peer_certificate(peer_socket.tls), peer)
        if wrong is not None:
            await peer_socket.close()
            raise self.tls_failure(peer, wrong)
        self._tls.accepted()

    async def _check_proof(self, peer: Peer, sent: Mapping[str, str], peer_socket: PeerSocket) -> None:
        """Close the WebSocket if what answered does not prove that it is of this cluster. Raises `Unproven`.

        ``sent``: the headers that were sent.
        """
        if not self.credentials.is_proved(sent, peer_socket.headers):
            await peer_socket.close()
            self._introduced(peer, Answer(who=None, how="without the cluster's key"))
            raise Unproven
        self.acceptance.accepted(peer.name)

    @property
    def _scheme(self) -> str:
        return "http" if self._tls is None else "https"

    def judge(self, peer: Peer, status: int, headers: Mapping[str, str]) -> None:
        """Look at a peer's answer to a signed request.

        Raises `NotAccepted` if it refuses this node's proof and that is not its fault.
        """
        told = read_refusal(status, headers, self.credentials.wall())
        if told is None:
            return
        now_s = time.monotonic()
        refusal = NodeRefused(
            words=told.words if self.credentials.ring() else "takes this node for a stranger: it has no key",
            hint=told.hint,
            at_s=now_s,
            since_s=now_s,
            unlisted=told.reason is Reason.NOT_A_MEMBER,
        )
        if self.acceptance.refused(peer.name, refusal):
            who = self.credentials.introduced(CIMultiDict(headers))
            raise NotAccepted(f"{peer.name} {refusal.words}", told.ahead_s, who)

    def _answer(self, error: Exception) -> Answer | None:
        """What answered, if a WebSocket could not be opened because of that."""
        if not isinstance(error, aiohttp.ClientResponseError):
            return None
        if not isinstance(error, aiohttp.WSServerHandshakeError):  # its bytes could not be parsed
            return Answer(who=None, how="not in HTTP")
        headers: Mapping[str, str] = error.headers or {}
        who = self.credentials.introduced(headers)
        if who is None and read_refusal(error.status, headers, 0.0) is not None:
            return None  # it may be an agent of this cluster, and one of the two has a wrong key
        software = clean_value(headers.get("Server", ""))[:_SOFTWARE_MOST]
        how = f"HTTP {error.status}{f' by {software}' if software else ''}"
        return Answer(who=who, how=how)

    async def close(self) -> None:
        """End the WebSockets that are still open. Closing twice does nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def failure(
        self, peer: Peer, error: Exception, otherwise: str, late_s: float = 0.0
    ) -> Unreachable | OwnFault:
        """What it means that a connection to this peer failed with this error, in one plain sentence.

        ``otherwise``: what to say if the error has no plain words. ``late_s``: by how much a time-out came
        too late.
        """
        return _translated(error, otherwise, late_s, peer, self._ways, lambda: self._has_route(peer))

    def _has_route(self, peer: Peer) -> bool:
        """Whether this node's routing table has a way to the peer. Sends nothing."""
        try:
            with socket.socket(_family(peer), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
                if self._local_address is not None:
                    asking.bind((self._local_address, 0))
                asking.connect((peer.address, peer.port))
        except OSError:
            return False
        return True

    def _opened_session(self) -> aiohttp.ClientSession:
        """The session. It is made at the first use, because it needs a running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    force_close=True,  # if a peer refuses the WebSocket, do not keep the connection
                    socket_factory=lambda address: self._new_socket(address[0]),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[_without_redirects()],
                ws_response_class=AnsweredWebSocket,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s),
            )
        return self._session

    def _new_socket(self, family: int) -> socket.socket:
        """A socket for a peer. No other function makes one. Raises OSError."""
        own = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            own.setblocking(False)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._local_address is not None:
                # The kernel chooses the port at connect: one port can then serve many peers at once.
                own.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                own.bind((self._local_address, 0))
        except BaseException:
            own.close()
            raise
        return own


def _without_redirects() -> aiohttp.TraceConfig:
    """A redirect is a refusal. aiohttp would follow it, to whatever address the other end names."""

    async def refuse(_session: Any, _context: Any, told: aiohttp.TraceRequestRedirectParams) -> None:
        answered = told.response
        answered.close()
        raise aiohttp.WSServerHandshakeError(
            answered.request_info, (), status=answered.status, headers=answered.headers
        )

    watching = aiohttp.TraceConfig()
    watching.on_request_redirect.append(refuse)
    return watching


def _family(peer: Peer) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in peer.address else socket.AF_INET
