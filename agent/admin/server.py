"""The admin port: a table of routes, and the rules for all of them.

A page that only reads answers GET and HEAD. An action answers a POST with `ACTION_HEADER`. Every error of the
API is an `ErrorDocument`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from agent.documents.api import ACTION_HEADER, NO_SUCH_PAGE, ErrorDocument
from agent.documents.codec import encode_parts

Handler = Callable[[web.BaseRequest], Awaitable[web.Response]]

_AT_ONCE_BYTES = 64 * 1024  # this much JSON takes a few milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path and its handler. ``is_action``: it changes something."""

    path: str
    handler: Handler
    is_action: bool = False


class AdminServer:
    """The handler behind the admin port."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = {route.path: route for route in routes}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        route = self._routes.get(request.path)
        if route is None:
            return await error_response(404, NO_SUCH_PAGE, hint=f"there are {', '.join(self._routes)}")
        return await _refusal(route, request) or await route.handler(request)


async def document_response(document: object, *, status: int = 200) -> web.Response:
    """The document as JSON. While a large one is encoded, other tasks can run in between."""
    body = bytearray()
    pause_at_bytes = _AT_ONCE_BYTES
    for part in encode_parts(document):
        body += part.encode()
        if len(body) >= pause_at_bytes:
            pause_at_bytes = len(body) + _AT_ONCE_BYTES
            await asyncio.sleep(0)
    return web.Response(body=bytes(body), status=status, content_type="application/json", charset="utf-8")


async def error_response(status: int, message: str, *, hint: str) -> web.Response:
    """An error as a response."""
    return await document_response(ErrorDocument(message=message, hint=hint), status=status)


async def _refusal(route: Route, request: web.BaseRequest) -> web.Response | None:
    """The error for a request that this route does not allow. None if it allows it."""
    allowed = ("POST",) if route.is_action else ("GET", "HEAD")
    if request.method not in allowed:
        hint = "this path changes something" if route.is_action else "this page only reads"
        response = await error_response(405, f"{' and '.join(allowed)} only", hint=hint)
        response.headers["Allow"] = ", ".join(allowed)
        return response
    if route.is_action and ACTION_HEADER not in request.headers:
        hint = f"use `shorthaul scrub`, or send the header {ACTION_HEADER}: 1"
        return await error_response(
            403, "an action needs a header that no page in a browser sends", hint=hint
        )
    return None
