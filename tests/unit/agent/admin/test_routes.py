"""Which path answers with what. The rules for all routes are in ``test_server.py``."""

import json
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from agent.admin.explain import Explainer
from agent.admin.routes import explain_routes, health_routes
from agent.admin.server import Route
from tests.unit.agent.admin.test_explain import DIGEST, explainer

__all__ = ["explainer"]  # the fixture


async def get(routes: tuple[Route, ...], target: str) -> web.Response:
    request = make_mocked_request("GET", target)
    (route,) = (route for route in routes if route.path == request.path)
    return await route.handler(request)


def text(response: web.Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


@pytest.mark.parametrize(("reason", "status", "said"), [(None, 200, "ok\n"), ("no store", 503, "no store\n")])
async def test_readiness_says_why_not(reason: str | None, status: int, said: str) -> None:
    response = await get(health_routes(lambda: reason), "/readyz")
    assert (response.status, text(response)) == (status, said)


async def test_agent_that_is_not_ready_is_alive() -> None:
    assert (await get(health_routes(lambda: "no store"), "/livez")).status == 200


async def test_digest_is_explained(explainer: Explainer, tmp_path: Path) -> None:
    response = await get(explain_routes(explainer), f"/api/explain?digest={DIGEST}")
    assert (response.status, json.loads(text(response))["choice"]) == (200, "near")


@pytest.mark.parametrize("query", ["", "?digest=x", "?image=", "?image=UPPER/case:v1"])
async def test_what_is_neither_digest_nor_image_is_an_error_with_a_message(
    explainer: Explainer, query: str
) -> None:
    response = await get(explain_routes(explainer), f"/api/explain{query}")
    assert 400 <= response.status < 500
    assert json.loads(text(response)).keys() >= {"hint"}
