"""The admin port: a table of routes, and the rules for all of them.

A page that only reads answers GET and HEAD. An action answers a POST with `ACTION_HEADER`, on the agent's own
Unix socket only. Who comes from elsewhere needs a token for most: see `agent.admin.access`. A web page of
another site gets nothing: see `agent.oci.browser`. A parameter that a page does not know is an error. Every
error is an `ErrorDocument`.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from agent.admin.access import Access, Way, way_of
from agent.admin.encoding import encoded
from agent.documents.api import ACTION, ACTION_HEADER, NO_SUCH_PAGE, ErrorDocument
from agent.documents.codec import encode
from agent.oci.browser import BrowserGuard
from agent.oci.errors import OciError

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_WITHOUT_TOKEN = (
    "from elsewhere, only /livez, /readyz, /metrics and the files of the page are answered without a token"
)
_WITHOUT_TOKEN_HINT = "ask on the node itself, or name the cluster's key with --key-file (see peering.key)"
_ACTION_ELSEWHERE = "what changes something is done at the agent's own Unix socket only"

FOR_BROWSERS = {
    # No page may read, frame or guess the type of an answer, and no proxy may keep it.
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Every response has these headers."""


class ApiError(Exception):
    """A request that can't be answered. See `ErrorDocument`."""

    def __init__(self, status: int, code: str, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path and its handler. ``is_action``: it changes something. ``query``: its parameters.

    ``is_asset``: a file of the page, which says nothing of this node: who comes from elsewhere needs no token
    for it. It has its own rules for browsers.
    """

    path: str
    handler: Handler
    is_action: bool = False
    is_asset: bool = False
    query: tuple[str, ...] = ()


class AdminServer:
    """The handler behind the admin port. ``guard``: refuses what other sites' pages ask.

    ``access``: who may ask for what. ``socket``: the path of the agent's own Unix socket, for hints.
    ``introduction``: headers that say whose admin port this is, for who asks for a page that is not there:
    an agent with a wrong port in its list of peers does.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        guard: BrowserGuard,
        *,
        access: Access | None = None,
        socket: Path | None = None,
        introduction: Mapping[str, str] | None = None,
    ) -> None:
        self._access = access or Access()
        self._socket = socket
        self.routes = {route.path: route for route in routes}
        self._guard = guard
        self._introduction = introduction or {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        response: web.StreamResponse
        try:
            response = await self._answer(request)
        except ApiError as error:
            response = error_response(error.status, error.code, error.message, hint=error.hint)
            if error.status == 405:
                response.headers["Allow"] = ", ".join(_methods(self.routes[request.path]))
            if error.code == NO_SUCH_PAGE:
                response.headers.update(self._introduction)
        except OciError as error:
            response = oci_error_response(error)
        if not response.prepared:
            for name, value in FOR_BROWSERS.items():
                response.headers.setdefault(name, value)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The page. Raises `ApiError` and `OciError`."""
        way, route = way_of(request), self.routes.get(request.path)
        is_asset = route is not None and route.is_asset
        if not is_asset and self._access.refusal(request, way) is not None:
            raise ApiError(401, "UNAUTHORIZED", _WITHOUT_TOKEN, hint=_WITHOUT_TOKEN_HINT)
        refused = self._guard.refusal(request.method, request.headers)
        if refused is not None:
            raise ApiError(403, refused.code, refused.message, hint=refused.hint)
        if route is None:
            message = f"there is no page {request.path[:200]}"
            raise ApiError(404, NO_SUCH_PAGE, message, hint=f"there are {', '.join(self._pages())}")
        _check_method(route, request)
        if route.is_action and way is not Way.SOCKET:
            raise ApiError(403, "ACTION_ELSEWHERE", _ACTION_ELSEWHERE, hint=self._action_hint())
        _check_query(route, request)
        return await route.handler(request)

    def _pages(self) -> Iterator[str]:
        """The paths that a person may want to ask for."""
        for path, route in self.routes.items():
            if not route.is_action and (path == "/" or not route.is_asset):
                yield path

    def _action_hint(self) -> str:
        if self._socket is None:
            return "set health.socket to the path of one, and restart the agent"
        return f"as root or as the agent's user: `shorthaul scrub … --socket {self._socket}`"


async def document_response(document: object, *, status: int = 200) -> web.Response:
    """The document as JSON. While a large one is encoded, other tasks can run in between."""
    body = await encoded(document)
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8")


def error_response(status: int, code: str, message: str, *, hint: str) -> web.Response:
    """An error as a response."""
    text = encode(ErrorDocument(code=code, message=message, hint=hint))
    response = web.Response(text=text, status=status, content_type="application/json")
    response.headers.update(FOR_BROWSERS)
    return response


def oci_error_response(error: OciError) -> web.Response:
    """An error of the pull API's kind, in the shape of this port. What is no HTTP gets it too."""
    return error_response(error.status, error.code, error.message, hint=error.hint)


def read_limit(request: web.BaseRequest, *, most: int) -> int:
    """The parameter ``limit``: how many entries are wanted, ``most`` without it. Raises `ApiError`."""
    text = request.query.get("limit", str(most))
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= number <= most:
        raise ApiError(
            400,
            "QUERY_INVALID",
            f"limit: {text[:80]!r} is no whole number from 1 to {most}",
            hint=f"write for example ?limit=20; without it there are up to {most} entries",
        )
    return number


def _check_method(route: Route, request: web.BaseRequest) -> None:
    """Raises `ApiError` if the route does not allow the method, or an action lacks its header."""
    if request.method not in _methods(route):
        hint = "this path changes something" if route.is_action else "this page only reads"
        raise ApiError(405, "METHOD_NOT_ALLOWED", f"{' and '.join(_methods(route))} only", hint=hint)
    if route.is_action:
        _check_is_meant(request)


def _check_is_meant(request: web.BaseRequest) -> None:
    """Raises `ApiError` unless the request has the action's header, once, with its one value."""
    values = request.headers.getall(ACTION_HEADER, [])
    hint = f"use `shorthaul scrub`, or send the header {ACTION_HEADER}: {ACTION}"
    if not values:
        message = "an action needs a header that no page in a browser sends"
        raise ApiError(403, "ACTION_HEADER_MISSING", message, hint=hint)
    if values != [ACTION]:
        message = f"{ACTION_HEADER}: {', '.join(values)[:80]!r} is not {ACTION}"
        raise ApiError(403, "ACTION_HEADER_INVALID", message, hint=hint)


def _check_query(route: Route, request: web.BaseRequest) -> None:
    """Raises `ApiError` for a parameter that the route does not know, or that is there twice."""
    known = " and ".join(route.query) or "none"
    for name in request.query:
        if name not in route.query:
            raise ApiError(
                400,
                "QUERY_INVALID",
                f"{route.path} has no parameter {name[:80]!r}",
                hint=f"its parameters: {known}",
            )
        if len(request.query.getall(name)) > 1:
            raise ApiError(400, "QUERY_INVALID", f"{name} is there twice", hint=f"write {name} once")


def _methods(route: Route) -> tuple[str, ...]:
    return ("POST",) if route.is_action else ("GET", "HEAD")
