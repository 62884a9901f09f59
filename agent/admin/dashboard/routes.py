"""The routes of the page, and the rules that its files tell the browser."""

from pathlib import Path

from aiohttp import hdrs, web

from agent.admin.dashboard.assets import Asset, asset_paths, is_current, read_asset, takes_gzip
from agent.admin.server import Handler, Route

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""Scripts and styles come from files of the page only: a hostile name of an image, a node or a zone that
found a way into the page would still be text."""

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    # Kept, and asked for each time: an upgraded agent has a new page; else a 304 is all that is sent.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def dashboard_routes() -> tuple[Route, ...]:
    """One route for each file: no path of a request is ever made into one of the file system."""
    return tuple(Route(path=path, handler=_handler(file), is_asset=True) for path, file in asset_paths())


def _handler(file: Path) -> Handler:
    async def answer(request: web.BaseRequest) -> web.Response:
        return _response(read_asset(file), request)

    return answer


def _response(asset: Asset, request: web.BaseRequest) -> web.Response:
    is_gzipped = takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING))
    tag = asset.gzipped_etag if is_gzipped else asset.etag
    headers = {**_HEADERS, hdrs.ETAG: tag}
    if is_current(request.headers.get(hdrs.IF_NONE_MATCH), tag):
        return web.Response(status=304, headers=headers)
    if is_gzipped:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    body = asset.gzipped if is_gzipped else asset.body
    return web.Response(body=body, headers=headers, content_type=asset.content_type, charset="utf-8")
