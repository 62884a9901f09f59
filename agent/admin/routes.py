"""The routes of the admin port, by subject. Each function takes the parts that its routes report on."""

from collections.abc import Callable

from aiohttp import web

from agent.admin.explain import Explainer
from agent.admin.gauges import Gauges
from agent.admin.server import Handler, Route, document_response, error_response
from agent.admin.views import costs_view, flows_view, latency_view, topology_view, transfers_view
from agent.content.scrub import Scrubber
from agent.documents.explain import ExplainDocument
from agent.documents.flows import FlowsDocument
from agent.documents.requests import RequestDocument
from agent.documents.scrub import ScrubDocument
from agent.documents.topology import LatencyDocument, TopologyDocument
from agent.documents.transfers import CostsDocument, TransfersDocument
from agent.flows.book import FlowBook
from agent.latency.measurer import Measurer
from agent.listen.traffic import Traffic
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.observe.requests import RecentRequests
from agent.oci.errors import OciError
from agent.pull.regard import Regard
from agent.transfer.executor import Puller

Clock = Callable[[], float]


def health_routes(unready: Callable[[], str | None]) -> tuple[Route, ...]:
    """What the kubelet asks. ``unready``: returns why the agent is not ready, or None."""

    async def livez(_: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.BaseRequest) -> web.Response:
        reason = unready()
        if reason is None:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"{reason}\n")

    return Route(path="/livez", handler=livez), Route(path="/readyz", handler=readyz)


def metrics_routes(gauges: Gauges, clock: Clock) -> tuple[Route, ...]:
    """What Prometheus scrapes."""

    async def metrics(_: web.BaseRequest) -> web.Response:
        return web.Response(body=gauges.expose(clock()), headers={"Content-Type": Metrics.CONTENT_TYPE})

    return (Route(path="/metrics", handler=metrics),)


def topology_routes(roster: Roster, regard: Regard, measurer: Measurer, clock: Clock) -> tuple[Route, ...]:
    """Where each node is, and how far away."""

    async def topology(_: web.BaseRequest) -> web.Response:
        return await document_response(await topology_view(roster, regard, clock()))

    async def latency(_: web.BaseRequest) -> web.Response:
        return await document_response(await latency_view(roster, measurer.measured, clock()))

    return (
        Route(path=TopologyDocument.PATH, handler=topology),
        Route(path=LatencyDocument.PATH, handler=latency),
    )


def traffic_routes(
    puller: Puller, traffic: Traffic, recent: RecentRequests, clock: Clock
) -> tuple[Route, ...]:
    """The bodies under way, the costs of bytes between zones, and the last requests."""

    async def transfers(_: web.BaseRequest) -> web.Response:
        return await document_response(transfers_view(puller, traffic, clock()))

    async def costs(_: web.BaseRequest) -> web.Response:
        return await document_response(costs_view(traffic.entries()))

    async def requests(_: web.BaseRequest) -> web.Response:
        return await document_response(recent.newest_first())

    return (
        Route(path=TransfersDocument.PATH, handler=transfers),
        Route(path=CostsDocument.PATH, handler=costs),
        Route(path=RequestDocument.PATH, handler=requests),
    )


def flows_routes(book: FlowBook, clock: Clock) -> tuple[Route, ...]:
    """The verdicts on connections."""

    async def flows(_: web.BaseRequest) -> web.Response:
        return await document_response(flows_view(book, clock()))

    return (Route(path=FlowsDocument.PATH, handler=flows),)


def scrub_routes(scrubber: Scrubber) -> tuple[Route, ...]:
    """The state of the scrub, and its two actions. An action answers with the new state."""

    async def state(_: web.BaseRequest) -> web.Response:
        return await document_response(scrubber.document())

    def then_state(action: Callable[[], None]) -> Handler:
        async def act(request: web.BaseRequest) -> web.Response:
            action()
            return await state(request)

        return act

    return (
        Route(path=ScrubDocument.PATH, handler=state),
        Route(path=ScrubDocument.PAUSE_PATH, handler=then_state(scrubber.pause), is_action=True),
        Route(path=ScrubDocument.RESUME_PATH, handler=then_state(scrubber.resume), is_action=True),
    )


def explain_routes(explainer: Explainer) -> tuple[Route, ...]:
    """Where an image (``?image=``) or a blob (``?digest=``) would come from."""

    async def explain(request: web.BaseRequest) -> web.Response:
        image = request.query.get("image")
        try:
            if image is not None:
                answer = await explainer.image(image)
            else:
                answer = await explainer.digest(request.query.get("digest", ""))
        except OciError as error:
            return await error_response(error.status, error.message, hint=error.hint)
        return await document_response(answer)

    return (Route(path=ExplainDocument.PATH, handler=explain),)
