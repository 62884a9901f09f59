"""Wiring: the one place where the parts meet, and the order in which they start and stop."""

import asyncio
import gc
import logging
import resource
import signal
import socket
import time
from dataclasses import fields

import uvloop

from agent.admin.explain import Explainer
from agent.admin.gauges import Gauges
from agent.admin.routes import (
    explain_routes,
    flows_routes,
    health_routes,
    metrics_routes,
    scrub_routes,
    topology_routes,
    traffic_routes,
)
from agent.admin.server import AdminServer
from agent.config import CostSettings, Endpoint, Settings
from agent.content.factory import make_store
from agent.content.scrub import Scrubber
from agent.content.sizes import ContentSizes
from agent.content.tags import TagAges
from agent.flows.book import FlowBook
from agent.holders.announcer import announce_store
from agent.holders.answering import QuestionDesk
from agent.holders.asking import RingAsker
from agent.holders.factory import make_index, make_tag_finder
from agent.holders.index import HolderIndex
from agent.holders.tagfinder import TagFinder
from agent.holders.tags import TagResolver
from agent.holders.wire import QUESTIONS
from agent.latency.hearing import ReportDesk
from agent.latency.prober import PROBE_CONNECT_S, Prober
from agent.latency.samples import add_sample
from agent.latency.tcpinfo import read_tcp_info
from agent.latency.wire import NodeReport
from agent.listen.caller import REQUEST_PATHS
from agent.listen.discovery import Discovery
from agent.listen.http import HttpListener, end_with_peer
from agent.listen.judged import JudgedRequests
from agent.listen.local import LocalContent
from agent.listen.names import RequestNames
from agent.listen.prefetch import Prefetcher
from agent.listen.recorder import Recorder
from agent.listen.remote import RemoteContent
from agent.listen.server import OciServer
from agent.listen.sockets import ListenError, ListenErrors, open_listener
from agent.listen.traffic import Traffic
from agent.members.factory import make_membership
from agent.members.member import Peer
from agent.members.own import own_placement
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.observe.requests import RecentRequests
from agent.oci.patterns import parse_filter
from agent.peering.channels import Channels
from agent.peering.dial import Dialer
from agent.probe.follower import ProbeFollower
from agent.pull.admission import Admission
from agent.pull.bucket import TokenBucket
from agent.pull.pace import Pace
from agent.pull.policy import Policy
from agent.pull.regard import Regard
from agent.pull.trust import Trust
from agent.transfer.commits import follow_commits
from agent.transfer.executor import Puller
from agent.transfer.movers import Relays
from agent.transfer.peers import PeerClient
from agent.transfer.striper import StripeBuffers
from topology.cluster import Timing
from topology.ledger import CostLedger, Prices
from topology.placement import NodeName

_log = logging.getLogger("shorthaul")

_WORD_S = 600.0  # so long a peer's word about latency counts at least; it turns up a few times in that


def run_agent(settings: Settings) -> None:
    """Run the agent until a signal asks it to stop. Raises `ListenErrors` when a port is taken."""
    _raise_file_limit()
    listeners = open_listeners(settings)

    # What the imports left never becomes garbage: collections need not look at it again and again.
    gc.collect()
    gc.freeze()

    async def run() -> None:
        await Agent(settings, listeners).run()  # made inside of the loop: some parts bind to it

    try:
        uvloop.run(run())
    finally:
        for listener in listeners.values():
            listener.close()


def open_listeners(settings: Settings) -> dict[str, socket.socket]:
    """The four listening sockets, by their names in the settings. Raises `ListenErrors`; all or none."""
    opened: dict[str, socket.socket] = {}
    errors: list[ListenError] = []
    for entry in fields(settings.listen):
        endpoint: Endpoint = getattr(settings.listen, entry.name)
        try:
            opened[entry.name] = open_listener(entry.name, endpoint)
        except ListenError as error:
            errors.append(error)
    if errors:
        for listener in opened.values():
            listener.close()
        raise ListenErrors(errors)
    return opened


