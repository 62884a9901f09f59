"""The table of routes: which requests are answered, and which error the others get."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from agent.admin.server import AdminServer, Route, document_response, oci_error_response, read_limit
from agent.documents.api import ACTION_HEADER
from agent.documents.scrub import RoundEntry, ScrubDocument
from agent.oci.browser import BrowserGuard
from agent.oci.errors import RequestInvalid

DOCUMENT = ScrubDocument(
    time="2026-08-01T12:00:00.000Z",
    bytes_per_s=1,
    state="waiting",
    held_up=None,
    paused=False,
    reading=None,
    round=RoundEntry(done=1, of=2, finished=0),
    withdrawn=tuple(f"sha256:{number:064}" for number in range(3000)),
    unreadable=(),
    unreadable_blobs=0,
)


@dataclass
class Admin:
    """A server with a page and an action. ``acted``: how often the action ran."""

    url: str = ""
    socket: str = ""
    acted: list[str] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)

    async def page(self, request: web.BaseRequest) -> web.Response:
        self.limits.append(read_limit(request, most=50))
        return await document_response(DOCUMENT)

    async def act(self, request: web.BaseRequest) -> web.Response:
        self.acted.append(request.path)
        return await document_response(DOCUMENT)

    async def ask(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of the answer."""
        return await self._ask(None, method, path, headers)

    async def at_socket(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """The same at the Unix socket."""
        return await self._ask(aiohttp.UnixConnector(self.socket), method, path, headers)

    async def _ask(
        self, connector: aiohttp.UnixConnector | None, method: str, path: str, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], str]:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"{self.url}{path}", headers=headers) as reply,
        ):
            return reply.status, dict(reply.headers), await reply.text()


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Admin]:
    made = Admin(socket=str(tmp_path / "own.sock"))
    server = AdminServer(
        [
            Route(path="/page", handler=made.page, query=("limit",)),
            Route(path="/act", handler=made.act, is_action=True),
        ],
        BrowserGuard([]),
        socket=Path(made.socket),
    )
    runner = web.ServerRunner(web.Server(server.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    await web.UnixSite(runner, made.socket).start()
    made.url = site.name if not site.name.endswith(":0") else f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


async def test_page_is_the_document_as_json(admin: Admin) -> None:
    status, headers, body = await admin.ask("GET", "/page")
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert json.loads(body)["withdrawn"] == [*DOCUMENT.withdrawn]


async def test_action_is_a_post_that_no_page_in_a_browser_sends(admin: Admin) -> None:
    assert (await admin.at_socket("POST", "/act"))[0] == 403
    assert (await admin.at_socket("GET", "/act", **{ACTION_HEADER: "1"}))[0] == 405
    assert admin.acted == []
    assert (await admin.at_socket("POST", "/act", **{ACTION_HEADER: "1"}))[0] == 200
    assert admin.acted == ["/act"]


async def test_nothing_that_comes_by_tcp_changes_anything_and_the_hint_names_the_socket(admin: Admin) -> None:
    status, _, body = await admin.ask("POST", "/act", **{ACTION_HEADER: "1"})
    error = json.loads(body)
    assert (status, error["code"], admin.acted) == (403, "ACTION_ELSEWHERE", [])
    assert f"--socket {admin.socket}" in error["hint"]


async def test_the_socket_reads_as_well(admin: Admin) -> None:
    assert (await admin.at_socket("GET", "/page"))[0] == 200


@pytest.mark.parametrize("value", ["", "0", "false", "no", "2", "1, 1", "one", "11", "true"])
async def test_action_with_another_value_than_the_one_changes_nothing_and_says_which(
    admin: Admin, value: str
) -> None:
    status, _, body = await admin.ask("POST", "/act", **{ACTION_HEADER: value})
    assert status == 403
    error = json.loads(body)
    assert error["code"] == "ACTION_HEADER_INVALID"
    assert f"{ACTION_HEADER}: 1" in error["hint"]
    assert admin.acted == []


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/nothing", 404, None),
        ("GET", "/page/", 404, None),
        ("GET", "/page?limti=3", 400, None),
        ("GET", "/page?limit=0", 400, None),
        ("GET", "/page?limit=1&limit=2", 400, None),
        ("POST", "/act?dry_run=1", 403, None),
        ("DELETE", "/page", 405, "GET, HEAD"),
        ("OPTIONS", "/act", 405, "POST"),
        ("POST", "/page", 405, "GET, HEAD"),
        ("GET", "/act", 405, "POST"),
        ("POST", "/act", 403, None),
    ],
)
async def test_every_error_has_one_shape(
    admin: Admin, method: str, path: str, status: int, allowed: str | None
) -> None:
    answered, headers, body = await admin.ask(method, path)
    assert (answered, headers.get("Allow")) == (status, allowed)
    error = json.loads(body)
    assert error.keys() == {"code", "message", "hint"}
    assert all(isinstance(text, str) and text for text in error.values())
    assert error["code"].isupper()
    assert headers["Content-Type"].startswith("application/json")


