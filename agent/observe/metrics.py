"""The agent's metrics, one method per fact. The registry is injected.

Only the modules of metrics import prometheus_client. Those of an index in a server are in `index_metrics`.
Labels are bounded: path, kind, source, tier, result, zone or pair of zones. A node, an address or a digest is
never a label.

Each help text stands alone: what is counted, in which unit, and what the labels' values mean. Counters and
histograms count since the agent started.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from agent.flows.verdicts import EndpointName, Verdict
from agent.observe.exposition import WithoutCreated, add_build_info
from agent.observe.health_metrics import HealthMetrics
from agent.observe.index_metrics import IndexMetrics
from agent.observe.mirror_metrics import MirrorMetrics
from agent.observe.refusals import LISTENERS, Reason
from agent.observe.requests import RequestPath, RequestRecord
from topology.placement import Tier

_FIRST_BYTE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_RTT_BUCKETS_S = (50e-6, 0.0001, 0.0002, 0.0003, 0.0005, 0.0007, 0.001, 0.0015, 0.002, 0.005, 0.02, 0.1, 0.5)
_DURATION_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SPEED_BUCKETS = (1e5, 1e6, 3e6, 1e7, 2e7, 5e7, 1e8, 2e8, 5e8, 1e9, 2e9)  # bytes per second
_SPEED_LEAST_BYTES = 1 << 20  # a smaller body shows latency, not speed
_LAG_BUCKETS_S = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10)
_CLAIM_BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40)
_DEPTH_BUCKETS = (1, 2, 3, 4, 6, 8)
_LOOKUP_BUCKETS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1)

CLAIM_OUTCOMES = ("granted", "followed", "timeout", "lost", "refused", "alone")


class Metrics:
    """Counts facts."""

    CONTENT_TYPE = CONTENT_TYPE_LATEST

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry or CollectorRegistry()
        ProcessCollector(registry=self._registry)
        add_build_info(self._registry)
        self.health = HealthMetrics(self._registry)
        self._mirror = MirrorMetrics(self._registry)
        self._define_requests()
        self._define_bodies()
        self._define_pulls()
        self._define_cold_starts()
        self._define_uploads()
        self._define_store()
        self._define_latency()
        self._define_topology()
        self._define_local_path()
        self._define_tls()
        self._define_reloads()

    def _define_requests(self) -> None:
        self._requests = self._counter(
            "requests_total",
            "Requests answered, by listener (path: hostport, nodeport, peer), kind of content, source of the"
            " bytes (local, peer, none), tier of that source (node is this node), and result.",
            "path",
            "kind",
            "source",
            "tier",
            "result",
        )
        self._bytes = self._counter(
            "bytes_total",
            "Body bytes sent to clients, by listener (path) and by the tier of the node that they came from "
            "(node is this node). Its rate is the throughput in bytes per second.",
            "path",
            "tier",
        )
        self._first_byte = self._histogram(
            "first_byte_seconds",
            "Seconds from a request's arrival to its first body byte, by source of the bytes (local, peer). "
            "Requests without a body are left out.",
            "source",
            buckets=_FIRST_BYTE_BUCKETS_S,
        )
        self._duration = self._histogram(
            "request_duration_seconds",
            "Seconds from the arrival of a request for a manifest or blob to the last byte of its answer, by"
            " listener (path), tier of the source (none if there was none), and result.",
            "path",
            "tier",
            "result",
            buckets=_DURATION_BUCKETS_S,
        )
        self._redirects = self._counter(
            "redirects_total", "Requests whose client was redirected to a peer (transfer.mode: redirect)."
        )
        self._turned_away = self._counter(
            "refused_total",
            "Requests that were refused before anything was done for them, by listener (hostport, nodeport, "
            "peer, admin) and reason. docs/operations.md says what each reason means.",
            "listener",
            "reason",
        )
        for listener in LISTENERS:  # Prometheus sees no rate in a series that begins at 1
            for reason in Reason:
                self._turned_away.labels(listener, reason.value)
        self._peering_open = self._gauge(
            "peering_open",
            "1 if agents need not prove that they are of this cluster (peering.open), else 0.",
        )
        self._ready = self._gauge("ready", "1 while the agent is ready to serve pulls, else 0.")
        self._loop_lag = self._histogram(
            "event_loop_lag_seconds",
            "Seconds that the agent's event loop was late, measured twice a second. Every request waits that "
            "long. A loop that is stuck answers no liveness probe.",
            buckets=_LAG_BUCKETS_S,
        )
        self._connections = self._gauge(
            "connections",
            "TCP connections that are open now, by listener (hostport, nodeport, peer, admin). The standing "
            "connections of other agents are included.",
            "listener",
        )

    def _define_bodies(self) -> None:
        self._speed = self._histogram(
            "body_speed_bytes_per_second",
            "Speed of each body of at least 1 MiB, in bytes per second from its first byte to its last, by "
            "listener (path) and tier of the source.",
            "path",
            "tier",
            buckets=_SPEED_BUCKETS,
        )
        self._saved_bytes = self._counter(
            "registry_saved_bytes_total",
            "Body bytes that clients got from this agent, by listener (path). Without a mirror each of them "
            "would have come from the registry.",
            "path",
        )
        for path in RequestPath:  # Prometheus sees no rate in a series that begins at 1
            self._saved_bytes.labels(path.value)
        self._saved_usd = self._counter(
            "registry_saved_usd_total",
            "US dollars that those bytes would have cost from the registry, at costs.registry per 10^9 "
            "bytes. The net saving is this minus shorthaul_zone_cost_usd_total, summed over all agents.",
        )
        self._sent_bytes = self._counter(
            "sent_bytes_total",
            "Body bytes sent to clients, by way. sendfile and splice: inside the kernel. copy, stripe and "
            "memory (first bytes, small contents): through the agent, which takes more processor time.",
            "way",
        )

    def _define_pulls(self) -> None:
        self._lookup = self._histogram(
            "lookup_seconds",
            "Seconds to find out which peers hold a digest. Answers from the cache are included.",
            buckets=_LOOKUP_BUCKETS_S,
        )
        self._questions = self._counter(
            "lookup_questions_total",
            "Questions to peers about digests and tags, by result (answered, silent).",
            "result",
        )
        for result in ("answered", "silent"):  # Prometheus sees no rate in a series that begins at 1
            self._questions.labels(result)
        self._attempts = self._counter(
            "peer_attempts_total",
            "Fetches from a peer that ended, by result. ok: the body was delivered to its end. abandoned: it"
            " was not needed any more. Any other result is the reason of the failure.",
            "result",
        )
        self._hedges = self._counter(
            "hedges_total",
            "Fetches from a second peer, begun because the first peer's first byte took longer than usual.",
        )
        self._resumes = self._counter(
            "resumes_total",
            "Times that a body broke off and another peer had to continue it, by the reason of the failure.",
            "reason",
        )
        self._striped = self._counter(
            "striped_bodies_total", "Bodies that were fetched from several peers at once."
        )
        self._suspects = self._counter(
            "suspect_sources_total",
            "Times that a peer became suspect, because containerd did not commit a blob that the peer gave "
            "although its store was well. The peer is asked for that blob last, and checked.",
        )
        self._checks = self._counter(
            "suspect_checks_total",
            "Blobs that this agent fetched again from a suspect and hashed, by result. wrong: the peer gives "
            "wrong bytes, which is an alarm. failed: the peer did not give the blob.",
            "result",
        )
        for result in ("right", "wrong", "failed"):  # Prometheus sees no rate in a series that begins at 1
            self._checks.labels(result)

    def _define_cold_starts(self) -> None:
        self._claims = self._counter(
            "claims_total",
            "Contents that this node's containerd wanted and no node had, by the reach of the claim (scope: "
            "zone, cluster) and by outcome. granted: this node was told to fetch it from the registry. "
            "followed: it came from a node that was fetching it, or had just done so. timeout: the time for "
            "waiting ended, and the registry was asked. lost: this node had the claim and did not fetch. "
            "refused: whoever decides had no room. alone: there was nobody to ask, so nothing was waited "
            "for.",
            "scope",
            "outcome",
        )
        for scope in ("zone", "cluster"):  # Prometheus sees no rate in a series that begins at 1
            for outcome in CLAIM_OUTCOMES:
                self._claims.labels(scope, outcome)
        self._claim_wait = self._histogram(
            "claim_wait_seconds",
            "Seconds for which a request waited for a node that was to fetch its content from the registry, "
            "by what came of it (followed, granted, timeout). Requests that did not wait are left out.",
            "outcome",
            buckets=_CLAIM_BUCKETS_S,
        )
        self._claims_open = self._gauge(
            "claims_open",
            "Claims now, by this node's part in them. held: it fetches from the registry for others. "
            "waiting: it waits for another node. decided: it decides who fetches.",
            "part",
        )
        self._in_flight_bytes = self._counter(
            "in_flight_received_bytes_total",
            "Body bytes that came from peers which were still fetching the content themselves, by the peer's "
            "tier. They are part of shorthaul_bytes_total.",
            "tier",
        )
        for tier in Tier:
            if tier is not Tier.NODE:
                self._in_flight_bytes.labels(tier.label)
        self._followers = self._gauge(
            "followers", "Bodies that peers are being sent now of contents that this node is still fetching."
        )
        self._depth = self._histogram(
            "tree_depth",
            "How many nodes were between this node and the registry, or the node that had the whole content, "
            "when it took content in flight. 1: it came from the node that fetched it.",
            buckets=_DEPTH_BUCKETS,
        )
        self._avoided = self._counter(
            "registry_fetches_avoided_total",
            "Contents that no node had when they were asked for here, and that came from a peer all the "
            "same, because that peer fetched them for others too, by kind (manifest, config, layer).",
            "kind",
        )
        for kind in ("manifest", "config", "layer"):
            self._avoided.labels(kind)
        self._shared = self._counter(
            "uploads_shared_total",
            "Requests of peers that were told to take the content from another peer of their zone, which "
            "this node was sending it to already.",
        )

    def _define_uploads(self) -> None:
        self._uploads = self._gauge(
            "uploads",
            "Bodies that this node is sending to peers now. Parts of a blob for one peer are one body.",
        )
        self._upload_bytes = self._gauge(
            "upload_bytes_in_flight",
            "Bytes that are left to send of the bodies that this node is sending to peers now.",
        )
        self._refused = self._counter(
            "uploads_refused_total",
            "Requests of peers that were refused, because as many bodies were being sent already.",
        )

    def _define_store(self) -> None:
        self._store_blobs = self._gauge("store_blobs", "Blobs in this node's content store now.")
        self._store_bytes = self._gauge("store_bytes", "Bytes of the blobs in this node's content store now.")
        self._store_unreadable = self._gauge(
            "store_unreadable_blobs",
            "Blobs in this node's content store that the agent can't read now. No peer is told of them.",
        )
        self._scrub_paused = self._gauge(
            "scrub_paused", "1 while somebody paused the scrub of this node's content, else 0."
        )
        self._scrubbed = self._counter(
            "scrubbed_bytes_total",
            "Bytes of this node's content that the scrub read again and hashed, to find corrupt blobs.",
        )
        self._corrupt = self._counter(
            "corrupt_blobs_total",
            "Blobs of this node that did not match their digest or size and were withdrawn, by what found "
            "them (read: a request; scrub). Any is an alarm.",
            "found_by",
        )
        for found_by in ("read", "scrub"):  # Prometheus sees no rate in a series that begins at 1
            self._corrupt.labels(found_by)

    def _define_latency(self) -> None:
        self._peers = self._gauge("peers", "Peers in the list of members now, without this node.")
        self._members_silent = self._gauge(
            "api_server_silent_seconds",
            "Seconds since the Kubernetes API server was last heard (membership.kubernetes). While all is "
            "well it speaks about once a minute. 0 with another membership.",
        )
        self._cooling = self._gauge(
            "peers_cooling", "Peers that cool off now because they failed: others are preferred to them."
        )
        self._reachable = self._gauge(
            "peers_reachable",
            "Peers that nothing speaks against now: they do not cool off, and those that once did not answer "
            "have answered since.",
        )
        self._rtt = self._histogram(
            "rtt_seconds",
            "Round trips to peers in seconds, as this node's kernel measured them, by the peer's tier.",
            "tier",
            buckets=_RTT_BUCKETS_S,
        )
        self._rtt_samples = self._counter(
            "rtt_samples_total",
            "Measured round trips that were added to the topology, by source (measurement, connection, "
            "upload, kernel).",
            "source",
        )
        self._measurements = self._counter(
            "latency_measurements_total",
            "Attempts to measure the round trip to a peer, by result (measured, lost, unreachable, absurd).",
            "result",
        )
        self._measuring = self._gauge(
            "latency_connections", "Measuring connections to peers that are open now."
        )
        self._reports = self._counter(
            "latency_reports_total",
            "Latency reports that came from peers, by result (taken, invalid, stranger: not from a member).",
            "result",
        )
        self._absurd = self._counter(
            "rtt_absurd_total",
            "Round trips in peers' reports that can't be true, and were clamped or left out.",
        )

    def _define_topology(self) -> None:
        self._placed = self._gauge(
            "topology_nodes",
            "Nodes now, this one included, by how their zone is known (labelled, inferred, unknown). Those "
            "whose latency contradicts their labels count as suspect as well.",
            "placed",
        )
        self._label_problems = self._gauge(
            "label_problems", "Missing and contradictory labels of nodes now. /api/topology lists them."
        )
        self._zone_rtt = self._gauge(
            "zone_rtt_seconds",
            "Round trip now from this node's zone to each zone, in seconds: measured, reported by peers, or "
            "the shortest path over other zones.",
            "zone",
        )
        self._zone_bytes = self._counter(
            "zone_bytes_total",
            "Body bytes between this node and others, by source zone and destination zone. The agents of a "
            "cluster count no byte twice.",
            "source_zone",
            "destination_zone",
        )
        self._zone_usd = self._counter(
            "zone_cost_usd_total",
            "US dollars that the body bytes between this node and others cost, by the prices in costs.*, by "
            "source zone and destination zone.",
            "source_zone",
            "destination_zone",
        )

    def _define_local_path(self) -> None:
        self._local_flows = self._counter(
            "local_flows_total",
            "Connections of this node's containerd and of the probe's canaries to agents, by endpoint and by "
            "the probe's verdict. Where containerd's cgroup is not known, those of any process of root. A "
            "connection whose verdict changes counts once for each.",
            "endpoint",
            "verdict",
        )
        self._other_flows = self._counter(
            "other_flows_total",
            "Connections of all other processes of this node to agents (not of pods with a network of their "
            "own), by endpoint and by the probe's verdict. They prove and disprove nothing.",
            "endpoint",
            "verdict",
        )
        self._local_requests = self._counter(
            "local_requests_total",
            "Requests of this node's clients, by endpoint and by the probe's verdict on their connection.",
            "endpoint",
            "verdict",
        )
        self._remote_bytes = self._counter(
            "nodeport_remote_bytes_total",
            "Bytes on connections of this node's containerd that kube-proxy sent to another node, by "
            "direction (received, sent). They count when the connection ends.",
            "direction",
        )
        self._contradictions = self._counter(
            "flow_contradictions_total", "Connections whose two ends contradict each other. Any is an alarm."
        )
        self._path_proved = self._gauge(
            "local_path_proved",
            "1 while the path to the HostPort is proved to be direct, by the last canary and by all "
            "connections since, else 0.",
        )
        self._probe_connected = self._gauge(
            "probe_connected",
            "1 while a probe reports this node's connections, else 0. Without a probe every verdict is "
            "UNKNOWN.",
        )
        for endpoint in EndpointName:  # Prometheus sees no rate in a series that begins at 1
            for verdict in Verdict:
                self._local_flows.labels(endpoint.value, verdict.value)
                self._other_flows.labels(endpoint.value, verdict.value)

    def _define_tls(self) -> None:
        self._tls_failures = self._counter(
            "tls_failures_total",
            "Connections between agents that TLS ended, by the end that this node is (dialled, accepted) and "
            "by the reason: expired, not_yet_valid, issuer (of no known CA), name (of another node), "
            "purpose, no_certificate, bad_certificate, no_tls (one end speaks none), version, silent, "
            "closed, too_many, other.",
            "end",
            "reason",
        )
        self._certificate_ends = self._gauge(
            "certificate_not_after_seconds",
            "When this node's certificate for other agents ends, in seconds since 1970. 0 without TLS.",
        )

    def _define_reloads(self) -> None:
        self._reloads = self._counter(
            "reloads_total",
            "Readings of what may change while the agent runs (peers, labels, settings, certificate), by "
            "result: changed, unchanged, failed. After a failed one the old state stays, and the log has the "
            "mistakes.",
            "what",
            "result",
        )
        # Prometheus sees no rate in a series that begins at 1.
        for what in ("peers", "labels", "settings", "certificate"):
            for result in ("changed", "unchanged", "failed"):
                self._reloads.labels(what, result)
        self._problems = self._gauge(
            "problems",
            "Contradictions in the peers file, the filters and what other agents say of themselves. "
            "/api/topology lists up to 20 of each kind.",
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"shorthaul_{name}", meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"shorthaul_{name}", meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, *labels: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"shorthaul_{name}", meaning, labels, buckets=buckets, registry=self._registry)

    @cached_property
    def index(self) -> IndexMetrics:
        """The facts of an index that is kept in a server. They are exposed from the first use on."""
        return IndexMetrics(self._registry)

    def request(self, record: RequestRecord) -> None:
        """A request was answered."""
        tier = record.tier_label
        self._mirror.request(record)
        self._requests.labels(record.path.value, record.kind, record.source, tier, record.result.value).inc()
        for part in record.sources:
            self._bytes.labels(record.path.value, part.tier.label).inc(part.size_bytes)
        if record.body_bytes and not record.sources:
            self._bytes.labels(record.path.value, tier).inc(record.body_bytes)
        if record.first_byte_s is not None:
            self._first_byte.labels(record.source).observe(record.first_byte_s)
        if record.kind in ("manifest", "blob"):  # others are pings, or last as long as their connection
            self._duration.labels(record.path.value, tier, record.result.value).observe(record.seconds)
        if record.body_bytes >= _SPEED_LEAST_BYTES and record.first_byte_s is not None:
            took_s = max(record.seconds - record.first_byte_s, 1e-6)
            self._speed.labels(record.path.value, tier).observe(record.body_bytes / took_s)

    def saved(self, path: str, size_bytes: int, usd: float) -> None:
        """A client got these bytes here, which would have cost this much from the registry."""
        self._saved_bytes.labels(path).inc(size_bytes)
        self._saved_usd.inc(usd)

    def connections(self, listeners: Mapping[str, int]) -> None:
        """How many connections each listener has open now."""
        for listener, number in listeners.items():
            self._connections.labels(listener).set(number)

    def lookup(self, seconds: float) -> None:
        """A look-up of a digest's holders ended."""
        self._lookup.observe(seconds)

    def question(self, result: str) -> None:
        """A question to a peer was ``answered``, or the peer was ``silent``."""
        self._questions.labels(result).inc()

    def attempt(self, result: str) -> None:
        """A fetch ended: ``ok`` (delivered to its end), ``abandoned``, or the value of a `Failure`."""
        self._attempts.labels(result).inc()

    def claim(self, outcome: str, scope: str = "zone") -> None:
        """A wish for content that nobody had ended. ``outcome``: one of `CLAIM_OUTCOMES`."""
        self._claims.labels(scope, outcome).inc()

    def claim_waited(self, outcome: str, seconds: float) -> None:
        """A request waited. ``outcome``: it ``followed``, was ``granted`` the claim, or ``timeout``."""
        self._claim_wait.labels(outcome).observe(seconds)

    def claims_open(self, *, held: int, waiting: int, decided: int) -> None:
        """The claims that this node holds, waits for and decides on now."""
        for part, number in (("held", held), ("waiting", waiting), ("decided", decided)):
            self._claims_open.labels(part).set(number)

    def in_flight_received(self, tier: Tier, size_bytes: int) -> None:
        """Body bytes came from a peer that was still fetching the content."""
        self._in_flight_bytes.labels(tier.label).inc(size_bytes)

    def followers(self, number: int) -> None:
        """So many bodies of growing content are being sent to peers now."""
        self._followers.set(number)

    def followed(self, depth: int) -> None:
        """This node began to take content from a peer that was fetching it. ``depth``: its place, from 1."""
        self._depth.observe(depth)

    def registry_avoided(self, kind: str) -> None:
        """Content that nobody had came from a peer. ``kind``: ``manifest``, ``config`` or ``layer``."""
        self._avoided.labels(kind).inc()

    def shared(self) -> None:
        """A peer was told to take content from another peer that is being sent it."""
        self._shared.inc()

    def hedge(self) -> None:
        """A second peer was asked because the first took longer than usual."""
        self._hedges.inc()

    def broke(self, reason: str) -> None:
        """A body broke off, and another peer has to go on."""
        self._resumes.labels(reason).inc()

    def striped(self) -> None:
        """Striping began: a body is fetched from several peers."""
        self._striped.inc()

    def redirect(self) -> None:
        """A client was redirected to a peer."""
        self._redirects.inc()

    def sent(self, ways: Mapping[str, int]) -> None:
        """Body bytes were sent to a client. ``ways``: how many in which way."""
        for way, size_bytes in ways.items():
            self._sent_bytes.labels(way).inc(size_bytes)

    def uploads(self, number: int, left_bytes: int) -> None:
        """The bodies that are being sent to peers now."""
        self._uploads.set(number)
        self._upload_bytes.set(left_bytes)

    def turned_away(self, listener: str, reason: Reason) -> None:
        """A client was refused before anything was done for it."""
        self._turned_away.labels(listener, reason.value).inc()

    def peering_open(self, is_open: bool) -> None:
        """Whether agents need no proof."""
        self._peering_open.set(is_open)

    def refused(self) -> None:
        """An upload was refused."""
        self._refused.inc()

    def check(self, result: str) -> None:
        """A suspect's content was hashed: right, wrong, or failed if it could not be."""
        self._checks.labels(result).inc()

    def suspects(self, number: int) -> None:
        """This number of sources of a blob became suspect."""
        self._suspects.inc(number)

    def scrubbed(self, size_bytes: int) -> None:
        """Content of this node was read again."""
        self._scrubbed.inc(size_bytes)

    def scrub_paused(self, paused: bool) -> None:
        """Whether the scrub is paused now."""
        self._scrub_paused.set(paused)

    def corrupt(self, found_by: str) -> None:
        """A blob of this node is corrupt. ``found_by``: ``scrub`` or ``read``."""
        self._corrupt.labels(found_by).inc()

    def store(self, blobs: int, size_bytes: int, *, unreadable: int) -> None:
        """The store's size now. ``unreadable``: how many others it has that can't be read."""
        self._store_unreadable.set(unreadable)
        self._store_blobs.set(blobs)
        self._store_bytes.set(size_bytes)

    def peers(self, members: int, *, cooling: int, reachable: int) -> None:
        """The membership now."""
        self._peers.set(members)
        self._cooling.set(cooling)
        self._reachable.set(reachable)

    def members_silent(self, seconds: float | None) -> None:
        """For so long the source of the list of peers was not heard. None: it never speaks by itself."""
        self._members_silent.set(0.0 if seconds is None else seconds)

    def rtt(self, tier: Tier, rtt_us: float, source: str) -> None:
        """A round trip, from a ``measurement``, a new ``connection``, an ``upload`` or the ``kernel``."""
        self._rtt.labels(tier.label).observe(rtt_us / 1e6)
        self._rtt_samples.labels(source).inc()

    def measurement(self, result: str) -> None:
        """A round trip was ``measured``, ``lost``, ``absurd``, or its peer ``unreachable``."""
        self._measurements.labels(result).inc()

    def report(self, result: str, absurd: int = 0) -> None:
        """A peer's report was ``taken``, ``invalid``, or from a ``stranger``. ``absurd``: how many values."""
        self._reports.labels(result).inc()
        self._absurd.inc(absurd)

    def topology(self, nodes: Mapping[str, int], *, problems: int, measured: int) -> None:
        """The topology now: how many nodes are labelled, inferred, unknown, suspect."""
        for kind, count in nodes.items():
            self._placed.labels(kind).set(count)
        self._label_problems.set(problems)
        self._measuring.set(measured)

    def problems(self, problems: int) -> None:
        """So many contradictions are known now."""
        self._problems.set(problems)

    def reload(self, what: str, result: str) -> None:
        """Peers, labels or settings were read again: ``changed``, ``unchanged`` or ``failed``."""
        self._reloads.labels(what, result).inc()

    def tls_failed(self, end: str, reason: str) -> None:
        """TLS ended a connection that this node ``dialled`` or ``accepted``. ``reason``: a `TlsReason`."""
        self._tls_failures.labels(end, reason).inc()

    def certificate_ends(self, unix_s: float) -> None:
        """When this node's certificate for other agents ends."""
        self._certificate_ends.set(unix_s)

    def zone_rtts(self, rtts_us: Mapping[str, float]) -> None:
        """The round trips from this node's zone to each zone now. Other zones are dropped."""
        self._zone_rtt.clear()
        for zone, rtt_us in rtts_us.items():
            self._zone_rtt.labels(zone).set(rtt_us / 1e6)

    def received(self, source: str, destination: str, size_bytes: int, usd: float) -> None:
        """Body bytes went from one zone to another, for this cost."""
        self._zone_bytes.labels(source, destination).inc(size_bytes)
        self._zone_usd.labels(source, destination).inc(usd)

    def local_flows(self, endpoint: str, verdict: str, flows: int) -> None:
        """This number of containerd's connections and of canaries got a verdict."""
        self._local_flows.labels(endpoint, verdict).inc(flows)

    def other_flows(self, endpoint: str, verdict: str, flows: int) -> None:
        """This number of other processes' connections got a verdict."""
        self._other_flows.labels(endpoint, verdict).inc(flows)

    def local_request(self, endpoint: str, verdict: str) -> None:
        """A request of a client of this node was answered."""
        self._local_requests.labels(endpoint, verdict).inc()

    def remote_bytes(self, received: int, sent: int) -> None:
        """Bytes went over the NodePort to another node (sent) and back (received)."""
        self._remote_bytes.labels("received").inc(received)
        self._remote_bytes.labels("sent").inc(sent)

    def contradictions(self, number: int) -> None:
        """The two ends of this number of connections contradict each other."""
        self._contradictions.inc(number)

    def proof(self, *, connected: bool, proved: bool) -> None:
        """Whether a probe is connected, and whether the local path is proved now."""
        self._probe_connected.set(connected)
        self._path_proved.set(proved)

    def ready(self, ready: bool) -> None:
        """Whether the agent is ready now."""
        self._ready.set(ready)

    def loop_lag(self, seconds: float) -> None:
        """The event loop was that late."""
        self._loop_lag.observe(seconds)

    def expose(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(WithoutCreated(self._registry))
