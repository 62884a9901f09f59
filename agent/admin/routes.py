"""The routes of the admin port, by subject. Each function takes the parts that its routes report on."""

from collections.abc import Callable, Sequence
from functools import partial

from aiohttp import web

from agent.admin.claims import ClaimsView
from agent.admin.explain import Explainer
from agent.admin.feed import Feed
from agent.admin.gatherer import Gatherer
from agent.admin.gauges import Gauges
from agent.admin.history import history_view
from agent.admin.index import index_view
from agent.admin.map import MapView
from agent.admin.overview import OverviewView
from agent.admin.readiness import Readiness
from agent.admin.registries import registries_view
from agent.admin.server import ApiError, Handler, Route, document_response, read_limit
from agent.admin.stream import stream
from agent.admin.views import (
    costs_view,
    flows_view,
    latency_view,
    requests_view,
    topology_view,
    transfers_view,
)
from agent.content.scrub import Scrubber
from agent.content.sharing import Sharing
from agent.content.store import ContentStore
from agent.documents.claims import ClaimsDocument
from agent.documents.cluster import ClusterDocument
from agent.documents.doctor import DoctorReport
from agent.documents.explain import ExplainDocument
from agent.documents.flows import FlowsDocument
from agent.documents.history import HistoryDocument
from agent.documents.index import IndexDocument
from agent.documents.map import MapDocument
from agent.documents.overview import OverviewDocument
from agent.documents.pulls import PullsDocument
from agent.documents.reach import ReachDocument
from agent.documents.registries import RegistriesDocument
from agent.documents.requests import RequestDocument
from agent.documents.scrub import ScrubDocument
from agent.documents.times import Moment
from agent.documents.topology import LatencyDocument, TopologyDocument
from agent.documents.transfers import CostsDocument, TransfersDocument
from agent.flows.book import FLOWS_KEPT, FlowBook
from agent.holders.index import HolderIndex
from agent.latency.measurer import Measurer
from agent.listen.traffic import Traffic
from agent.members.problems import Problem
from agent.members.roster import Roster
from agent.observe.doctoring import Doctoring
from agent.observe.pulls import ImagePulls
from agent.observe.requests import RecentRequests
from agent.observe.tally import Tally, Track
from agent.peering.reach import Reacher
from agent.pull.regard import Regard
from agent.transfer.executor import Puller
from topology.placement import NodeName

_ROUND_MAX_S = 4.0  # a client that asks once waits so long for the first round of questions

Clock = Callable[[], Moment]


def health_routes(readiness: Readiness) -> tuple[Route, ...]:
    """What the kubelet asks. ``/livez`` says that the event loop runs: a restart mends nothing else."""

    async def livez(_: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.BaseRequest) -> web.Response:
        reason = readiness.reason()
        status = 200 if reason is None else 503
        if "verbose" in request.query:
            return web.Response(status=status, text=readiness.report())
        return web.Response(status=status, text="ok\n" if reason is None else f"{reason}\n")

    return (
        Route(path="/livez", handler=livez),
        Route(path="/readyz", handler=readyz, query=("verbose",)),
    )


def metrics_routes(gauges: Gauges, clock: Clock) -> tuple[Route, ...]:
    """What Prometheus scrapes."""

    async def metrics(request: web.BaseRequest) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", ()))
        answer = gauges.expose(clock().now_s, accept)
        return web.Response(body=answer.body, headers={"Content-Type": answer.content_type})

    return (Route(path="/metrics", handler=metrics),)


def topology_routes(
    roster: Roster,
    regard: Regard,
    measurer: Measurer,
    clock: Clock,
    *,
    problems: Callable[[], Sequence[Problem]],
) -> tuple[Route, ...]:
    """Where each node is, and how far away. ``problems``: those that are not about labels."""

    async def topology(_: web.BaseRequest) -> web.Response:
        view = await topology_view(roster, regard, clock(), problems())
        return await document_response(view)

    async def latency(_: web.BaseRequest) -> web.Response:
        return await document_response(await latency_view(roster, measurer.measured, clock()))

    return (
        Route(path=TopologyDocument.PATH, handler=topology),
        Route(path=LatencyDocument.PATH, handler=latency),
    )