async def test_what_is_no_http_gets_an_error_of_the_same_shape(admin: Admin) -> None:
    response = oci_error_response(RequestInvalid("not an HTTP request", hint="look at it"))
    assert isinstance(response.body, bytes)
    assert json.loads(response.body).keys() == {"code", "message", "hint"}
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(("query", "limit"), [("", 50), ("?limit=1", 1), ("?limit=50", 50)])
async def test_limit_is_what_is_asked_for_or_all(admin: Admin, query: str, limit: int) -> None:
    assert (await admin.ask("GET", f"/page{query}"))[0] == 200
    assert admin.limits == [limit]


@pytest.mark.parametrize("limit", ["0", "-1", "51", "many", "", "1e1", "1.0", "+5", "%D9%A3", "9" * 5000])
async def test_limit_that_is_none_is_an_error_that_says_what_to_write(admin: Admin, limit: str) -> None:
    status, _, body = await admin.ask("GET", f"/page?limit={limit}")
    error = json.loads(body)
    assert (status, error["code"]) == (400, "QUERY_INVALID")
    assert "1 to 50" in error["message"]
    assert "?limit=20" in error["hint"]
    assert len(error["message"]) < 200


@pytest.mark.parametrize("path", ["/page", "/nothing", "/page?limit=0"])
async def test_answer_may_be_read_framed_and_kept_by_nobody_else(admin: Admin, path: str) -> None:
    _, headers, _ = await admin.ask("GET", path)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert not [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"Content-Type": "application/x-www-form-urlencoded"}),
        ("POST", {"Content-Type": "text/plain", "Origin": "http://evil.example"}),
        ("POST", {"Origin": "null", ACTION_HEADER: "1"}),
        ("POST", {"Sec-Fetch-Site": "same-site", ACTION_HEADER: "1"}),
        ("POST", {"Host": "evil.example", ACTION_HEADER: "1"}),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}),
        ("OPTIONS", {"Origin": "http://evil.example", "Access-Control-Request-Headers": ACTION_HEADER}),
    ],
)
async def test_nothing_that_a_page_of_another_site_can_send_changes_anything(
    admin: Admin, method: str, headers: dict[str, str]
) -> None:
    status, answered, _ = await admin.ask(method, "/act", **headers)
    assert status in (403, 405)
    assert not [name for name in answered if name.lower().startswith("access-control-")]
    assert admin.acted == []


@pytest.mark.parametrize("path", ["/page", "/act", "/nothing"])
async def test_page_whose_own_name_leads_here_reads_nothing(admin: Admin, path: str) -> None:
    status, _, body = await admin.ask("GET", path, Host="evil.example")
    assert (status, json.loads(body)["code"]) == (403, "HOST_UNKNOWN")
    assert "http.host_names" in json.loads(body)["hint"]
