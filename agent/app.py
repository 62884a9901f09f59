"""Makes every part of the agent from its settings, and connects the parts. Awaits nothing, starts nothing.

`agent.lifecycle` starts and stops the parts. Call `build` inside the event loop that will run them: some
parts bind to the running loop.
"""

import asyncio
import random
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from agent.admin.explain import Explainer
from agent.admin.gauges import Gauges
from agent.admin.readiness import Phase, Readiness
from agent.admin.routes import (
    explain_routes,
    flows_routes,
    health_routes,
    metrics_routes,
    scrub_routes,
    topology_routes,
    traffic_routes,
)
from agent.admin.server import AdminServer, oci_error_response
from agent.config import ContainerdStore, CostSettings, Endpoint, Settings
from agent.config.reload import SettingsReload
from agent.content.factory import make_store
from agent.content.offer import Offer
from agent.content.scrub import Scrubber
from agent.content.sizes import ContentSizes
from agent.content.store import ContentStore, unreadable_in_words
from agent.content.tags import TagAges
from agent.documents.times import Moment
from agent.flows.book import FlowBook
from agent.flows.sockets import AcceptedSockets
from agent.hangup import Hangup
from agent.holders.announcer import announce_store
from agent.holders.answering import QuestionDesk
from agent.holders.asking import PeerAsker
from agent.holders.factory import make_index, make_tag_finder
from agent.holders.index import HolderIndex
from agent.holders.standing import StandingChannels
from agent.holders.tags import TagResolver
from agent.holders.wire import QUESTIONS, Question, Reply
from agent.latency.measurer import MEASURE_CONNECT_S, Measurer
from agent.latency.receiver import ReportDesk, receive_report
from agent.latency.samples import add_handshake
from agent.listen.caller import REQUEST_PATHS, Callers
from agent.listen.discovery import Discovery
from agent.listen.draining import Draining
from agent.listen.filtering import Filtering
from agent.listen.health import ListenerHealth
from agent.listen.http import HttpListener, end_with_peer
from agent.listen.judged import JudgedRequests
from agent.listen.local import LocalContent
from agent.listen.names import RequestNames
from agent.listen.prefetch import Prefetcher
from agent.listen.recorder import Recorder
from agent.listen.remote import RemoteContent
from agent.listen.server import OciServer
from agent.listen.sockets import ListenError, ListenErrors, inherited, open_listener
from agent.listen.traffic import Traffic
from agent.members.factory import make_membership
from agent.members.identities import Identities
from agent.members.introduction import Answer
from agent.members.member import Membership, Peer
from agent.members.own import OwnPlacement
from agent.members.problems import Problem, Problems
from agent.members.roster import Roster
from agent.memory import settle
from agent.observe import log
from agent.observe.components import Component, follow_components
from agent.observe.metrics import Metrics
from agent.observe.pulse import Pulse
from agent.observe.reloads import Reloads
from agent.observe.requests import RecentRequests
from agent.oci.browser import BrowserGuard
from agent.oci.mirrors import MirrorNames
from agent.peering.channels import Channels
from agent.peering.credentials import Credentials
from agent.peering.dial import Dialer
from agent.probe.follower import ProbeFollower
from agent.probe.reader import OwnSockets
from agent.pull.absence import not_asked
from agent.pull.admission import Admission, uploads_fed
from agent.pull.asking import AskingPolicy
from agent.pull.bucket import TokenBucket
from agent.pull.pace import Pace
from agent.pull.policy import Policy
from agent.pull.regard import Regard
from agent.pull.trust import Trust
from agent.pull.ways import Ways
from agent.transfer.checks import Checks
from agent.transfer.commits import Commits
from agent.transfer.executor import Puller
from agent.transfer.peers import PeerClient, fetch_from
from agent.transfer.relays import Relays
from agent.transfer.striper import StripeBuffers
from topology.cluster import Timing, report_ttl_s
from topology.ledger import CostLedger, Prices
from topology.placement import NodeName

