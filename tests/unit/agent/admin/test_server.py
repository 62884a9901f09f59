"""The table of routes: which requests are answered, and which error the others get."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from agent.admin.server import AdminServer, Route, document_response
from agent.documents.api import ACTION_HEADER
from agent.documents.scrub import RoundEntry, ScrubDocument

DOCUMENT = ScrubDocument(
    bytes_per_s=1,
    paused=False,
    reading=None,
    round=RoundEntry(done=1, of=2, finished=0),
    withdrawn=tuple(f"sha256:{number:064}" for number in range(3000)),
)


@dataclass
class Admin:
    """A server with a page and an action. ``acted``: how often the action ran."""

    url: str = ""
    acted: list[str] = field(default_factory=list)

    async def page(self, _: web.BaseRequest) -> web.Response:
        return await document_response(DOCUMENT)

    async def act(self, request: web.BaseRequest) -> web.Response:
        self.acted.append(request.path)
        return await document_response(DOCUMENT)

    async def ask(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of the answer."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self.url}{path}", headers=headers) as reply,
        ):
            return reply.status, dict(reply.headers), await reply.text()


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    made = Admin()
    server = AdminServer(
        [Route(path="/page", handler=made.page), Route(path="/act", handler=made.act, is_action=True)]
    )
    runner = web.ServerRunner(web.Server(server.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
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
    assert (await admin.ask("POST", "/act"))[0] == 403
    assert (await admin.ask("GET", "/act", **{ACTION_HEADER: "1"}))[0] == 405
    assert admin.acted == []
    assert (await admin.ask("POST", "/act", **{ACTION_HEADER: "1"}))[0] == 200
    assert admin.acted == ["/act"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/nothing", 404, None),
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
    assert error.keys() == {"error", "hint"}
    assert all(isinstance(text, str) and text for text in error.values())
