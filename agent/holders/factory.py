"""Makes the holder index and the tag finder that the settings name. Nothing else names an implementation."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from agent.config import IndexUrl, Settings
from agent.content.store import ContentStore
from agent.documents.index import IndexSource
from agent.holders.asking import PeerAsker
from agent.holders.claimant import Claimant
from agent.holders.claimdesk import ClaimDesk
from agent.holders.claims import ClaimBook, ClaimKey, Held
from agent.holders.clusterclaims import Claims, ClusterClaims
from agent.holders.fencedclaims import FencedClaims, Fences
from agent.holders.gateways import Gateways
from agent.holders.index import HolderIndex
from agent.holders.scatter import ScatterIndex
from agent.holders.tagfinder import ScatterTagFinder, TagFinder
from agent.holders.valkey.asked import IndexServer
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.authority import Authorities
from agent.oci.digest import Digest
from agent.pull.asking import AskingPolicy
from agent.pull.nearby import (
    EVERYBODY_MAX,
    OTHERS_MAX,
    SCATTER_MAX,
    TAGS_WAIT_MAX_S,
    NearbyAsking,
    QuestionBudget,
)
from agent.pull.regard import Regard
from topology.ledger import Prices
from topology.placement import NodeName
from topology.spread import AnyZone, Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Askers:
    """Who asks peers. ``everybody``: all of them. ``nearby``: the own zone and a few.

    ``scatter``, ``tags``: all of them, in a large cluster those nearby, or the own zone alone.
    """

    everybody: PeerAsker
    nearby: PeerAsker
    scatter: PeerAsker
    tags: PeerAsker


def make_askers(everybody: PeerAsker, policy: AskingPolicy, *, at_once: int, roster: Roster) -> Askers:
    """The askers of this node. Those of the peers nearby share one budget."""
    budget = QuestionBudget()

    def nearby(others_max: int, wait_max_s: float = math.inf) -> NearbyAsking[Peer]:
        return NearbyAsking(
            policy,
            is_near=partial(is_in_own_zone, roster),
            at_once=at_once,
            budget=budget,
            others_max=others_max,
            wait_max_s=wait_max_s,
        )

    return Askers(
        everybody=everybody,
        nearby=everybody.only(nearby(OTHERS_MAX)),
        scatter=everybody.only(nearby(OTHERS_MAX), above=SCATTER_MAX),
        tags=everybody.only(nearby(0, TAGS_WAIT_MAX_S), above=EVERYBODY_MAX),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexParts:
    """The index, and the server that it is kept in. None: there is none.

    ``fetching``: tell it of each digest that this node begins to fetch. ``asked``: tell it of each digest
    that another node asked this one for, and whether it was given.
    """

    index: HolderIndex
    server: IndexServer | None = None
    fetching: Callable[[Digest], None] = lambda _: None
    asked: Callable[[Digest, bool], None] = lambda _digest, _given: None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexNeeds:
    """What an index in a server needs of the agent.

    ``agent``: tells this agent from the node's next one. ``key_ids``: of the cluster's keys, the one that
    signs first. ``members_known``: returns when there is a list of members. ``growing``: whether this node is
    still fetching a digest. ``store``: a word that tells this node's store from one that is made anew.
    """

    agent: str
    key_ids: Callable[[], tuple[str, ...]]
    members_known: Callable[[], Awaitable[object]]
    growing: Callable[[Digest], bool]
    store: Callable[[], str]


def make_index(
    settings: Settings, *, askers: Askers, roster: Roster, metrics: Metrics, needs: IndexNeeds
) -> IndexParts:
    """The holder index that ``settings.index`` names."""
    match settings.index:
        case "scatter":
            scatter = ScatterIndex(
                askers.scatter,
                settings=settings.lookup,
                metrics=metrics,
                follows=_followed(settings, roster),
                peers=roster.__len__,
            )
            return IndexParts(index=scatter)
        case IndexUrl():
            return _make_in_server(settings, askers=askers, roster=roster, metrics=metrics, needs=needs)
        case _:
            raise AssertionError(f"no such holder index: {settings.index}")  # parse_index refuses it


def _make_in_server(
    settings: Settings, *, askers: Askers, roster: Roster, metrics: Metrics, needs: IndexNeeds
) -> IndexParts:
    # The client takes 7 MiB, and is not imported by agents that have no server.
    from agent.holders.valkey.factory import make_server
    from agent.holders.valkey.index import ValkeyIndex

    server = make_server(
        settings,
        ids=needs.key_ids,
        members=lambda: len(roster) + 1,
        failed=metrics.index.failed,
        members_known=needs.members_known,
    )
    index = ValkeyIndex(
        server,
        url=str(settings.index),
        prefix=settings.valkey.prefix,
        agent=needs.agent,
        roster=roster,
        settings=settings.lookup,
        metrics=metrics,
        fallback=make_fallback(settings, askers=askers, roster=roster, metrics=metrics),
        members_known=needs.members_known,
        ask_peer=askers.everybody.ask_slowly,
        follows=_followed(settings, roster),
        growing=needs.growing,
        store=needs.store,
    )
    return IndexParts(index=index, server=server, fetching=index.fetching, asked=index.asked)


def _followed(settings: Settings, roster: Roster) -> Callable[[NodeName], bool]:
    """Whether this node takes content from a peer while that one is still fetching it."""
    return partial(is_in_own_zone, roster) if settings.cold_start.claims else _nobody


def make_fallback(settings: Settings, *, askers: Askers, roster: Roster, metrics: Metrics) -> ScatterIndex:
    """What answers in place of an index in a server: it asks the peers nearby."""
    return ScatterIndex(
        askers.nearby,
        settings=settings.lookup,
        metrics=metrics,
        follows=_followed(settings, roster),
        source=IndexSource.FALLBACK,
    )


def make_claimant(
    settings: Settings,
    *,
    asker: PeerAsker,
    roster: Roster,
    regard: Regard,
    store: ContentStore,
    authorities: Authorities,
    metrics: Metrics,
    gateways: Gateways,
) -> Claimant | None:
    """What asks for claims, with this node's own arbiter. None: nobody is asked."""
    cold = settings.cold_start
    if not cold.claims:
        return None
    book = ClaimBook(start_s=cold.claim_start_s)
    return Claimant(
        roster=roster,
        regard=regard,
        store=store,
        desk=ClaimDesk(book, sources=partial(_sources, gateways, book)),
        ask_peer=asker.ask_slowly,
        authorities=authorities,
        near=partial(is_in_own_zone, roster),
        settings=cold,
        metrics=metrics,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimParts:
    """What a pull asks whose turn it is, within the scope that the settings name. None: nobody is asked.

    ``fenced``: keeps the fences of these claims at the index's server. None: there is no server.
    """

    claims: Claims | None = None
    fenced: FencedClaims | None = None


def make_claims(
    settings: Settings,
    claimant: Claimant | None,
    *,
    store: ContentStore,
    roster: Roster,
    regard: Regard,
    metrics: Metrics,
    server: IndexServer | None,
) -> ClaimParts:
    """What asks for claims. ``server``: guards them, if there is one."""
    if claimant is None:
        return ClaimParts()
    fenced = None
    if server is not None:
        fenced = FencedClaims(
            claimant,
            _make_fences(settings, server, roster),
            own=roster.own,
            store=store,
            usable=partial(_is_there, roster, regard),
            count=metrics.index.fenced,
        )
    claims = fenced or claimant
    if settings.cold_start.scope == "zone":
        return ClaimParts(claims=claims, fenced=fenced)

    def size_of(digest: Digest) -> int | None:
        growing = store.growing(digest)
        return None if growing is None else growing.size_bytes

    return ClaimParts(claims=ClusterClaims(claims, size_of=size_of), fenced=fenced)


def _make_fences(settings: Settings, server: IndexServer, roster: Roster) -> Fences:
    from agent.holders.valkey.fences import ValkeyFences
    from agent.holders.valkey.layout import Layout

    def scope(key: ClaimKey) -> str:
        return "cluster" if key.cluster else f"zone={roster.snapshot.zone_of(roster.own) or ''}"

    return ValkeyFences(server, Layout(settings.valkey.prefix), scope=scope)


def _is_there(roster: Roster, regard: Regard, node: NodeName) -> bool:
    """Whether a node is a member that may be asked now."""
    return roster.peer(node) is not None and not regard.is_cooling(node, time.monotonic())


def make_gateways(settings: Settings, *, roster: Roster, regard: Regard, prices: Prices) -> Gateways:
    """Which zone's gateway takes a content from which, where this node decides."""

    def way(one: AnyZone, other: AnyZone) -> Way:
        return Way(usd_per_gb=prices.usd_per_gb(one, other), rtt_us=roster.topology.between_us(one, other))

    return Gateways(
        zone_of=lambda node: roster.snapshot.zone_of(node),
        is_there=lambda node: node == roster.own or _is_there(roster, regard, node),
        way=way,
        children_max=settings.cold_start.followers_max,
    )


def _sources(
    gateways: Gateways, book: ClaimBook, key: ClaimKey, asker: NodeName, held: Held
) -> tuple[NodeName, ...]:
    """Within a zone everybody follows the node that fetches. It sends them on to its other followers."""
    return gateways.sources(key, asker, held.sources[0], book.asked(key)) if key.cluster else held.sources


def is_in_own_zone(roster: Roster, node: NodeName) -> bool:
    """Nothing that is still arriving crosses zones, unless a claim says so."""
    snapshot = roster.snapshot
    return snapshot.zone_of(node) == snapshot.zone_of(roster.own)


def _nobody(_: NodeName) -> bool:
    return False


def make_tag_finder(askers: Askers) -> TagFinder:
    """The tag finder. It is the same one with every index."""
    return ScatterTagFinder(askers.tags)
