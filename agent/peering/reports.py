"""Hearing what peers measured; the other end of ``latency/prober.py``.

Nothing is ever sent on these connections: the peer measures how soon this node's kernel acknowledges,
and an answer would carry the acknowledgement. They are bounded in number, for each address and in all,
and in messages; whoever exceeds that is cut off.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from socket import SOL_TCP, TCP_QUICKACK

from aiohttp import WSMsgType, web

from agent.latency.wire import REPORT_MAX_BYTES, ReportInvalid, Told, decode_report
from agent.listen.http import end_with_peer
from agent.oci.errors import RequestInvalid, Unavailable

_log = logging.getLogger(__name__)

_IDLE_S = 2 * 3600.0  # longer than any interval that can be configured
_GOODBYE_S = 0.5
_OPEN_MAX = 2048  # each costs some 40 kB; a node of 5,000 is probed by about 60 others
_OPEN_MAX_OF_ONE = 4  # addresses; a restarted peer's old connection may linger
_BURST_MAX, _BURST_S = 40, 5.0  # messages; a peer sends four a second at most


class ReportDesk:
    """Holds the probing peers' connections and hands on what they tell, with the address they have."""

    def __init__(self, told: Callable[[Told, str], None], invalid: Callable[[], None]) -> None:
        self._told = told
        self._invalid = invalid
        self._open: dict[web.WebSocketResponse, web.BaseRequest] = {}
        self._of_address: Counter[str] = Counter()

    async def serve(self, request: web.BaseRequest) -> web.WebSocketResponse:
        """Listen to one peer until it leaves.

        Raises `RequestInvalid` for anything but a WebSocket, `Unavailable` beyond the bounds.
        """
        socket = web.WebSocketResponse(
            compress=False, max_msg_size=REPORT_MAX_BYTES, timeout=_GOODBYE_S, autoping=False
        )
        if not socket.can_prepare(request):
            raise RequestInvalid("reports about latency come over a WebSocket")
        address = request.remote or ""
        if len(self._open) >= _OPEN_MAX or self._of_address[address] >= _OPEN_MAX_OF_ONE:
            raise Unavailable("too many connections that measure latency")
        self._open[socket] = request
        self._of_address[address] += 1
        try:
            await socket.prepare(request)
            end_with_peer(request)
            _acknowledge_at_once(request)
            await self._listen(socket, address)
        finally:
            del self._open[socket]
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]
        if request.transport is not None:
            request.transport.close()  # no closing handshake: nothing is ever sent
        return socket

    async def _listen(self, socket: web.WebSocketResponse, address: str) -> None:
        """Hand on reports until the peer leaves or misbehaves."""
        started_s, messages = time.monotonic(), 0
        try:
            while True:
                message = await socket.receive(timeout=_IDLE_S)
                if message.type is not WSMsgType.BINARY:
                    return
                now_s = time.monotonic()
                if now_s - started_s > _BURST_S:
                    started_s, messages = now_s, 0
                messages += 1
                if messages > _BURST_MAX:
                    raise ReportInvalid(f"more than {_BURST_MAX} messages in {_BURST_S:g} s")
                if message.data:
                    self._told(decode_report(message.data), address)
        except ReportInvalid as error:
            self._invalid()
            _log.warning("not a report: %s", error, extra={"fields": {"remote": address}})
        except TimeoutError:
            return

    def close(self) -> None:
        """End all connections; the peers know what that means."""
        for request in self._open.values():
            if request.transport is not None:
                request.transport.close()


def _acknowledge_at_once(request: web.BaseRequest) -> None:
    """Take the connection out of the kernel's interactive mode, in which it delays acknowledgements.

    It got there by the handshake's answer, and does not come back, as nothing else is ever sent. After a
    pause longer than the retransmission time-out (0.2 s) each message is then acknowledged at once.
    Source: net/ipv4/tcp_input.c, tcp_event_data_recv(), and tcp(7), TCP_QUICKACK.
    """
    sock = None if request.transport is None else request.transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError, ValueError, AttributeError):  # closed meanwhile
            sock.setsockopt(SOL_TCP, TCP_QUICKACK, 1)
