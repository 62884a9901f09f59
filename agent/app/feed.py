"""Makes what looks at the whole agent: the overview, the map, and the stream of events."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from agent import __version__
from agent.admin.claims import ClaimsView
from agent.admin.cluster import Gathered, cluster_view, told_states
from agent.admin.feed import BEAT_S, INTERVAL_S, TABS_MAX, Feed
from agent.admin.figures import Figures
from agent.admin.gatherer import Gatherer
from agent.admin.index import index_view
from agent.admin.map import MapView
from agent.admin.overview import OverviewView, without_time
from agent.admin.sections import Cluster, History, Map, NewRequests, Pulls, Section, Watched
from agent.admin.views import flows_view, transfers_view
from agent.app.core import Core
from agent.app.outbound import Outbound
from agent.config import Settings
from agent.documents.claims import ClaimsDocument
from agent.documents.cluster import ClusterDocument
from agent.documents.events import HelloDocument
from agent.documents.index import IndexDocument
from agent.documents.times import Moment
from agent.documents.transfers import TransfersDocument
from agent.flows.book import FlowBook
from agent.members.problems import Problem
from agent.observe.tally import WINDOW_S

_Timed = TypeVar("_Timed", ClaimsDocument, IndexDocument, TransfersDocument)

_OVERVIEW_S, _FAST_S, _SLOW_S, _INDEX_S = 2.0, 0.5, 1.0, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What looks at the whole agent."""

    claims: ClaimsView
    overview: OverviewView
    map: MapView
    feed: Feed
    gatherer: Gatherer
    figures: Figures
    cluster: Callable[[Moment], ClusterDocument]


def make_looks(settings: Settings, core: Core, outbound: Outbound) -> Looks:
    """They read the state of the agent's parts, and change nothing."""
    claims = ClaimsView(
        own=core.own,
        settings=settings.cold_start,
        claimant=outbound.claimant,
        gateways=outbound.gateways,
        traffic=core.records.traffic,
        growing=core.content.store.growing,
    )
    gatherer = Gatherer(
        roster=core.members.roster, regard=core.members.policy.regard, query=outbound.channels.query
    )
    outbound.channels.lost = gatherer.lost
    figures = _figures(core, outbound)

    def trouble(now_s: float) -> str:
        return core.members.policy.own_trouble(now_s) or gatherer.trouble(now_s)

    def gathered(moment: Moment) -> ClusterDocument:
        return _gathered(core, gatherer, figures, trouble(moment.now_s), moment)

    def silent() -> frozenset[str]:
        return frozenset(core.members.policy.regard.silent())

    map_view = MapView(
        roster=core.members.roster,
        policy=core.members.policy,
        trouble=trouble,
        told=lambda: told_states(gatherer.answers),
        doubtful=lambda: gatherer.doubtful,
    )
    overview = OverviewView(
        own=core.own,
        instance=core.credentials.instance,
        began=now(),
        roster=core.members.roster,
        policy=core.members.policy,
        store=core.content.store,
        scrubber=core.content.scrubber,
        index=outbound.index,
        claims=claims,
        puller=outbound.puller,
        traffic=core.records.traffic,
        book=core.records.book,
        readiness=core.records.readiness,
        tally=core.records.tally,
        problems=partial(problems, core),
        doctor=lambda: core.records.doctoring.last,
        trouble=trouble,
        tabs=lambda: feed.tabs,
    )
    feed = Feed(
        sections=lambda: (
            *_sections(core, outbound, claims, overview, map_view),
            Cluster(gathered, silent=silent),
        ),
        hello=partial(_hello, core),
        clock=now,
        watched=gatherer.look,
    )
    return Looks(
        claims=claims,
        overview=overview,
        map=map_view,
        feed=feed,
        gatherer=gatherer,
        figures=figures,
        cluster=gathered,
    )


def problems(core: Core) -> tuple[Problem, ...]:
    """What is wrong around this node, but for labels."""
    return (*core.records.problems.all, *core.content.filtering.unmatched)


def now() -> Moment:
    """This moment."""
    return Moment(now_s=time.monotonic(), unix_s=time.time())


def _figures(core: Core, outbound: Outbound) -> Figures:
    return Figures(
        store=core.content.store,
        scrubber=core.content.scrubber,
        index=outbound.index,
        puller=outbound.puller,
        traffic=core.records.traffic,
        book=core.records.book,
        readiness=core.records.readiness,
        tally=core.records.tally,
    )


def _gathered(
    core: Core, gatherer: Gatherer, figures: Figures, trouble: str, moment: Moment
) -> ClusterDocument:
    gathered = Gathered(
        snapshot=core.members.roster.snapshot,
        own=figures.now(),
        asked=gatherer.asked,
        answers=gatherer.answers,
        silent=frozenset(core.members.policy.regard.silent()),
        round_s=gatherer.round_s,
        trouble=trouble,
        window_s=WINDOW_S,
    )
    return cluster_view(gathered, moment)


def _hello(core: Core, moment: Moment) -> HelloDocument:
    return HelloDocument(
        time=moment.text,
        node=core.own,
        version=__version__,
        instance=core.credentials.instance,
        interval_s=INTERVAL_S,
        beat_s=BEAT_S,
        tabs_max=TABS_MAX,
    )


def _sections(
    core: Core, outbound: Outbound, claims: ClaimsView, overview: OverviewView, map_view: MapView
) -> Sequence[Section]:
    book, traffic = core.records.book, core.records.traffic
    return (
        Watched(
            "overview",
            overview.document,
            every_s=_OVERVIEW_S,
            same=without_time,
        ),
        Map(map_view),
        NewRequests(core.records.recent),
        Pulls(core.own, core.records.pulls),
        History(core.own, core.records.tally),
        Watched("claims", claims.document, every_s=_FAST_S, same=_timeless),
        Watched(
            "transfers",
            partial(transfers_view, outbound.puller, traffic),
            every_s=_SLOW_S,
            same=_timeless,
        ),
        Watched("flows", partial(flows_view, book), every_s=_SLOW_S, mark=partial(_mark, book)),
        Watched(
            "index",
            lambda moment: index_view(core.own, outbound.index.status(), moment),
            every_s=_INDEX_S,
            same=_timeless,
        ),
    )


def _timeless(document: _Timed) -> _Timed:
    """What is left of a document if its moment is not regarded."""
    return replace(document, time="")


def _mark(book: FlowBook, moment: Moment) -> object:
    """Another one when a connection was judged, or a canary sent."""
    last = next(iter(book.newest_first(1)), None)
    canaries = tuple(canary.at_s for canary in book.proof.canaries)
    return book.connected, book.proved(moment.now_s), book.foreign, last, canaries
