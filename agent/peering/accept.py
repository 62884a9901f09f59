"""The only place in the agent that accepts WebSockets from other agents.

An `Acceptor` checks the request, bounds the number of connections, keeps a heartbeat on each, and ends all of
them at stop. Its caller handles the messages. Who may connect was decided
before: see `agent.peering.credentials`.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import WSCloseCode, web

from agent.heartbeat import Heartbeat, start_heartbeat
from agent.oci.errors import RequestInvalid, Unavailable
from agent.peering.websocket import Consumption, PeerSocket, Unbounded

PeerRequest = web.BaseRequest
PeerResponse = web.StreamResponse

_GOODBYE_S = 1.0

Upgraded = Callable[[PeerRequest], None]
"""Is called with each request that became a WebSocket. The connection has to end when the peer closes it."""

Guarded = Callable[[PeerRequest, int], Consumption]
"""Is called with each request that is about to become a WebSocket, and the size of its largest message."""

Stays = Callable[[Mapping[str, str]], bool]
"""Whether a connection stays open, by the headers of the request that opened it."""

Introduce = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Gives the headers that say who this agent is, and prove it to whoever sent a request with these headers."""


def none_stays(_request: Mapping[str, str]) -> bool:
    """For the end of the agent."""
    return False


def introduce_nothing(_request: Mapping[str, str]) -> Mapping[str, str]:
    """No headers."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptLimits:
    """How many WebSockets may be open at once, in all and from one address, and how large a message may be.

    Several agents can share an address. The old connection of a restarted peer may still be open.
    """

    total_max: int
    address_max: int
    message_max_bytes: int


class Acceptor:
    """The open WebSockets of one purpose.

    ``purpose``: what they are for, in error messages. ``sends``: false if this end must never send anything.
    Such connections end without a closing handshake. ``introduction``: see `Introduce`.
    """

    def __init__(
        self,
        *,
        purpose: str,
        limits: AcceptLimits,
        sends: bool = True,
        upgraded: Upgraded = lambda _request: None,
        guarded: Guarded = lambda _request, _message_max_bytes: Unbounded(),
        heartbeat: Heartbeat | None = None,
        introduction: Introduce = introduce_nothing,
    ) -> None:
        self._purpose = purpose
        self._limits = limits
        self._sends = sends
        self._upgraded = upgraded
        self._guarded = guarded
        self._heartbeat = heartbeat or Heartbeat()
        self._introduction = introduction
        self._open: dict[web.WebSocketResponse, PeerRequest] = {}
        self._of_address: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many WebSockets are open."""
        return len(self._open)

    async def serve(
        self, request: PeerRequest, address: str, converse: Callable[[PeerSocket, str], Awaitable[None]]
    ) -> PeerResponse:
        """Accept a WebSocket, and run ``converse`` with it and the peer's address. Close it afterwards.

        ``address``: the peer's, for which the connection counts. If ``converse`` raises TimeoutError or
        ConnectionError, the connection is cut. Raises `RequestInvalid` if the request is no WebSocket, and
        `Unavailable` if there are too many connections.
        """
        websocket = web.WebSocketResponse(
            compress=False, max_msg_size=self._limits.message_max_bytes, timeout=_GOODBYE_S, autoping=False
        )
        websocket.headers.update(self._introduction(request.headers))
        if not _can_prepare(websocket, request):
            raise RequestInvalid(f"{self._purpose} come over a WebSocket")
        if len(self._open) >= self._limits.total_max or self._of_address[address] >= self._limits.address_max:
            raise Unavailable(f"too many connections for {self._purpose}")
        self._open[websocket] = request
        self._of_address[address] += 1
        try:
            consumption = self._guarded(request, self._limits.message_max_bytes)
            await websocket.prepare(request)
            self._upgraded(request)
            socket = PeerSocket(websocket, answers_pings=self._sends, consumption=consumption)
            start_heartbeat(socket.kernel_socket, self._heartbeat)
            await converse(socket, address)
        except (TimeoutError, ConnectionError):
            _abort(request)  # the peer neither sends nor reads, so a closing handshake is useless
        finally:
            del self._open[websocket]
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]
        if not self._sends:
            _close(request)
        return websocket

    async def close(self, stays: Stays = none_stays) -> None:
        """End all connections but those that stay, within `_GOODBYE_S`.

        Peers that take messages are told first.
        """
        ending = {each: request for each, request in self._open.items() if not stays(request.headers)}
        if not self._sends:
            for request in ending.values():
                _close(request)
            return
        closing = [websocket.close(code=WSCloseCode.GOING_AWAY) for websocket in ending]
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await asyncio.gather(*closing, return_exceptions=True)
        except TimeoutError:
            for request in ending.values():
                _abort(request)


def _can_prepare(websocket: web.WebSocketResponse, request: PeerRequest) -> bool:
    try:
        return bool(websocket.can_prepare(request))
    except ValueError:  # a key that is not even ASCII
        return False


def _close(request: PeerRequest) -> None:
    if request.transport is not None:
        request.transport.close()


def _abort(request: PeerRequest) -> None:
    if request.transport is not None:
        request.transport.abort()
