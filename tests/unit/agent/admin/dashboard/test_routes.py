"""The page over HTTP: for whom it is, what it tells the browser, and what a second visit costs."""

import gzip
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from agent.admin.access import Access
from agent.admin.dashboard.assets import asset_paths, read_asset
from agent.admin.dashboard.routes import CONTENT_SECURITY_POLICY, dashboard_routes
from agent.admin.server import AdminServer, Route
from agent.oci.browser import BrowserGuard

PATHS = dict(asset_paths())


async def _secret(_: web.BaseRequest) -> web.Response:
    return web.Response(text="secret")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """An admin server with the page and one page of the API, on loopback."""
    server = AdminServer([*dashboard_routes(), Route(path="/api/secret", handler=_secret)], BrowserGuard([]))
    runner = web.ServerRunner(web.Server(server.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def _ask(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by their names in lower case, and body."""
    async with (
        aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session,
        session.request(method, url, headers=headers) as reply,
    ):
        found = {name.lower(): value for name, value in reply.headers.items()}
        return reply.status, found, await reply.read()


@pytest.mark.parametrize("path", PATHS)
async def test_every_file_is_answered_as_it_is_with_the_rules_for_browsers(url: str, path: str) -> None:
    status, headers, body = await _ask(f"{url}{path}")
    asset = read_asset(PATHS[path])
    assert (status, body) == (200, asset.body)
    assert (
        headers
        | {
            "content-security-policy": CONTENT_SECURITY_POLICY,
            "content-type": f"{asset.content_type}; charset=utf-8",
            "etag": asset.etag,
            "cache-control": "no-cache",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "x-frame-options": "DENY",
            "vary": "Accept-Encoding",
        }
        == headers
    )


def test_the_page_may_run_and_show_only_its_own_files_and_be_framed_by_nobody() -> None:
    policy = dict(part.split(" ", 1) for part in CONTENT_SECURITY_POLICY.split("; "))
    assert {rule for name, rule in policy.items() if name.endswith("-src")} == {"'none'", "'self'"}
    assert (
        policy["default-src"]
        == policy["frame-ancestors"]
        == policy["form-action"]
        == policy["base-uri"]
        == "'none'"
    )
    assert policy["require-trusted-types-for"] == "'script'"


async def test_who_takes_gzip_gets_it(url: str) -> None:
    _, headers, body = await _ask(f"{url}/static/app.css", **{"Accept-Encoding": "gzip"})
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == read_asset(PATHS["/static/app.css"]).body


async def test_who_has_this_version_gets_no_second_copy(url: str) -> None:
    tag = read_asset(PATHS["/"]).etag
    status, headers, body = await _ask(f"{url}/", **{"If-None-Match": tag})
    assert (status, body, headers["etag"]) == (304, b"", tag)


async def test_a_tag_stands_for_the_bytes_that_are_sent_and_each_coding_has_its_own(url: str) -> None:
    codings = {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "identity"}
    tags = [(await _ask(f"{url}/", **coding))[1]["etag"] for coding in codings]
    assert len({*tags}) == 2
    for coding, own, other in zip(codings, tags, reversed(tags), strict=True):
        status, headers, _ = await _ask(f"{url}/", **coding, **{"If-None-Match": own})
        assert (status, headers["etag"]) == (304, own)
        assert (await _ask(f"{url}/", **coding, **{"If-None-Match": other}))[0] == 200


async def test_a_path_outside_the_page_leads_nowhere(url: str) -> None:
    for path in ("/static/../__init__.py", "/static/%2e%2e/routes.py", "/static/", "/static", "/index.html"):
        assert (await _ask(f"{url}{path}"))[0] == 404, path


async def test_the_page_only_reads(url: str) -> None:
    assert (await _ask(f"{url}/", "POST"))[0] == 405
    status, headers, body = await _ask(f"{url}/", "HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == str(len(read_asset(PATHS["/"]).body))


async def test_the_hint_for_a_wrong_path_names_the_page_and_not_all_of_its_files(url: str) -> None:
    _, _, body = await _ask(f"{url}/nonsense")
    assert b"there are /, /api/secret" in body


async def test_another_sites_page_gets_no_file_and_neither_does_a_name_of_somebody_else(
    url: str,
) -> None:
    assert (await _ask(f"{url}/", Host="evil.example:9090"))[0] == 403
    cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
    assert (await _ask(f"{url}/static/app.js", **cross))[0] == 403


class _FromElsewhere(web.BaseRequest):
    """A request whose transport has left: it counts as one from elsewhere."""

    @property
    def transport(self) -> None:
        return None


async def test_from_elsewhere_the_page_is_answered_without_a_token_and_the_api_is_not() -> None:
    server = AdminServer(
        [*dashboard_routes(), Route(path="/api/secret", handler=_secret)],
        BrowserGuard([]),
        access=Access(tokens=lambda: ("right",)),
    )
    statuses: dict[str, int] = {}

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        request.__class__ = _FromElsewhere
        response = await server.handle(request)
        statuses[request.path] = response.status
        return web.Response(status=response.status)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        assert (await _ask(f"{base}/"))[0] == 200
        assert (await _ask(f"{base}/static/app.js"))[0] == 200
        assert (await _ask(f"{base}/api/secret"))[0] == 401
        assert (await _ask(f"{base}/api/secret", Authorization="Bearer right"))[0] == 200
    finally:
        await runner.cleanup()
