"""Hearing what peers measured; the other end of ``latency/prober.py``.

Nothing is ever sent on these connections: the peer measures how soon this node's kernel acknowledges,
and an answer would carry the acknowledgement.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from socket import SOL_TCP, TCP_QUICKACK

from aiohttp import WSMsgType, web

from agent.latency.wire import REPORT_MAX_BYTES, ReportInvalid, Told, decode_report
from agent.oci.errors import RequestInvalid

_log = logging.getLogger(__name__)

_IDLE_S = 3600.0  # longer than any interval that can be configured
_GOODBYE_S = 0.5


class ReportDesk:
    """Holds the probing peers' connections and hands on what they tell, with the address they have."""

    def __init__(self, told: Callable[[Told, str], None], invalid: Callable[[], None]) -> None:
        self._told = told
        self._invalid = invalid
        self._open: dict[web.WebSocketResponse, web.BaseRequest] = {}

    async def serve(self, request: web.BaseRequest) -> web.WebSocketResponse:
        """Listen to one peer until it leaves. Raises `RequestInvalid` for anything but a WebSocket."""
        socket = web.WebSocketResponse(
            compress=False, max_msg_size=REPORT_MAX_BYTES, timeout=_GOODBYE_S, autoping=False
        )
        if not socket.can_prepare(request):
            raise RequestInvalid("reports about latency come over a WebSocket")
        await socket.prepare(request)
        _acknowledge_at_once(request)
        self._open[socket] = request
        try:
            while True:
                message = await socket.receive(timeout=_IDLE_S)
                if message.type is not WSMsgType.BINARY:
                    break
                if message.data:
                    self._told(decode_report(message.data), request.remote or "")
        except ReportInvalid as error:
            self._invalid()
            _log.warning("not a report: %s", error, extra={"fields": {"remote": request.remote}})
        except TimeoutError:
            pass
        finally:
            del self._open[socket]
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await socket.close()
        except (TimeoutError, ConnectionError):
            pass
        return socket

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
