"""The admin port: metrics, health, and what the agent can say of itself as JSON."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from agent.content.store import ContentStore
from agent.holders.index import HolderIndex
from agent.members.neighbourhood import Neighbourhood
from agent.observe.metrics import Metrics
from agent.observe.requests import RecentRequests
from agent.oci.digest import parse_digest
from agent.oci.errors import DigestInvalid
from agent.transfer.puller import Puller
from topology.placement import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminServices:
    """What the admin port tells of. ``unready``: why the agent is not ready; None while it is."""

    own: NodeName
    store: ContentStore
    index: HolderIndex
    neighbourhood: Neighbourhood
    puller: Puller
    metrics: Metrics
    recent: RecentRequests
    unready: Callable[[], str | None]
    clock: Callable[[], float]


class AdminServer:
    """The handler behind the admin port."""

    def __init__(self, services: AdminServices) -> None:
        self._services = services
        self._pages: dict[str, Callable[[web.BaseRequest], Awaitable[web.Response]]] = {
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/api/explain": self._explain,
            "/api/requests": self._requests,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        page = self._pages.get(request.path)
        if page is None:
            pages = ", ".join(self._pages)
            return web.json_response({"error": "no such page", "hint": f"there are {pages}"}, status=404)
        if request.method not in ("GET", "HEAD"):
            return web.json_response(
                {"error": "GET and HEAD only"}, status=405, headers={"Allow": "GET, HEAD"}
            )
        return await page(request)

    async def _metrics(self, _: web.BaseRequest) -> web.Response:
        services = self._services
        services.metrics.store(*services.store.totals)
        services.metrics.peers(
            len(services.neighbourhood), len(services.neighbourhood.cooling(services.clock()))
        )
        services.metrics.ready(services.unready() is None)
        return web.Response(body=services.metrics.expose(), headers={"Content-Type": Metrics.CONTENT_TYPE})

    async def _livez(self, _: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.BaseRequest) -> web.Response:
        reason = self._services.unready()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def _requests(self, _: web.BaseRequest) -> web.Response:
        return web.json_response(self._services.recent.newest_first())

    async def _explain(self, request: web.BaseRequest) -> web.Response:
        services = self._services
        try:
            digest = parse_digest(request.query.get("digest", ""))
        except DigestInvalid as error:
            return web.json_response({"error": error.message, "hint": error.hint}, status=400)
        holders = await services.index.lookup_all(digest)
        ranked = services.puller.ranked(digest, holders.nodes)
        local = services.store.holds(digest)
        answer: dict[str, Any] = {
            "node": services.own,
            "digest": digest,
            "local": local,
            "choice": services.own if local else (ranked[0].node if ranked else None),
            "holders": [
                {"node": r.node, "tier": r.locality.label, "rank": r.rank, "reason": r.reason} for r in ranked
            ],
            "not_asked_in_full": [
                {"node": peer.name, "reason": "failed a moment ago"}
                for peer in services.neighbourhood.cooling(services.clock())
            ],
        }
        return web.json_response(answer)
