"""Makes the parts that ask other nodes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from agent.app.core import Core
from agent.config import Settings
from agent.content.identity import store_identity
from agent.holders.asking import PeerAsker
from agent.holders.claimant import Claimant
from agent.holders.factory import (
    IndexNeeds,
    make_askers,
    make_claimant,
    make_claims,
    make_gateways,
    make_index,
    make_tag_finder,
)
from agent.holders.fencedclaims import FencedClaims
from agent.holders.gateways import Gateways
from agent.holders.index import HolderIndex
from agent.holders.standing import StandingChannels
from agent.holders.tags import TagResolver
from agent.holders.valkey.asked import IndexServer
from agent.holders.wire import QUESTIONS, Question, Reply
from agent.latency.measurer import MEASURE_CONNECT_S, Measurer
from agent.latency.samples import add_handshake
from agent.members.identities import Identities
from agent.members.introduction import Answer
from agent.members.member import Membership, Peer
from agent.oci.digest import Digest
from agent.peering.channels import Channels
from agent.peering.dial import Dialer
from agent.peering.reach import Reacher
from agent.pull.absence import not_asked
from agent.pull.acceptance import Acceptance
from agent.pull.asking import AskingPolicy
from agent.pull.bucket import TokenBucket
from agent.pull.lineages import Lineages
from agent.pull.policy import Policy
from agent.pull.ways import Ways
from agent.transfer.checks import Checks
from agent.transfer.commits import Commits
from agent.transfer.executor import Puller
from agent.transfer.peers import PeerClient, fetch_from
from agent.transfer.relays import Relays
from agent.transfer.striper import StripeBuffers


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """What this node needs to ask other nodes."""

    dialer: Dialer
    measure_dialer: Dialer
    channels: Channels[Question, Reply]
    asker: PeerAsker
    standing: StandingChannels
    index: HolderIndex
    index_server: IndexServer | None
    index_asked: Callable[[Digest, bool], None]
    claimant: Claimant | None
    fenced: FencedClaims | None
    gateways: Gateways
    measurer: Measurer
    client: PeerClient
    puller: Puller
    relays: Relays
    resolver: TagResolver
    reacher: Reacher
    acceptance: Acceptance


def make_outbound(settings: Settings, core: Core) -> Outbound:
    """The parts that ask other nodes."""
    roster, policy = core.members.roster, core.members.policy
    metrics, transfer = core.records.metrics, settings.transfer
    ways, acceptance = Ways(), Acceptance()
    roster.on_change(acceptance.members_changed)
    introduced = partial(_introduced, core.members.identities, core.members.membership)
    dialer = Dialer(
        credentials=core.credentials,
        connect_s=settings.pull.connect_s,
        connected=partial(add_handshake, roster, metrics),
        introduced=introduced,
        ways=ways,
        tls=core.tls,
        acceptance=acceptance,
    )
    # Peers recognise a reporter by its address, so measuring connections use this node's own address.
    measure_dialer = Dialer(
        credentials=core.credentials,
        connect_s=MEASURE_CONNECT_S,
        introduced=introduced,
        local_address=_own_address(settings),
        ways=ways,
        tls=core.tls,
        acceptance=acceptance,
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
    askers = make_askers(asker, asking, at_once=settings.lookup.at_once, roster=roster)
    parts = make_index(
        settings, askers=askers, roster=roster, metrics=metrics, needs=_index_needs(settings, core)
    )
    prices = core.records.traffic.ledger.prices
    gateways = make_gateways(settings, roster=roster, regard=policy.regard, prices=prices)
    claimant = make_claimant(
        settings,
        asker=asker,
        roster=roster,
        regard=policy.regard,
        store=core.content.store,
        authorities=core.content.filtering.authorities,
        metrics=metrics,
        gateways=gateways,
    )
    claims = make_claims(
        settings,
        claimant,
        store=core.content.store,
        roster=roster,
        regard=policy.regard,
        metrics=metrics,
        server=parts.server,
    )
    client = PeerClient(dialer, stall_s=settings.pull.stall_s, authorities=core.content.filtering.authorities)
    relays = Relays(zero_copy=transfer.zero_copy)
    checks = Checks(
        fetch=lambda node, wanted: fetch_from(
            roster, client, node, wanted, partial(core.records.traffic.fetched, node)
        ),
        policy=policy,
        metrics=metrics,
        stall_s=settings.pull.stall_s,
        floor_bytes_per_s=settings.pull.floor_bytes_per_s,
    )
    commits = Commits(
        store=core.content.store, policy=policy, checks=checks, metrics=metrics, clock=time.monotonic
    )
    return Outbound(
        dialer=dialer,
        measure_dialer=measure_dialer,
        channels=channels,
        asker=asker,
        standing=StandingChannels(
            roster=roster, greet=asker.greet, meet=client.meet, at_once=settings.lookup.at_once
        ),
        index=parts.index,
        index_server=parts.server,
        index_asked=parts.asked,
        claimant=claimant,
        fenced=claims.fenced,
        gateways=gateways,
        measurer=Measurer(
            roster=roster,
            regard=policy.regard,
            settings=settings.latency,
            metrics=metrics,
            load=lambda: core.records.traffic.uploads,
            dialer=measure_dialer,
        ),
        client=client,
        puller=Puller(
            index=parts.index,
            fetching=parts.fetching,
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
            lineages=Lineages(core.own),
            follows=settings.cold_start.claims,
            claimant=claims.claims,
            outcast=partial(_is_outcast, core, acceptance),
        ),
        relays=relays,
        resolver=TagResolver(
            offer=core.content.offer,
            finder=make_tag_finder(askers),
            max_age_s=settings.tags.max_age_s,
            not_asked=partial(_not_asked, policy),
        ),
        acceptance=acceptance,
        reacher=Reacher(roster=roster, dialer=measure_dialer, suspects=policy.regard.silent),
    )


def _index_needs(settings: Settings, core: Core) -> IndexNeeds:
    key, store = core.key, core.content.store
    return IndexNeeds(
        agent=core.credentials.instance,
        key_ids=lambda: () if key is None else key.ring.ids,
        members_known=core.members.known.wait,
        growing=lambda digest: store.growing(digest) is not None,
        store=partial(store_identity, settings.store),
    )


def _introduced(identities: Identities, membership: Membership, peer: Peer, answer: Answer | None) -> None:
    """This answered at the peer's address, and perhaps said where it is."""
    identities.answered(peer, answer)
    who = None if answer is None else answer.who
    if who is not None and who.placement is not None and who.name == peer.name:
        membership.placed(peer, who.placement)


def _is_outcast(core: Core, acceptance: Acceptance) -> bool:
    """Whether peers refuse this node's proof, or its certificate can't be used."""
    certificate = core.tls is not None and core.tls.problem is not None
    return certificate or acceptance.problem(time.monotonic()) is not None


def _not_asked(policy: Policy) -> str:
    """The end of a sentence that says which peers were not asked about a tag."""
    now_s = time.monotonic()
    return not_asked(policy.unasked(now_s), policy.own_trouble(now_s))


def _own_address(settings: Settings) -> str | None:
    """The address for measuring connections: peers recognise this node by it. None: any address."""
    host = settings.listen.peer.host
    return None if host in ("0.0.0.0", "::") else host
