"""The admin port: metrics, health, and what the agent can say of itself as JSON."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from agent.admin.explain import Explainer
from agent.admin.views import costs_view, flows_view, latency_view, topology_view, transfers_view
from agent.content.scrub import Scrubber
from agent.content.store import ContentStore
from agent.flows.book import FlowBook
from agent.latency.prober import Prober
from agent.listen.traffic import Traffic
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.observe.requests import RecentRequests
from agent.oci.errors import OciError
from agent.pull.regard import Regard
from agent.transfer.executor import Puller


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminServices:
    """What the admin port tells of. ``unready``: why the agent is not ready; None while it is."""

    store: ContentStore
    explainer: Explainer
    roster: Roster
    regard: Regard
    prober: Prober
    traffic: Traffic
    metrics: Metrics
    recent: RecentRequests
    book: FlowBook
    puller: Puller
    scrubber: Scrubber
    unready: Callable[[], str | None]
    clock: Callable[[], float]


ACTION_HEADER = "Shorthaul-Action"
"""What a request has to have that changes something."""


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
            "/api/topology": self._topology,
            "/api/latency": self._latency,
            "/api/costs": self._costs,
            "/api/flows": self._flows,
            "/api/transfers": self._transfers,
            "/api/scrub": self._scrub,
        }
        self._actions: dict[str, Callable[[], None]] = {
            "/api/scrub/pause": services.scrubber.pause,
            "/api/scrub/resume": services.scrubber.resume,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        action = self._actions.get(request.path)
        if action is not None:
            if request.method != "POST":
                return web.json_response({"error": "POST only"}, status=405, headers={"Allow": "POST"})
            if ACTION_HEADER not in request.headers:  # no page in a browser can send it unasked
                hint = f"use `shorthaul scrub`, or send the header {ACTION_HEADER}: 1"
                return web.json_response({"error": "not meant so, it seems", "hint": hint}, status=403)
            action()
            return await self._scrub(request)
        page = self._pages.get(request.path)
        if page is None:
            pages = ", ".join([*self._pages, *self._actions])
            return web.json_response({"error": "no such page", "hint": f"there are {pages}"}, status=404)
        if request.method not in ("GET", "HEAD"):
            return web.json_response(
                {"error": "GET and HEAD only"}, status=405, headers={"Allow": "GET, HEAD"}
            )
        return await page(request)

    async def _metrics(self, _: web.BaseRequest) -> web.Response:
        services = self._services
        services.metrics.store(*services.store.totals)
        services.metrics.peers(len(services.roster), len([*services.regard.cooling(services.clock())]))
        admission = services.traffic.admission
        services.metrics.scrub_paused(services.scrubber.paused)
        services.metrics.uploads(len(admission), admission.left_bytes)
        self._count_topology()
        services.metrics.proof(
            connected=services.book.connected, proved=services.book.proved(services.clock())[0]
        )
        services.metrics.ready(services.unready() is None)
        return web.Response(body=services.metrics.expose(), headers={"Content-Type": Metrics.CONTENT_TYPE})

    def _count_topology(self) -> None:
        services = self._services
        roster = services.roster
        snapshot = roster.snapshot
        standings = snapshot.standings.values()
        inferred = sum(1 for standing in standings if standing.inferred)
        unknown = sum(1 for standing in standings if standing.placement.zone is None)
        nodes = {
            "labelled": len(standings) - inferred - unknown,
            "inferred": inferred,
            "unknown": unknown,
            "suspect": sum(1 for standing in standings if standing.suspect is not None),
        }
        services.metrics.topology(nodes, problems=len(roster.problems), probed=len(services.prober.probed))
        services.metrics.zone_rtts(
            {str(zone): cost_us for zone, (cost_us, _) in roster.topology.zone_costs.items()}
        )

    async def _livez(self, _: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.BaseRequest) -> web.Response:
        reason = self._services.unready()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def _requests(self, _: web.BaseRequest) -> web.Response:
        return web.json_response(self._services.recent.newest_first())

    async def _topology(self, _: web.BaseRequest) -> web.Response:
        services = self._services
        return web.json_response(await topology_view(services.roster, services.regard, services.clock()))

    async def _latency(self, _: web.BaseRequest) -> web.Response:
        services = self._services
        return web.json_response(
            await latency_view(services.roster, services.prober.probed, services.clock())
        )

    async def _costs(self, _: web.BaseRequest) -> web.Response:
        return web.json_response(costs_view(self._services.traffic.entries()))

    async def _flows(self, _: web.BaseRequest) -> web.Response:
        return web.json_response(flows_view(self._services.book, self._services.clock()))

    async def _transfers(self, _: web.BaseRequest) -> web.Response:
        services = self._services
        return web.json_response(transfers_view(services.puller, services.traffic, services.clock()))

    async def _scrub(self, _: web.BaseRequest) -> web.Response:
        return web.json_response(self._services.scrubber.view())

    async def _explain(self, request: web.BaseRequest) -> web.Response:
        services = self._services
        explainer = services.explainer
        image = request.query.get("image")
        try:
            if image is not None:
                answer = await explainer.image(image, services.clock())
            else:
                answer = await explainer.digest(request.query.get("digest", ""), services.clock())
        except OciError as error:
            return web.json_response({"error": error.message, "hint": error.hint}, status=error.status)
        return web.json_response(answer)