def reach_routes(roster: Roster, reacher: Reacher, clock: Clock) -> tuple[Route, ...]:
    """Whether this node and some peers of every zone reach each other. The question tries it."""

    async def reach(_: web.BaseRequest) -> web.Response:
        asked = await reacher.ask()
        document = ReachDocument(time=clock().text, node=roster.own, peers=len(roster), asked=asked)
        return await document_response(document)

    return (Route(path=ReachDocument.PATH, handler=reach),)


def registries_routes(
    own: NodeName, store: ContentStore, sharing: Sharing, clock: Clock
) -> tuple[Route, ...]:
    """Who decides which pod may have this node's images."""

    async def registries(_: web.BaseRequest) -> web.Response:
        return await document_response(registries_view(own, store, sharing, clock()))

    return (Route(path=RegistriesDocument.PATH, handler=registries),)


def traffic_routes(puller: Puller, traffic: Traffic, clock: Clock) -> tuple[Route, ...]:
    """The bodies under way, and the costs of bytes between zones."""
    began = clock()

    async def transfers(_: web.BaseRequest) -> web.Response:
        return await document_response(transfers_view(puller, traffic, clock()))

    async def costs(_: web.BaseRequest) -> web.Response:
        return await document_response(costs_view(traffic.ledger, began, clock()))

    return (
        Route(path=TransfersDocument.PATH, handler=transfers),
        Route(path=CostsDocument.PATH, handler=costs),
    )


def requests_routes(
    own: NodeName, recent: RecentRequests, pulls: ImagePulls, clock: Clock
) -> tuple[Route, ...]:
    """The last requests, and the pulls of images that they are parts of."""

    async def requests(request: web.BaseRequest) -> web.Response:
        wanted = request.query.get("id")
        if wanted is None:
            limit = read_limit(request, most=recent.keep)
            return await document_response(await requests_view(recent, limit))
        if "limit" in request.query:
            raise ApiError(
                400,
                "QUERY_INVALID",
                "the question is either one request or the last ones",
                hint="write ?id=… or ?limit=…",
            )
        found = recent.find(wanted)
        if found is None:
            raise ApiError(
                404,
                "REQUEST_UNKNOWN",
                f"no request {wanted[:80]!r} is under way or remembered",
                hint=f"the last {recent.keep} requests of this agent are remembered, until it restarts",
            )
        return await document_response((found,))

    async def pulled(request: web.BaseRequest) -> web.Response:
        entries = pulls.newest_first(read_limit(request, most=pulls.keep))
        return await document_response(PullsDocument(time=clock().text, node=own, pulls=entries))

    return (
        Route(path=RequestDocument.PATH, handler=requests, query=("limit", "id")),
        Route(path=PullsDocument.PATH, handler=pulled, query=("limit",)),
    )


def glance_routes(
    overview: OverviewView,
    map_view: MapView,
    feed: Feed,
    gatherer: Gatherer,
    cluster: Callable[[Moment], ClusterDocument],
    own: NodeName,
    tally: Tally,
    clock: Clock,
) -> tuple[Route, ...]:
    """What a page that stays open shows: this node at a glance, the map, the last day, and what changes."""

    async def glance(_: web.BaseRequest) -> web.Response:
        return await document_response(overview.document(clock()))

    async def drawn(_: web.BaseRequest) -> web.Response:
        return await document_response(await map_view.document(clock()))

    async def gathered(_: web.BaseRequest) -> web.Response:
        await gatherer.first_round(_ROUND_MAX_S)
        return await document_response(cluster(clock()))

    async def steps(request: web.BaseRequest) -> web.Response:
        track = _track(tally, request.query.get("step"))
        return await document_response(history_view(own, tally, track, clock()))

    return (
        Route(path=OverviewDocument.PATH, handler=glance),
        Route(path=MapDocument.PATH, handler=drawn),
        Route(path=ClusterDocument.PATH, handler=gathered),
        Route(path=HistoryDocument.PATH, handler=steps, query=("step",)),
        Route(path="/api/events", handler=partial(stream, feed)),
    )


