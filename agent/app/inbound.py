"""Makes the parts that answer clients and other nodes."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from agent.admin.feed import Feed
from agent.admin.gatherer import Gatherer
from agent.admin.server import oci_error_response
from agent.app.admin import make_admin
from agent.app.bounds import make_bounds
from agent.app.core import Core
from agent.app.feed import make_looks
from agent.app.outbound import Outbound
from agent.config import Settings
from agent.content.sizes import ContentSizes
from agent.holders.answering import QuestionDesk
from agent.latency.receiver import ReportDesk, receive_report
from agent.listen.arriving import ArrivingContent
from agent.listen.caller import REQUEST_PATHS, Callers
from agent.listen.discovery import Discovery
from agent.listen.doors import Doors
from agent.listen.draining import Draining
from agent.listen.http import HttpListener, end_with_peer, guard_frames
from agent.listen.judged import JudgedRequests
from agent.listen.local import LocalContent
from agent.listen.localclients import ContainerdCgroups, LocalClients
from agent.listen.lost import is_lost_agent
from agent.listen.names import RequestNames
from agent.listen.prefetch import Prefetcher
from agent.listen.recorder import Recorder
from agent.listen.refusals import Refusals
from agent.listen.remote import RemoteContent
from agent.listen.server import OciServer
from agent.listen.tlsgate import FailureLog, TlsGate
from agent.observe.requests import RequestPath
from agent.peering.certificate import Certificate
from agent.peering.reach import ReachDesk
from agent.peering.tls import ACCEPTED
from agent.pull.bucket import TokenBucket
from agent.sockdiag import SocketAsker
from topology.placement import NodeName

HEALTH = "health"
"""The name of the listening Unix socket at ``health.socket``, among the listening sockets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """What answers the requests of clients and of other nodes.

    ``listeners``: by their names in the settings. ``clients``: who is at the HostPort. ``health_listener``:
    what ``health.socket`` is for.
    """

    questions: QuestionDesk
    reports: ReportDesk
    draining: Draining
    listeners: Mapping[str, HttpListener]
    clients: LocalClients
    health_listener: HttpListener | None
    feed: Feed
    gatherer: Gatherer


def make_inbound(
    settings: Settings, core: Core, outbound: Outbound, sockets: Mapping[str, socket.socket]
) -> Inbound:
    """The parts that answer. ``sockets``: see `agent.app.build`."""
    introduction, roster = core.credentials.answer, core.members.roster
    looks = make_looks(settings, core, outbound)
    questions = QuestionDesk(
        outbound.resolver.reply_to,
        claims=None if outbound.claimant is None else outbound.claimant.desk,
        figures=looks.figures.now,
        upgraded=end_with_peer,
        guarded=guard_frames,
        introduction=introduction,
    )
    reports = ReportDesk(
        partial(
            receive_report,
            core.members.roster,
            core.members.identities,
            core.members.policy.regard,
            core.records.metrics,
            outbound.standing.returned,
            core.members.membership.placed,
        ),
        lambda: core.records.metrics.report("invalid"),
        upgraded=end_with_peer,
        guarded=guard_frames,
        introduction=introduction,
    )
    draining = Draining()
    clients = _local_clients(settings)
    doors = Doors(
        own=core.own,
        local=clients,
        callers=settings.listen.local_callers,
        tokens=lambda: () if core.key is None else core.key.ring.service_tokens,
        is_open=settings.peering.open,
        refused=core.records.metrics.turned_away,
        is_lost=partial(is_lost_agent, core.gate),
    )
    server = _make_server(settings, core, outbound, questions, reports, draining, doors)
    tls_failed = partial(core.records.metrics.tls_failed, ACCEPTED)
    bounds = make_bounds(
        settings.http.connections_max,
        member_at=roster.peer_at,
        turned_away=core.records.metrics.turned_away,
    )
    listeners = {
        name: HttpListener(
            sockets[name],
            server.handle,
            settings.http,
            path=path,
            watcher=core.records.accepted,
            clients=clients if path is RequestPath.HOSTPORT else None,
            gate=_make_gate(core) if path is RequestPath.PEER else None,
            heard_tls=partial(FailureLog(tls_failed).heard_tls, name),
            bounds=bounds.clients.get(name),
            connections_max=bounds.connections[name],
        )
        for name, path in REQUEST_PATHS.items()
    }
    admin = make_admin(settings, core, outbound, looks, listeners)
    answering = {
        name: HttpListener(
            sockets[name],
            admin.handle,
            settings.http,
            respond=oci_error_response,
            connections_max=bounds.connections[name],
        )
        for name in ("admin", HEALTH)
        if name in sockets
    }
    listeners["admin"] = answering["admin"]
    return Inbound(
        questions=questions,
        reports=reports,
        draining=draining,
        listeners=listeners,
        clients=clients,
        health_listener=answering.get(HEALTH),
        feed=looks.feed,
        gatherer=looks.gatherer,
    )


