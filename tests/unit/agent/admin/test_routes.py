"""Which path answers with what. The rules for all routes are in ``test_server.py``."""

import json
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from agent.admin.explain import Explainer
from agent.admin.readiness import Phase, Readiness
from agent.admin.routes import explain_routes, health_routes, scrub_routes
from agent.admin.server import ApiError, Route
from agent.config import ScrubSettings
from agent.content.scrub import Scrubber
from agent.documents.times import Moment
from agent.observe.components import Component
from agent.observe.metrics import Metrics
from agent.oci.errors import OciError
from tests.unit.agent.admin.test_explain import DIGEST, explainer
from tests.unit.agent.content.test_scrub import MemoryStore

__all__ = ["explainer"]  # the fixture


async def get(routes: tuple[Route, ...], target: str) -> web.Response:
    request = make_mocked_request("GET", target)
    (route,) = (route for route in routes if route.path == request.path)
    response = await route.handler(request)
    assert isinstance(response, web.Response)
    return response


def text(response: web.Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


@pytest.mark.parametrize(("reason", "status", "said"), [(None, 200, "ok\n"), ("no store", 503, "no store\n")])
async def test_readiness_says_why_not(reason: str | None, status: int, said: str) -> None:
    response = await get(health_routes(serving(reason)), "/readyz")
    assert (response.status, text(response)) == (status, said)


@pytest.mark.parametrize(("reason", "status"), [(None, 200), ("no store", 503)])
async def test_verbose_readiness_lists_the_parts(reason: str | None, status: int) -> None:
    response = await get(health_routes(serving(reason)), "/readyz?verbose")
    assert (response.status, text(response)) == (status, serving(reason).report())


async def test_agent_that_is_not_ready_is_alive() -> None:
    assert (await get(health_routes(serving("no store")), "/livez")).status == 200


def serving(problem: str | None) -> Readiness:
    """An agent with one part."""
    readiness = Readiness()
    readiness.watch([Component(name="the store", key="store", problem=lambda: problem, hint="")])
    readiness.phase = Phase.SERVING
    return readiness


async def test_digest_is_explained(explainer: Explainer, tmp_path: Path) -> None:
    response = await get(explain_routes(explainer), f"/api/explain?digest={DIGEST}")
    assert (response.status, json.loads(text(response))["choice"]) == (200, "near")


@pytest.mark.parametrize("query", ["", "?digest=x", "?image=", "?image=UPPER/case:v1", "?image=a&digest=b"])
async def test_what_is_neither_digest_nor_image_is_an_error_of_the_client(
    explainer: Explainer, query: str
) -> None:
    with pytest.raises((ApiError, OciError)) as caught:
        await get(explain_routes(explainer), f"/api/explain{query}")
    error = caught.value
    assert isinstance(error, ApiError | OciError)
    assert 400 <= error.status < 500
    assert error.hint or error.message


async def test_scrub_that_is_off_is_not_started_and_the_error_says_why() -> None:
    store = MemoryStore()
    off = Scrubber(store, ScrubSettings(bytes_per_s=0), Metrics())
    (start,) = (
        route
        for route in scrub_routes(off, lambda: Moment(now_s=0.0, unix_s=0.0))
        if route.path == "/api/scrub/start"
    )
    with pytest.raises(ApiError) as caught:
        await start.handler(make_mocked_request("POST", "/api/scrub/start"))
    assert (caught.value.status, caught.value.code) == (409, "SCRUB_OFF")
    assert "scrub.bytes_per_s" in caught.value.hint
