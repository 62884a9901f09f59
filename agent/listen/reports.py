"""Hearing what peers measured; the other end of ``latency/prober.py``.

Nothing is ever sent on these connections: the peer measures how soon this node's kernel acknowledges,
and an answer would carry the acknowledgement.
"""

import asyncio
import logging
from collections.abc import Callable

from aiohttp import WSMsgType, web

from agent.latency.wire import REPORT_MAX_BYTES, ReportInvalid, Told, decode_report
from agent.oci.errors import RequestInvalid

_log = logging.getLogger(__name__)

_IDLE_S = 3600.0  # longer than any interval that can be configured
_GOODBYE_S = 0.5


class ReportDesk:
    """Holds the probing peers' connections and hands on what they tell."""

    def __init__(self, told: Callable[[Told], None], invalid: Callable[[], None]) -> None:
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
        self._open[socket] = request
        try:
            while True:
                message = await socket.receive(timeout=_IDLE_S)
                if message.type is not WSMsgType.BINARY:
                    break
                if message.data:
                    self._told(decode_report(message.data))
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