def _is_certified(core: Core, certificate: Certificate, node: NodeName | None) -> bool:
    """Whether this is the certificate of that node; of any member, if it is None."""
    tls, roster = core.tls, core.members.roster
    if tls is None:
        return True
    if node is not None:
        peer = roster.peer(node)
        return tls.fits(certificate, node, None if peer is None else peer.address)
    if certificate.is_of_any(roster.peers, tls.shared):
        return True
    return any(roster.peer_at(str(address)) is not None for address in certificate.addresses)


def _make_gate(core: Core) -> TlsGate | None:
    """What opens the connections of other agents, if they are encrypted."""
    if core.tls is None:
        return None
    peer_at = core.members.roster.peer_at
    return TlsGate(core.tls, is_member=lambda address: peer_at(address) is not None)


def _make_server(
    settings: Settings,
    core: Core,
    outbound: Outbound,
    questions: QuestionDesk,
    reports: ReportDesk,
    draining: Draining,
    doors: Doors,
) -> OciServer:
    sizes = ContentSizes()
    upload_limit = TokenBucket(settings.transfer.upload_bytes_per_s)
    prefetcher = Prefetcher(holds=core.content.store.holds, look_up=outbound.index.prefetch, sizes=sizes)
    return OciServer(
        own=core.own,
        doors=doors,
        guard=core.guard,
        introduction=core.credentials.introduction,
        draining=draining,
        recorder=Recorder(
            callers=Callers(
                gate=core.gate,
                peer_at=core.members.roster.peer_at,
                is_certified=partial(_is_certified, core),
            ),
            metrics=core.records.metrics,
            traffic=core.records.traffic,
            recent=core.records.recent,
            pulls=core.records.pulls,
            tally=core.records.tally,
            judged=JudgedRequests(core.records.book, core.records.metrics),
            send_stall_s=settings.http.send_stall_s,
            asked=outbound.index_asked,
        ),
        refusals=Refusals(core.records.metrics),
        questions=questions,
        reports=reports,
        reach=ReachDesk(roster=core.members.roster, dialer=outbound.measure_dialer),
        discovery=Discovery(offer=core.content.offer),
        names=RequestNames(resolver=outbound.resolver, prefetcher=prefetcher),
        prefetcher=prefetcher,
        local=LocalContent(
            own=core.own,
            store=core.content.store,
            sharing=core.content.offer.sharing,
            sizes=sizes,
            scrubber=core.content.scrubber,
            traffic=core.records.traffic,
            upload_limit=upload_limit,
        ),
        arriving=ArrivingContent(
            own=core.own,
            offer=core.content.offer,
            lineage=outbound.puller.lineages.of,
            traffic=core.records.traffic,
            upload_limit=upload_limit,
        ),
        remote=RemoteContent(
            puller=outbound.puller,
            sizes=sizes,
            authorities=core.content.filtering.authorities,
            metrics=core.records.metrics,
            redirects=settings.transfer.mode == "redirect",
            address=core.credentials.redirect,
        ),
    )


def _local_clients(settings: Settings) -> LocalClients:
    """Who is at the HostPort. In a pod with a network of its own, its clients are not on it."""
    clients = LocalClients(
        settings.listen.local_callers,
        asker=None if settings.node.pod_network else SocketAsker(),
        cgroups=ContainerdCgroups(settings.probe.containerd_cgroup),
    )
    clients.begin(settings.listen.hostport.host)
    return clients
