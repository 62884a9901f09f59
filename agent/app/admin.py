"""Makes the admin port."""

from collections.abc import Mapping
from functools import partial

from agent.admin.access import Access
from agent.admin.dashboard.routes import dashboard_routes
from agent.admin.explain import Explainer
from agent.admin.gauges import Gauges
from agent.admin.routes import (
    claims_routes,
    doctor_routes,
    explain_routes,
    flows_routes,
    glance_routes,
    health_routes,
    index_routes,
    metrics_routes,
    reach_routes,
    registries_routes,
    requests_routes,
    scrub_routes,
    topology_routes,
    traffic_routes,
)
from agent.admin.server import AdminServer
from agent.app.core import Core
from agent.app.feed import Looks, now, problems
from agent.app.outbound import Outbound
from agent.config import Settings
from agent.listen.http import HttpListener
from agent.listen.lost import is_lost_agent


def make_admin(
    settings: Settings, core: Core, outbound: Outbound, looks: Looks, listeners: Mapping[str, HttpListener]
) -> AdminServer:
    """The admin port. ``listeners``: whose connections are counted."""
    regard, readiness, clock = core.members.policy.regard, core.records.readiness, now
    gauges = Gauges(
        metrics=core.records.metrics,
        store=core.content.store,
        roster=core.members.roster,
        regard=regard,
        measurer=outbound.measurer,
        traffic=core.records.traffic,
        claims=looks.claims,
        index=outbound.index,
        book=core.records.book,
        scrubber=core.content.scrubber,
        problems=core.records.problems,
        unready=readiness.reason,
        components=readiness.problems,
        members_silent_s=lambda: core.members.membership.silent_s,
        connections=lambda: {name: listener.connections for name, listener in listeners.items()},
    )
    explainer = Explainer(
        own=core.own,
        store=core.content.store,
        index=outbound.index,
        resolver=outbound.resolver,
        roster=core.members.roster,
        policy=core.members.policy,
        puller=outbound.puller,
        claim=looks.claims.words,
    )
    return AdminServer(
        guard=core.guard,
        access=Access(
            tokens=lambda: () if core.key is None else core.key.ring.admin_tokens,
            refused=partial(core.records.metrics.turned_away, "admin"),
            is_lost=partial(is_lost_agent, core.gate),
        ),
        socket=settings.health.socket,
        introduction=core.credentials.introduction("admin"),
        routes=[
            *dashboard_routes(),
            *metrics_routes(gauges, clock),
            *health_routes(readiness),
            *explain_routes(explainer),
            *topology_routes(
                core.members.roster, regard, outbound.measurer, clock, problems=partial(problems, core)
            ),
            *reach_routes(core.members.roster, outbound.reacher, clock),
            *registries_routes(core.own, core.content.store, core.content.offer.sharing, clock),
            *traffic_routes(outbound.puller, core.records.traffic, clock),
            *requests_routes(core.own, core.records.recent, core.records.pulls, clock),
            *claims_routes(looks.claims, clock),
            *glance_routes(
                looks.overview,
                looks.map,
                looks.feed,
                looks.gatherer,
                looks.cluster,
                core.own,
                core.records.tally,
                clock,
            ),
            *index_routes(core.own, outbound.index, clock),
            *flows_routes(core.records.book, clock),
            *scrub_routes(core.content.scrubber, clock),
            *doctor_routes(core.records.doctoring, clock),
        ],
    )