def _track(tally: Tally, step: str | None) -> Track:
    """The steps of that length in seconds; the short ones without it. Raises `ApiError`."""
    tracks = {f"{track.step_s:g}": track for track in (tally.steps, tally.minutes)}
    short, long = tracks
    found = tracks.get(short if step is None else step)
    if found is None:
        message = f"step: {(step or '')[:80]!r} is neither {short} nor {long}"
        hint = f"?step={short} is the last quarter of an hour, ?step={long} the last day"
        raise ApiError(400, "QUERY_INVALID", message, hint=hint)
    return found


def claims_routes(view: ClaimsView, clock: Clock) -> tuple[Route, ...]:
    """Who fetches from the registry what nobody has."""

    async def claims(_: web.BaseRequest) -> web.Response:
        return await document_response(view.document(clock()))

    return (Route(path=ClaimsDocument.PATH, handler=claims),)


def index_routes(own: NodeName, index: HolderIndex, clock: Clock) -> tuple[Route, ...]:
    """Who knows which nodes have what, and whether that works."""

    async def state(_: web.BaseRequest) -> web.Response:
        return await document_response(index_view(own, index.status(), clock()))

    return (Route(path=IndexDocument.PATH, handler=state),)


def flows_routes(book: FlowBook, clock: Clock) -> tuple[Route, ...]:
    """The verdicts on connections."""

    async def flows(request: web.BaseRequest) -> web.Response:
        limit = read_limit(request, most=FLOWS_KEPT)
        return await document_response(flows_view(book, clock(), limit=limit))

    return (Route(path=FlowsDocument.PATH, handler=flows, query=("limit",)),)


def doctor_routes(doctoring: Doctoring, clock: Clock) -> tuple[Route, ...]:
    """What the doctor found when it last looked at this node."""

    async def found(_: web.BaseRequest) -> web.Response:
        return await document_response(doctoring.report(clock()))

    return (Route(path=DoctorReport.PATH, handler=found),)


def scrub_routes(scrubber: Scrubber, clock: Clock) -> tuple[Route, ...]:
    """The state of the scrub, and its actions. An action answers with the new state."""

    async def state(_: web.BaseRequest) -> web.Response:
        return await document_response(scrubber.document(clock()))

    def then_state(action: Callable[[], None]) -> Handler:
        async def act(request: web.BaseRequest) -> web.Response:
            action()
            return await state(request)

        return act

    def start() -> None:
        if not scrubber.start():
            raise ApiError(
                409,
                "SCRUB_OFF",
                "the scrub is off: scrub.bytes_per_s is 0",
                hint="set scrub.bytes_per_s and restart the agent",
            )

    return (
        Route(path=ScrubDocument.PATH, handler=state),
        Route(path=ScrubDocument.START_PATH, handler=then_state(start), is_action=True),
        Route(path=ScrubDocument.PAUSE_PATH, handler=then_state(scrubber.pause), is_action=True),
        Route(path=ScrubDocument.RESUME_PATH, handler=then_state(scrubber.resume), is_action=True),
    )


def explain_routes(explainer: Explainer) -> tuple[Route, ...]:
    """Where an image (``?image=``) or a blob (``?digest=``) would come from."""

    async def explain(request: web.BaseRequest) -> web.Response:
        image, digest = request.query.get("image"), request.query.get("digest")
        if (image is None) == (digest is None):
            raise ApiError(
                400,
                "QUERY_INVALID",
                "the question is either an image or a digest",
                hint="write ?image=REGISTRY/NAME:TAG or ?digest=sha256:…",
            )
        if image is not None:
            return await document_response(await explainer.image(image))
        return await document_response(await explainer.digest(digest or ""))

    return (Route(path=ExplainDocument.PATH, handler=explain, query=("image", "digest")),)