_CLAIM_REPORTS, _CLAIM_LEAST_S = 4, 15.0  # a name that an agent claimed counts for so many of its reports

HEALTH = "health"
"""The name of the listening Unix socket at ``health.socket``, among the listening sockets."""

Background = Mapping[str, Callable[[], Coroutine[Any, Any, None]]]
"""The background tasks by name. Each runs until it is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What this node has and knows. These parts open no connection."""

    own: NodeName
    credentials: Credentials
    guard: BrowserGuard
    metrics: Metrics
    store: ContentStore
    scrubber: Scrubber
    roster: Roster
    membership: Membership
    placement: OwnPlacement
    policy: Policy
    traffic: Traffic
    book: FlowBook
    accepted: AcceptedSockets
    recent: RecentRequests
    readiness: Readiness
    members_known: asyncio.Event  # set by the first list of peers
    problems: Problems
    identities: Identities
    reloads: Reloads
    filtering: Filtering
    offer: Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """What this node needs to ask other nodes."""

    dialer: Dialer
    measure_dialer: Dialer
    channels: Channels[Question, Reply]
    asker: PeerAsker
    standing: StandingChannels
    index: HolderIndex
    measurer: Measurer
    client: PeerClient
    puller: Puller
    relays: Relays
    resolver: TagResolver


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """What answers the requests of clients and of other nodes.

    ``listeners``: by their names in the settings. ``health_listener``: what ``health.socket`` is for.
    """

    questions: QuestionDesk
    reports: ReportDesk
    draining: Draining
    listeners: Mapping[str, HttpListener]
    health_listener: HttpListener | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All parts of the agent, connected and not started."""

    settings: Settings
    core: Core
    outbound: Outbound
    inbound: Inbound
    background: Background


@dataclass(frozen=True, slots=True, kw_only=True)
class Rereading:
    """When settings are read again, and how."""

    hangup: Hangup
    read: Callable[[], Settings]


def build(
    settings: Settings,
    sockets: Mapping[str, socket.socket],
    rereading: Rereading,
) -> Parts:
    """The parts of an agent with these settings.

    ``sockets``: see `open_listeners`. One more, named `HEALTH`, answers for this agent alone.
    """
    core = _make_core(settings)
    outbound = _make_outbound(settings, core)
    inbound = _make_inbound(settings, core, outbound, sockets)
    return Parts(
        settings=settings,
        core=core,
        outbound=outbound,
        inbound=inbound,
        background=_make_background(settings, core, outbound, inbound, rereading),
    )


def open_listeners(settings: Settings, given: Sequence[socket.socket] = ()) -> dict[str, socket.socket]:
    """The four listening sockets, by their names in the settings.

    ``given``: those of an older agent of this node. The ones that fit are used, the others are left alone.
    Raises `ListenErrors` if one can't be opened. Then none that was opened here stays open.
    """
    found: dict[str, socket.socket] = {}
    opened: list[socket.socket] = []
    errors: list[ListenError] = []
    for entry in fields(settings.listen):
        endpoint: Endpoint = getattr(settings.listen, entry.name)
        try:
            listener = inherited(given, endpoint)
            if listener is None:
                listener = open_listener(entry.name, endpoint)
                opened.append(listener)
            found[entry.name] = listener
        except ListenError as error:
            errors.append(error)
    if errors:
        for listener in opened:
            listener.close()
        raise ListenErrors(errors)
    return found


def _make_core(settings: Settings) -> Core:
    own, metrics, store = NodeName(settings.node.name), Metrics(), make_store(settings)
    reloads, problems, filtering = Reloads(metrics.reload), Problems(), Filtering(settings)
    problems.found("filters", filtering.contradictions)
    levels = settings.topology.finer_levels
    placement = OwnPlacement(own, settings.placement, levels, reloads=reloads)
    roster = _make_roster(settings, own, placement)
    credentials = Credentials(own=own, placement=lambda: roster.placement)
    policy = _make_policy(settings)
    roster.on_change(policy.regard.members_changed)
    members_known = asyncio.Event()
    roster.on_change(lambda _: members_known.set())
    return Core(
        own=own,
        credentials=credentials,
        guard=BrowserGuard((own, *settings.http.host_names)),
        metrics=metrics,
        store=store,
        scrubber=Scrubber(store, settings.scrub, metrics),
        roster=roster,
        membership=make_membership(settings, problems, reloads, placement.learn),
        placement=placement,
        policy=policy,
        traffic=Traffic(
            ledger=CostLedger(_prices(settings.costs)),
            roster=roster,
            metrics=metrics,
            admission=Admission(
                uploads_max=uploads_fed(
                    settings.transfer.uploads_max,
                    upload_bytes_per_s=settings.transfer.upload_bytes_per_s,
                    floor_bytes_per_s=settings.pull.floor_bytes_per_s,
                ),
                bytes_max=settings.transfer.upload_bytes_max,
            ),
            young_s=settings.latency.interval_s,
        ),
        book=FlowBook(own=own, canary_interval_s=settings.probe.canary_interval_s),
        accepted=AcceptedSockets(),
        recent=RecentRequests(),
        readiness=Readiness(),
        members_known=members_known,
        problems=problems,
        identities=Identities(
            instance=credentials.instance,
            roster=roster,
            problems=problems,
            report_ttl_s=_CLAIM_REPORTS * max(_CLAIM_LEAST_S, settings.latency.report_s),
        ),
        reloads=reloads,
        filtering=filtering,
        offer=_make_offer(settings, own, store, roster, filtering),
    )


def _make_offer(
    settings: Settings, own: NodeName, store: ContentStore, roster: Roster, filtering: Filtering
) -> Offer:
    listen, tags = settings.listen, settings.tags
    ages = TagAges(settings.state_dir / "tag-ages.json" if settings.state_dir else None)
    store.on_tag(ages.written)
    return Offer(
        own=own,
        store=store,
        ages=ages,
        registries=filtering.registries,
        tags=filtering.tags,
        resolve=tags.resolve,
        share_imported=tags.share_imported,
        mirrors=MirrorNames(
            ports={listen.hostport.port, listen.peer.port, listen.nodeport.port, settings.probe.node_port},
            hosts={own, settings.node.address, listen.peer.host, listen.nodeport.host},
            services={(service.host, service.port) for service in settings.probe.services},
            is_member=roster.is_member,
        ),
    )


def _make_roster(settings: Settings, own: NodeName, placement_source: OwnPlacement) -> Roster:
    placement, problems = placement_source.read()
    latency = settings.latency
    return Roster(
        own=own,
        placement=placement,
        problems=problems,
        timing=Timing(
            window_s=latency.window_s,
            half_life_s=latency.half_life_s,
            report_ttl_s=report_ttl_s(latency.report_s),
        ),
    )


def _make_policy(settings: Settings) -> Policy:
    pull, transfer = settings.pull, settings.transfer
    regard = Regard(
        cooloff_s=pull.cooloff_s,
        cooloff_max_s=pull.cooloff_max_s,
        report_s=settings.latency.report_s,
        trust=Trust(commit_s=transfer.commit_s, suspect_s=transfer.suspect_s),
    )
    return Policy(
        regard=regard,
        pace=Pace(patience_s=pull.patience_s),
        pull=pull,
        transfer=transfer,
        chance=random.uniform,
    )


def _make_outbound(settings: Settings, core: Core) -> Outbound:
    roster, policy, metrics, transfer = core.roster, core.policy, core.metrics, settings.transfer
    ways, introduced = Ways(), partial(_introduced, core.identities, core.membership)
    dialer = Dialer(
        credentials=core.credentials,
        connect_s=settings.pull.connect_s,
        connected=partial(add_handshake, roster, metrics),
        introduced=introduced,
        ways=ways,
    )
    # Peers recognise a reporter by its address, so measuring connections use this node's own address.
    measure_dialer = Dialer(
        credentials=core.credentials,
        connect_s=MEASURE_CONNECT_S,
        introduced=introduced,
        local_address=_own_address(settings),
        ways=ways,
    )
    channels = Channels(dialer, QUESTIONS)
    roster.on_change(channels.members_changed)
    asking = AskingPolicy(
        regard=policy.regard,
        at_once=settings.lookup.at_once,
        patience_s=settings.lookup.patience_s,
        timeout_s=settings.lookup.timeout_s,
    )
    roster.on_change(asking.members_changed)
    asker = PeerAsker(
        roster=roster,
        policy=asking,
        query=channels.query,
        metrics=metrics,
    )
    index = make_index(settings, asker=asker, metrics=metrics)
    client = PeerClient(dialer, stall_s=settings.pull.stall_s)
    relays = Relays(zero_copy=transfer.zero_copy)
    checks = Checks(
        fetch=lambda node, wanted: fetch_from(
            roster, client, node, wanted, partial(core.traffic.fetched, node)
        ),
        policy=policy,
        metrics=metrics,
        stall_s=settings.pull.stall_s,
        floor_bytes_per_s=settings.pull.floor_bytes_per_s,
    )
    commits = Commits(store=core.store, policy=policy, checks=checks, metrics=metrics, clock=time.monotonic)
    return Outbound(
        dialer=dialer,
        measure_dialer=measure_dialer,
        channels=channels,
        asker=asker,
        standing=StandingChannels(
            roster=roster, greet=asker.greet, meet=client.meet, at_once=settings.lookup.at_once
        ),
        index=index,
        measurer=Measurer(
            roster=roster,
            regard=policy.regard,
            settings=settings.latency,
            metrics=metrics,
            load=lambda: core.traffic.uploads,
            dialer=measure_dialer,
        ),
        client=client,
        puller=Puller(
            index=index,
            roster=roster,
            policy=policy,
            client=client,
            stall_s=settings.pull.stall_s,
            metrics=metrics,
            relays=relays,
            buffers=StripeBuffers(transfer.stripe_buffer_bytes),
            limit=TokenBucket(transfer.download_bytes_per_s),
            commits=commits,
            checks=checks,
        ),
        relays=relays,
        resolver=TagResolver(
            offer=core.offer,
            finder=make_tag_finder(asker=asker),
            max_age_s=settings.tags.max_age_s,
            not_asked=partial(_not_asked, policy),
        ),
    )


def _make_inbound(
    settings: Settings, core: Core, outbound: Outbound, sockets: Mapping[str, socket.socket]
) -> Inbound:
    introduction = core.credentials.introduction
    questions = QuestionDesk(outbound.resolver.reply_to, upgraded=end_with_peer, introduction=introduction)
    reports = ReportDesk(
        partial(
            receive_report,
            core.roster,
            core.identities,
            core.policy.regard,
            core.metrics,
            outbound.standing.returned,
            core.membership.placed,
        ),
        lambda: core.metrics.report("invalid"),
        upgraded=end_with_peer,
        introduction=introduction,
    )
    draining = Draining()
    server = _make_server(settings, core, outbound, questions, reports, draining)
    listeners = {
        name: HttpListener(sockets[name], server.handle, settings.http, path=path, watcher=core.accepted)
        for name, path in REQUEST_PATHS.items()
    }
    admin = _make_admin(core, outbound, listeners)
    answering = {
        name: HttpListener(sockets[name], admin.handle, settings.http, respond=oci_error_response)
        for name in ("admin", HEALTH)
        if name in sockets
    }
    listeners["admin"] = answering["admin"]
    return Inbound(
        questions=questions,
        reports=reports,
        draining=draining,
        listeners=listeners,
        health_listener=answering.get(HEALTH),
    )


def _make_server(
    settings: Settings,
    core: Core,
    outbound: Outbound,
    questions: QuestionDesk,
    reports: ReportDesk,
    draining: Draining,
) -> OciServer:
    sizes = ContentSizes()
    prefetcher = Prefetcher(holds=core.store.holds, look_up=outbound.index.prefetch, sizes=sizes)
    return OciServer(
        own=core.own,
        guard=core.guard,
        introduction=core.credentials.introduction,
        draining=draining,
        recorder=Recorder(
            callers=Callers(credentials=core.credentials, peer_at=core.roster.peer_at),
            metrics=core.metrics,
            traffic=core.traffic,
            recent=core.recent,
            judged=JudgedRequests(core.book, core.metrics),
            send_stall_s=settings.http.send_stall_s,
        ),
        questions=questions,
        reports=reports,
        discovery=Discovery(offer=core.offer),
        names=RequestNames(resolver=outbound.resolver, prefetcher=prefetcher),
        prefetcher=prefetcher,
        local=LocalContent(
            own=core.own,
            store=core.store,
            sizes=sizes,
            scrubber=core.scrubber,
            traffic=core.traffic,
            upload_limit=TokenBucket(settings.transfer.upload_bytes_per_s),
        ),
        remote=RemoteContent(
            puller=outbound.puller,
            sizes=sizes,
            metrics=core.metrics,
            redirects=settings.transfer.mode == "redirect",
        ),
    )


def _make_admin(core: Core, outbound: Outbound, listeners: Mapping[str, HttpListener]) -> AdminServer:
    regard, readiness, clock = core.policy.regard, core.readiness, _now
    gauges = Gauges(
        metrics=core.metrics,
        store=core.store,
        roster=core.roster,
        regard=regard,
        measurer=outbound.measurer,
        admission=core.traffic.admission,
        book=core.book,
        scrubber=core.scrubber,
        problems=core.problems,
        unready=readiness.reason,
        members_silent_s=lambda: core.membership.silent_s,
        connections=lambda: {name: listener.connections for name, listener in listeners.items()},
    )
    explainer = Explainer(
        own=core.own,
        store=core.store,
        index=outbound.index,
        resolver=outbound.resolver,
        roster=core.roster,
        policy=core.policy,
        puller=outbound.puller,
    )
    return AdminServer(
        guard=core.guard,
        introduction=core.credentials.introduction("admin"),
        routes=[
            *metrics_routes(gauges, clock),
            *health_routes(readiness),
            *explain_routes(explainer),
            *topology_routes(
                core.roster, regard, outbound.measurer, clock, problems=partial(_problems, core)
            ),
            *traffic_routes(outbound.puller, core.traffic, core.recent, clock),
            *flows_routes(core.book, clock),
            *scrub_routes(core.scrubber, clock),
        ],
    )


def _problems(core: Core) -> tuple[Problem, ...]:
    return (*core.problems.all, *core.filtering.unmatched)


def _make_background(
    settings: Settings,
    core: Core,
    outbound: Outbound,
    inbound: Inbound,
    rereading: Rereading,
) -> Background:
    reload = _make_reload(settings, core, rereading.read)
    follower = ProbeFollower(
        settings.probe.socket,
        own=OwnSockets(
            node=core.own,
            listeners=tuple(one.socket for one in inbound.listeners.values()),
            accepted=core.accepted,
        ),
        book=core.book,
        roster=core.roster,
        metrics=core.metrics,
    )
    pulse = Pulse(core.metrics.loop_lag)
    listening = ListenerHealth(inbound.listeners, expected=lambda: core.readiness.phase is Phase.SERVING)
    components = _components(settings, core, inbound, listening, pulse)
    core.readiness.watch(components)
    return {
        "pulse": pulse.run,
        "listeners": listening.run,
        "store": core.store.run,
        "holder index": outbound.index.run,
        "announcer": partial(announce_store, core.offer, outbound.index),
        "members": partial(core.membership.run, core.roster.update),
        "placement": partial(core.placement.run, core.roster.place),
        "latency": outbound.measurer.run,
        "standing channels": outbound.standing.run,
        "memory": settle,
        "topology": core.roster.follow,
        "verdicts": follower.run,
        "commits": outbound.puller.commits.run,
        "checks": outbound.puller.checks.run,
        "scrub": core.scrubber.run,
        "identities": core.identities.run,
        "components": partial(follow_components, components),
        "reload": partial(rereading.hangup.follow, reload),
    }


def _components(
    settings: Settings, core: Core, inbound: Inbound, listening: ListenerHealth, pulse: Pulse
) -> tuple[Component, ...]:
    listeners = (
        Component(
            name=f"listen.{name}",
            problem=partial(listening.problem, name),
            hint="see `ss -ltnp` and the limit of open files; a restart opens the socket again",
            state=partial(_connections, listener),
        )
        for name, listener in inbound.listeners.items()
    )
    return (
        *_store_components(settings, core),
        *listeners,
        Component(
            name="the membership",
            problem=lambda: _membership_problem(settings, core),
            hint=lambda: core.membership.hint or "see the log: it says why the list of peers can't be read",
            required=False,
            state=lambda: f"{len(core.roster)} peers",
        ),
        Component(
            name="the probe",
            problem=lambda: None,  # a node without one serves as well; its metrics tell
            hint="",
            required=False,
            state=lambda: core.book.proved(time.monotonic())[1],
        ),
        Component(name="the event loop", problem=lambda: None, hint="", required=False, state=pulse.state),
    )


def _store_components(settings: Settings, core: Core) -> tuple[Component, ...]:
    if isinstance(settings.store, ContainerdStore):
        hint = "does containerd run, and may this agent use the socket and the root that `store` names?"
    else:
        hint = "may this agent read the image layout that `store` names?"

    def state() -> str:
        blobs, size_bytes = core.store.totals
        return f"{blobs} blobs, {size_bytes / 1e9:.1f} GB"

    return (
        Component(name="the store", problem=lambda: core.store.problem, hint=hint, state=state),
        Component(
            name="part of this node's content",
            problem=partial(unreadable_in_words, core.store),
            hint="let the agent read these files; `shorthaul scrub` lists them; no peer is told",
            required=False,
            state=lambda: "all of it can be read",
        ),
    )


def _connections(listener: HttpListener) -> str:
    return f"{listener.connections} connections"


def _membership_problem(settings: Settings, core: Core) -> str | None:
    if core.membership.problem is not None:
        return core.membership.problem
    if settings.membership.name == "none" or core.members_known.is_set():
        return None
    return "no list of peers was read yet"


def _now() -> Moment:
    return Moment(now_s=time.monotonic(), unix_s=time.time())


def _make_reload(
    settings: Settings, core: Core, read: Callable[[], Settings]
) -> Callable[[], Coroutine[Any, Any, None]]:
    """What SIGHUP does: read the peers, the labels and the settings again."""

    def use_filters(new: Settings) -> None:
        core.filtering.use(new)
        core.problems.found("filters", core.filtering.contradictions)

    changing = SettingsReload(settings, read, core.reloads)
    changing.on(core.filtering.KEYS, use_filters)
    changing.on(["log.level"], lambda new: log.set_level(new.log.level))

    async def reload() -> None:
        core.membership.reread()
        core.placement.reread()
        await changing.reload()

    return reload


def _introduced(identities: Identities, membership: Membership, peer: Peer, answer: Answer | None) -> None:
    """This answered at the peer's address, and perhaps said where it is."""
    identities.answered(peer, answer)
    who = None if answer is None else answer.who
    if who is not None and who.placement is not None and who.name == peer.name:
        membership.placed(peer, who.placement)


def _not_asked(policy: Policy) -> str:
    """The end of a sentence that says which peers were not asked about a tag."""
    now_s = time.monotonic()
    return not_asked(policy.unasked(now_s), policy.own_trouble(now_s))


def _own_address(settings: Settings) -> str | None:
    """The address for measuring connections: peers recognise this node by it. None: any address."""
    host = settings.listen.peer.host
    return None if host in ("0.0.0.0", "::") else host


def _prices(costs: CostSettings) -> Prices:
    return Prices(
        registry=costs.registry,
        same_zone=costs.same_zone,
        cross_zone=costs.cross_zone,
        cross_region=costs.cross_region,
        pairs={(pair.source, pair.destination): pair.usd_per_gb for pair in costs.pairs},
    )