def _raise_file_limit() -> None:
    """As many open files as the system lets us have: each client and each peer needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Agent:
    """One node agent. `run` it once."""

    def __init__(self, settings: Settings, listeners: dict[str, socket.socket]) -> None:
        self._settings = settings
        self._listeners = listeners
        self._metrics = Metrics()
        self._recent = RecentRequests()
        self._own = NodeName(settings.node.name)
        self._store = make_store(settings)
        placement, problems = own_placement(self._own, settings.placement, settings.topology.finer_levels)
        latency = settings.latency
        self._roster = Roster(
            own=self._own,
            placement=placement,
            problems=problems,
            timing=Timing(
                window_s=latency.window_s,
                half_life_s=latency.half_life_s,
                report_ttl_s=max(_WORD_S, 4 * latency.report_s),
            ),
        )
        transfer = settings.transfer
        self._regard = Regard(
            cooloff_s=settings.pull.cooloff_s,
            cooloff_max_s=settings.pull.cooloff_max_s,
            load_ttl_s=2 * latency.report_s,
            trust=Trust(commit_s=transfer.commit_s, suspect_s=transfer.suspect_s),
        )
        self._roster.on_change(self._regard.keep)
        self._policy = Policy(
            regard=self._regard,
            pace=Pace(patience_s=settings.pull.patience_s),
            pull=settings.pull,
            transfer=transfer,
        )
        self._book = FlowBook(own=self._own, canary_interval_s=settings.probe.canary_interval_s)
        self._state = "starting"
        self._stop = asyncio.Event()

    def unready(self) -> str | None:
        """Why the agent is not ready; None while it is. A node without peers is ready."""
        if self._state != "serving":
            return self._state
        return self._store.problem

    async def run(self) -> None:
        """Serve until a signal; then turn unready, stop accepting, drain, and return."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        settings = self._settings
        dialer = Dialer(connect_s=settings.pull.connect_s, connected=self._connected)
        channels = Channels(dialer, QUESTIONS)
        client = PeerClient(dialer, stall_s=settings.pull.stall_s)
        # Peers know by the address who reports, so probes come from this node's own one.
        probe_dialer = Dialer(connect_s=PROBE_CONNECT_S, local_address=_own_address(settings))
        traffic = Traffic(
            ledger=CostLedger(_prices(settings.costs)),
            roster=self._roster,
            metrics=self._metrics,
            admission=Admission(
                uploads_max=_uploads_max(settings), bytes_max=settings.transfer.upload_bytes_max
            ),
            young_s=settings.latency.interval_s,
        )
        scrubber = Scrubber(self._store, settings.scrub, self._metrics)
        prober = Prober(
            roster=self._roster,
            settings=settings.latency,
            metrics=self._metrics,
            load=lambda: traffic.uploads,
            dialer=probe_dialer,
        )
        self._roster.on_change(channels.keep)
        asker = RingAsker(
            roster=self._roster,
            regard=self._regard,
            query=channels.query,
            settings=settings.lookup,
            metrics=self._metrics,
        )
        index = make_index(settings, asker=asker, metrics=self._metrics)
        async with dialer, probe_dialer, channels, asker, client, prober, asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._store.run(), name="store"),
                tasks.create_task(index.run(), name="holder index"),
                tasks.create_task(announce_store(self._store, index), name="announcer"),
                tasks.create_task(make_membership(settings).run(self._roster.update), name="members"),
                tasks.create_task(prober.run(), name="probes"),
                tasks.create_task(self._roster.follow(), name="topology"),
                tasks.create_task(self._follower().run(), name="verdicts"),
                tasks.create_task(self._follow_commits(), name="commits"),
                tasks.create_task(scrubber.run(), name="scrub"),
            ]
            try:
                await self._serve(index, make_tag_finder(asker=asker), client, traffic, prober, scrubber)
            finally:
                await index.close()
                for task in background:
                    task.cancel()

    async def _serve(
        self,
        index: HolderIndex,
        finder: TagFinder,
        client: PeerClient,
        traffic: Traffic,
        prober: Prober,
        scrubber: Scrubber,
    ) -> None:
        settings = self._settings
        transfer = settings.transfer
        relays = Relays(zero_copy=transfer.zero_copy)
        puller = Puller(
            index=index,
            roster=self._roster,
            policy=self._policy,
            client=client,
            stall_s=settings.pull.stall_s,
            metrics=self._metrics,
            relays=relays,
            buffers=StripeBuffers(transfer.stripe_buffer_bytes),
            limit=TokenBucket(transfer.download_bytes_per_s),
        )
        ages = TagAges(settings.state_dir / "tag-ages.json" if settings.state_dir else None)
        resolver = TagResolver(
            store=self._store,
            ages=ages,
            finder=finder,
            tags=parse_filter(("*",), settings.tag_exclude),
            enabled=settings.resolve_tags,
            max_age_s=settings.tag_max_age_s,
        )
        desk = QuestionDesk(resolver.reply_to, upgraded=end_with_peer)
        reports = ReportDesk(self._told, lambda: self._metrics.report("invalid"), upgraded=end_with_peer)
        registries = parse_filter(settings.registries.include, settings.registries.exclude)
        sizes = ContentSizes()
        prefetcher = Prefetcher(holds=self._store.holds, look_up=index.prefetch, sizes=sizes)
        server = OciServer(
            own=self._own,
            recorder=Recorder(
                metrics=self._metrics,
                traffic=traffic,
                recent=self._recent,
                judged=JudgedRequests(self._book, self._metrics),
                send_stall_s=settings.http.send_stall_s,
            ),
            questions=desk,
            reports=reports,
            discovery=Discovery(store=self._store, registries=registries),
            names=RequestNames(resolver=resolver, ages=ages, registries=registries, prefetcher=prefetcher),
            prefetcher=prefetcher,
            local=LocalContent(
                own=self._own,
                store=self._store,
                sizes=sizes,
                scrubber=scrubber,
                traffic=traffic,
                upload_limit=TokenBucket(transfer.upload_bytes_per_s),
            ),
            remote=RemoteContent(
                puller=puller, sizes=sizes, metrics=self._metrics, redirects=transfer.mode == "redirect"
            ),
        )
        explainer = Explainer(
            own=self._own,
            store=self._store,
            index=index,
            resolver=resolver,
            roster=self._roster,
            policy=self._policy,
            puller=puller,
        )
        gauges = Gauges(
            metrics=self._metrics,
            store=self._store,
            roster=self._roster,
            regard=self._regard,
            prober=prober,
            admission=traffic.admission,
            book=self._book,
            scrubber=scrubber,
            unready=self.unready,
        )
        clock = time.monotonic
        admin = AdminServer(
            [
                *metrics_routes(gauges, clock),
                *health_routes(self.unready),
                *explain_routes(explainer, clock),
                *topology_routes(self._roster, self._regard, prober, clock),
                *traffic_routes(puller, traffic, self._recent, clock),
                *flows_routes(self._book, clock),
                *scrub_routes(scrubber),
            ]
        )
        serving = [
            HttpListener(
                self._listeners[name],
                server.handle,
                settings.http,
                path=path,
                watcher=self._book.proof,
            )
            for name, path in REQUEST_PATHS.items()
        ]
        admin_listener = HttpListener(self._listeners["admin"], admin.handle, settings.http)
        await admin_listener.start()
        try:
            for listener in serving:
                await listener.start()
            self._state = "serving"
            _log.info("serving", extra={"fields": {"node": self._own, "store": str(settings.store)}})
            await self._stop.wait()
            self._state = "stopping"
            _log.info("stopping: unready now")
            await asyncio.sleep(settings.stop.unready_s)
            for listener in serving:
                await listener.stop_accepting()
            await reports.close()
            await desk.close()
            _log.info("stopping: no new connections, draining")
            await asyncio.gather(*(listener.drain(settings.stop.drain_s) for listener in serving))
        finally:
            await admin_listener.stop_accepting()
            await admin_listener.drain(1.0)
            relays.close()
        _log.info("stopped")

    async def _follow_commits(self) -> None:
        await follow_commits(self._store, self._regard.trust, self._metrics, time.monotonic)

    def _follower(self) -> ProbeFollower:
        return ProbeFollower(
            self._settings.probe.socket,
            own=self._own,
            book=self._book,
            roster=self._roster,
            metrics=self._metrics,
        )

    def _connected(self, peer: Peer, sock: object) -> None:
        """A connection to a peer was made: its handshake measured the way there."""
        info = read_tcp_info(sock)
        rtt_us = None if info is None else info.handshake_us
        if rtt_us is not None:
            add_sample(self._roster, self._metrics, peer.name, rtt_us, "connection")

    def _told(self, told: NodeReport, address: str) -> None:
        """A peer told what it measured."""
        absurd = self._roster.hear(told.node, told.report, address=address)
        if absurd is None:
            self._metrics.report("stranger")
        else:
            self._regard.reported_load(told.node, told.report.load, time.monotonic())
            self._metrics.report("taken", absurd=absurd)

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            _log.warning("asked to stop twice: not draining any longer")
            raise SystemExit(1)
        self._stop.set()


def _own_address(settings: Settings) -> str | None:
    """The address to probe from, so that peers know who speaks; None where any will be taken."""
    host = settings.listen.peer.host
    return None if host in ("0.0.0.0", "::") else host


def _uploads_max(settings: Settings) -> int:
    """As many as set, but no more than a rate limit can feed: peers give up what is too slow."""
    transfer = settings.transfer
    if not transfer.upload_bytes_per_s or not settings.pull.floor_bytes_per_s:
        return transfer.uploads_max
    fed = transfer.upload_bytes_per_s // (2 * settings.pull.floor_bytes_per_s)
    return max(1, min(transfer.uploads_max, fed))


def _prices(costs: CostSettings) -> Prices:
    return Prices(
        same_zone=costs.same_zone,
        cross_zone=costs.cross_zone,
        cross_region=costs.cross_region,
        pairs={(pair.source, pair.destination): pair.usd_per_gb for pair in costs.pairs},
    )
