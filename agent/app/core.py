"""Makes the parts that open no connection: what this node has, whom it knows, what it writes down."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from agent.admin.readiness import Phase, Readiness
from agent.config import ColdStartSettings, CostSettings, Settings
from agent.content.factory import make_store
from agent.content.offer import Offer
from agent.content.scrub import Scrubber
from agent.content.sharing import Sharing
from agent.content.store import ContentStore
from agent.content.tags import TagAges
from agent.content.tracing import Tracer
from agent.flows.book import FlowBook
from agent.flows.sockets import AcceptedSockets
from agent.keyring import KeyFile, KeyRing
from agent.listen.filtering import Filtering
from agent.listen.traffic import Traffic
from agent.members.factory import make_membership
from agent.members.identities import Identities
from agent.members.member import Membership
from agent.members.own import OwnPlacement
from agent.members.problems import Problems
from agent.members.roster import Roster
from agent.observe.doctoring import Doctoring
from agent.observe.metrics import Metrics
from agent.observe.pulls import ImagePulls
from agent.observe.reloads import Reloads
from agent.observe.requests import RecentRequests
from agent.observe.tally import Tally
from agent.oci.browser import BrowserGuard
from agent.oci.mirrors import MirrorNames
from agent.peering.credentials import Credentials
from agent.peering.gate import Gate
from agent.peering.tls import PeerTls
from agent.pull.admission import Admission, uploads_fed
from agent.pull.fanout import Fanout
from agent.pull.pace import Pace
from agent.pull.policy import Policy
from agent.pull.regard import Regard
from agent.pull.trust import Trust
from topology.cluster import Timing, report_ttl_s
from topology.ledger import CostLedger, Prices
from topology.placement import NodeName

_CLAIM_REPORTS, _CLAIM_LEAST_S = 4, 15.0  # a name that an agent claimed counts for so many of its reports


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What this node has, and what it says of it."""

    store: ContentStore
    scrubber: Scrubber
    filtering: Filtering
    offer: Offer
    tracer: Tracer


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Which other agents there are, where they are, and what this node thinks of them."""

    roster: Roster
    membership: Membership
    placement: OwnPlacement
    policy: Policy
    known: asyncio.Event  # set by the first list of peers
    identities: Identities


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What is written down of what happens, for whoever asks the admin port."""

    metrics: Metrics
    traffic: Traffic
    book: FlowBook
    accepted: AcceptedSockets
    recent: RecentRequests
    pulls: ImagePulls
    tally: Tally
    readiness: Readiness
    problems: Problems
    reloads: Reloads
    doctoring: Doctoring


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What this node has and knows. These parts open no connection. ``key``: None: there is none."""

    own: NodeName
    credentials: Credentials
    gate: Gate
    key: KeyFile | None
    tls: PeerTls | None
    guard: BrowserGuard
    content: Content
    members: Members
    records: Records


def make_core(settings: Settings, *, doctor: Sequence[str] = ()) -> Core:
    """The parts that open no connection. Raises `KeysInvalid` for a file without a usable key.

    ``doctor``: the command that looks at this node. Empty: nobody does.
    """
    key, is_open = KeyFile(settings.peering.key) if settings.peering.key else None, settings.peering.open
    own, metrics, store = NodeName(settings.node.name), Metrics(), make_store(settings)
    reloads, problems, filtering = Reloads(metrics.reload), Problems(), Filtering(settings)
    problems.found("filters", filtering.contradictions)
    levels = settings.topology.finer_levels
    placement = OwnPlacement(own, settings.placement, levels, reloads=reloads)
    roster = _make_roster(settings, own, placement)
    metrics.peering_open(is_open)
    ledger = CostLedger(_prices(settings.costs))
    tally = Tally(ledger)
    metrics.on_lookup = tally.lookup

    def ring() -> KeyRing | None:
        return None if key is None else key.ring

    credentials = Credentials(own=own, placement=lambda: roster.placement, ring=ring, is_open=is_open)
    policy, readiness = _make_policy(settings), Readiness()
    roster.on_change(policy.regard.members_changed)
    members_known = asyncio.Event()
    roster.on_change(lambda _: members_known.set())
    offer = _make_offer(settings, own, store, roster, filtering)
    return Core(
        own=own,
        credentials=credentials,
        gate=Gate(own=own, ring=ring, is_open=is_open, roster=roster),
        key=key,
        tls=_make_tls(settings, own, reloads, metrics),
        guard=BrowserGuard((own, *settings.http.host_names)),
        content=Content(
            store=store,
            scrubber=Scrubber(store, settings.scrub, metrics),
            filtering=filtering,
            offer=offer,
            tracer=Tracer(store, offer.sharing),
        ),
        members=Members(
            roster=roster,
            membership=make_membership(settings, problems, reloads, placement.learn),
            placement=placement,
            policy=policy,
            known=members_known,
            identities=Identities(
                instance=credentials.instance,
                roster=roster,
                problems=problems,
                report_ttl_s=_CLAIM_REPORTS * max(_CLAIM_LEAST_S, settings.latency.report_s),
            ),
        ),
        records=Records(
            metrics=metrics,
            traffic=Traffic(
                ledger=ledger,
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
                fanout=_fanout(settings.cold_start),
            ),
            book=FlowBook(own=own, canary_interval_s=settings.probe.canary_interval_s),
            accepted=AcceptedSockets(),
            recent=RecentRequests(elsewhere=metrics.exemplars.find),
            pulls=ImagePulls(),
            tally=tally,
            readiness=readiness,
            problems=problems,
            reloads=reloads,
            doctoring=Doctoring(
                doctor,
                node=own,
                interval_s=settings.doctor.interval_s,
                metrics=metrics.health,
                serves=lambda: readiness.phase is Phase.SERVING,
            ),
        ),
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
        sharing=Sharing(
            exclusive=store.exclusive,
            registries=filtering.registries,
            authorities=filtering.authorities,
            mirrors=MirrorNames(
                ports={
                    listen.hostport.port,
                    listen.peer.port,
                    listen.nodeport.port,
                    settings.probe.node_port,
                },
                hosts={own, settings.node.address, listen.peer.host, listen.nodeport.host},
                services={(service.host, service.port) for service in settings.probe.services},
                is_member=roster.is_member,
            ),
        ),
        tags=filtering.tags,
        resolve=tags.resolve,
        share_imported=tags.share_imported,
        share_arriving=settings.cold_start.claims,
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


def _make_tls(settings: Settings, own: NodeName, reloads: Reloads, metrics: Metrics) -> PeerTls | None:
    tls = settings.peering.tls
    if tls is None:
        return None
    return PeerTls(tls, own=own, address=settings.node.address, reloads=reloads, count=metrics.tls_failed)


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


def _fanout(cold_start: ColdStartSettings) -> Fanout | None:
    return Fanout(followers_max=cold_start.followers_max) if cold_start.claims else None


def _prices(costs: CostSettings) -> Prices:
    return Prices(
        registry=costs.registry,
        same_zone=costs.same_zone,
        cross_zone=costs.cross_zone,
        cross_region=costs.cross_region,
        pairs={(pair.source, pair.destination): pair.usd_per_gb for pair in costs.pairs},
    )
