"""The agent's metrics, one method per fact. The registry is injected.

Only this module and the probe's metrics import prometheus_client. Labels are bounded: path, kind, source,
tier, result, zone or pair of zones. A node, an address or a digest is never a label.
"""

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from agent.flows.verdicts import EndpointName, Verdict
from agent.observe.requests import RequestRecord
from topology.placement import Tier

_FIRST_BYTE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_RTT_BUCKETS_S = (50e-6, 0.0001, 0.0002, 0.0003, 0.0005, 0.0007, 0.001, 0.0015, 0.002, 0.005, 0.02, 0.1, 0.5)
_LOOKUP_BUCKETS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1)


class Metrics:
    """Counts facts."""

    CONTENT_TYPE = CONTENT_TYPE_LATEST

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry or CollectorRegistry()
        self._define_requests()
        self._define_pulls()
        self._define_uploads()
        self._define_store()
        self._define_latency()
        self._define_topology()
        self._define_local_path()

    def _define_requests(self) -> None:
        self._requests = self._counter(
            "requests_total",
            "Requests answered, by listener, kind of content, source, and result.",
            "path",
            "kind",
            "source",
            "tier",
            "result",
        )
        self._bytes = self._counter(
            "bytes_total",
            "Body bytes sent, by listener and by the tier of their source (node: this node).",
            "path",
            "tier",
        )
        self._first_byte = self._histogram(
            "first_byte_seconds",
            "Time from a request's arrival to its first body byte, by source.",
            "source",
            buckets=_FIRST_BYTE_BUCKETS_S,
        )
        self._sent_bytes = self._counter(
            "sent_bytes_total",
            "Body bytes sent, by way. sendfile, splice: inside the kernel. copy, stripe, memory (first "
            "bytes, small contents): through the agent.",
            "way",
        )
        self._redirects = self._counter(
            "redirects_total", "Clients that were redirected to a peer (transfer.mode)."
        )
        self._ready = self._gauge("ready", "1 while the agent is ready.")

    def _define_pulls(self) -> None:
        self._lookup = self._histogram(
            "lookup_seconds",
            "Time to find the holders of a digest, cached answers included.",
            buckets=_LOOKUP_BUCKETS_S,
        )
        self._questions = self._counter(
            "lookup_questions_total", "Questions to peers about digests and tags, by result.", "result"
        )
        self._attempts = self._counter(
            "peer_attempts_total",
            "Fetches from a peer, by result. ok: the body was delivered to its end.",
            "result",
        )
        self._hedges = self._counter(
            "hedges_total", "Fetches from a second peer because the first took longer than usual."
        )
        self._resumes = self._counter(
            "resumes_total", "Bodies that broke off and needed another peer, by failure.", "reason"
        )
        self._striped = self._counter("striped_bodies_total", "Bodies fetched from several peers at once.")
        self._suspects = self._counter(
            "suspect_sources_total",
            "Peers whose blob containerd did not commit. They are not asked for it again for a while.",
        )

    def _define_uploads(self) -> None:
        self._uploads = self._gauge(
            "uploads", "Bodies that are being sent to peers now. Parts of a blob for one peer are one body."
        )
        self._upload_bytes = self._gauge(
            "upload_bytes_in_flight", "Bytes of those bodies that are still to be sent."
        )
        self._refused = self._counter(
            "uploads_refused_total", "Uploads that were refused because there was no room."
        )

    def _define_store(self) -> None:
        self._store_blobs = self._gauge("store_blobs", "Blobs in this node's content store.")
        self._store_bytes = self._gauge("store_bytes", "Bytes in this node's content store.")
        self._scrub_paused = self._gauge("scrub_paused", "1 while somebody paused the scrub.")
        self._scrubbed = self._counter(
            "scrubbed_bytes_total", "Bytes of this node's content read again and hashed."
        )
        self._corrupt = self._counter(
            "corrupt_blobs_total",
            "Blobs of this node that do not match their digest or size, and were withdrawn: an alarm.",
            "found_by",
        )
        for found_by in ("read", "scrub"):  # Prometheus sees no rate in a series that begins at 1
            self._corrupt.labels(found_by)

    def _define_latency(self) -> None:
        self._peers = self._gauge("peers", "Peers in the membership.")
        self._cooling = self._gauge("peers_cooling", "Peers that cool off because they failed.")
        self._rtt = self._histogram(
            "rtt_seconds",
            "Round trips to peers, measured by this node's kernel, by the peer's tier.",
            "tier",
            buckets=_RTT_BUCKETS_S,
        )
        self._rtt_samples = self._counter(
            "rtt_samples_total",
            "Round trips added to the topology, by source: measurement, connection, upload, kernel.",
            "source",
        )
        self._measurements = self._counter(
            "latency_measurements_total",
            "Measurements of round trips by result: measured, lost, unreachable, absurd.",
            "result",
        )
        self._measuring = self._gauge(
            "latency_connections", "Measuring connections to peers that are open now."
        )
        self._reports = self._counter(
            "latency_reports_total",
            "Latency reports of peers, by result: taken, invalid, stranger (not from a member).",
            "result",
        )
        self._absurd = self._counter(
            "rtt_absurd_total", "Round trips in peers' reports that can't be true: clamped or left out."
        )

    def _define_topology(self) -> None:
        self._placed = self._gauge(
            "topology_nodes",
            "Nodes by how their zone is known: labelled, inferred, unknown. suspect: their latency "
            "contradicts their labels.",
            "placed",
        )
        self._label_problems = self._gauge(
            "label_problems", "Missing and contradictory labels; /api/topology lists them."
        )
        self._zone_rtt = self._gauge(
            "zone_rtt_seconds",
            "Round trip from this node's zone to each zone: measured, reported, or the shortest path.",
            "zone",
        )
        self._zone_bytes = self._counter(
            "zone_bytes_total",
            "Body bytes between this node and others, by source zone and destination zone.",
            "source_zone",
            "destination_zone",
        )
        self._zone_usd = self._counter(
            "zone_cost_usd_total",
            "Cost of the body bytes between this node and others, by the price table (costs.*).",
            "source_zone",
            "destination_zone",
        )

    def _define_local_path(self) -> None:
        self._local_flows = self._counter(
            "local_flows_total",
            "Connections of this node's clients to the agents, by endpoint and by the probe's verdict.",
            "endpoint",
            "verdict",
        )
        self._local_requests = self._counter(
            "local_requests_total",
            "Requests of this node's clients, by endpoint and by the probe's verdict on the connection.",
            "endpoint",
            "verdict",
        )
        self._remote_bytes = self._counter(
            "nodeport_remote_bytes_total",
            "Bytes of local clients' connections that kube-proxy sent to another node. They count at the end "
            "of the connection.",
            "direction",
        )
        self._contradictions = self._counter(
            "flow_contradictions_total", "Connections whose two ends contradict each other: an alarm."
        )
        self._path_proved = self._gauge(
            "local_path_proved",
            "1 while the HostPort's path is proved to be direct, by the canary and by connections since.",
        )
        self._probe_connected = self._gauge(
            "probe_connected",
            "1 while a probe reports this node's flows. Without a probe every verdict is UNKNOWN.",
        )
        for endpoint in EndpointName:  # Prometheus sees no rate in a series that begins at 1
            for verdict in Verdict:
                self._local_flows.labels(endpoint.value, verdict.value)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"shorthaul_{name}", meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"shorthaul_{name}", meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, *labels: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"shorthaul_{name}", meaning, labels, buckets=buckets, registry=self._registry)

    def request(self, record: RequestRecord) -> None:
        """A request was answered."""
        tier = record.tier_label
        self._requests.labels(record.path.value, record.kind, record.source, tier, record.result.value).inc()
        for part in record.sources:
            self._bytes.labels(record.path.value, part.tier.label).inc(part.size_bytes)
        if record.body_bytes and not record.sources:
            self._bytes.labels(record.path.value, tier).inc(record.body_bytes)
        if record.first_byte_s is not None:
            self._first_byte.labels(record.source).observe(record.first_byte_s)

    def lookup(self, seconds: float) -> None:
        """A look-up of a digest's holders ended."""
        self._lookup.observe(seconds)

    def question(self, result: str) -> None:
        """A question to a peer was ``answered``, or the peer was ``silent``."""
        self._questions.labels(result).inc()

    def attempt(self, result: str) -> None:
        """A fetch ended: ``ok`` (delivered to its end), ``abandoned``, or the value of a `Failure`."""
        self._attempts.labels(result).inc()

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

    def refused(self) -> None:
        """An upload was refused."""
        self._refused.inc()

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

    def store(self, blobs: int, size_bytes: int) -> None:
        """The store's size now."""
        self._store_blobs.set(blobs)
        self._store_bytes.set(size_bytes)

    def peers(self, members: int, cooling: int) -> None:
        """The membership now."""
        self._peers.set(members)
        self._cooling.set(cooling)

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
        """This number of connections got a verdict."""
        self._local_flows.labels(endpoint, verdict).inc(flows)

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

    def expose(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
