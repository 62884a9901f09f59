"""``/api/events``: answers a browser with a stream of events until it leaves."""

import asyncio

from aiohttp import web

from agent.admin.feed import TABS_MAX, Feed, Tab
from agent.admin.frames import opening
from agent.admin.server import FOR_BROWSERS, ApiError
from agent.listen.http import close_is_departure

_SEND_S = 30.0  # a browser that takes nothing for so long is gone, or frozen
_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}


async def stream(feed: Feed, request: web.BaseRequest) -> web.StreamResponse:
    """Send events until the client leaves or the feed ends. Raises `ApiError` if there are too many."""
    response = web.StreamResponse(headers=_HEADERS | FOR_BROWSERS)
    response.force_close()
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    tab = feed.join()
    if tab is None:
        raise ApiError(
            503,
            "STREAMS_MAX",
            f"{TABS_MAX} streams are open, and there may be no more",
            hint="close a tab, or ask for the pages one by one: /api/overview, /api/map, …",
        )
    try:
        with close_is_departure(request):  # a browser never closes one side only
            await _send(tab, request, response)
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()  # flushing would wait for a client that takes no bytes
    finally:
        feed.leave(tab)
    return response


async def _send(tab: Tab, request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Raises ConnectionError and TimeoutError."""
    await response.prepare(request)
    await response.write(opening())
    while (data := await tab.next()) is not None:
        async with asyncio.timeout(_SEND_S):
            await response.write(data)
    await response.write_eof()
