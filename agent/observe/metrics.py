"""The agent's metrics, one method per fact, over an injected registry.

The only importer of prometheus_client.

Labels are bounded: path, kind, source, locality, result. Never a node, an address or a digest.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from agent.observe.requests import RequestRecord

_FIRST_BYTE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_LOOKUP_BUCKETS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1)


class Metrics:
    """Counts facts."""

    CONTENT_TYPE = CONTENT_TYPE_LATEST

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry or CollectorRegistry()
        self._requests = Counter(
            "shorthaul_requests_total",
            "Requests answered, by the listener they came in by, what they asked for, and what came of them.",
            ("path", "kind", "source", "locality", "result"),
            registry=self._registry,
        )
        self._bytes = Counter(
            "shorthaul_bytes_total",
            "Body bytes sent, by the listener and by how far away their source was (node: this one).",
            ("path", "locality"),
            registry=self._registry,
        )
        self._first_byte = Histogram(
            "shorthaul_first_byte_seconds",
            "From a request's arrival to its first body byte, by source.",
            ("source",),
            buckets=_FIRST_BYTE_BUCKETS_S,
            registry=self._registry,
        )
        self._lookup = Histogram(
            "shorthaul_lookup_seconds",
            "Finding the holders of a digest, cached answers included.",
            buckets=_LOOKUP_BUCKETS_S,
            registry=self._registry,
        )
        self._questions = Counter(
            "shorthaul_lookup_questions_total",
            "Questions put to peers about who has what, by result.",
            ("result",),
            registry=self._registry,
        )
        self._attempts = Counter(
            "shorthaul_peer_attempts_total",
            "Fetches started at a peer, by result.",
            ("result",),
            registry=self._registry,
        )
        self._store_blobs = Gauge(
            "shorthaul_store_blobs", "Blobs in this node's content store.", registry=self._registry
        )
        self._store_bytes = Gauge(
            "shorthaul_store_bytes", "Bytes in this node's content store.", registry=self._registry
        )
        self._peers = Gauge("shorthaul_peers", "Peers in the membership.", registry=self._registry)
        self._cooling = Gauge(
            "shorthaul_peers_cooling",
            "Peers avoided because they failed a moment ago.",
            registry=self._registry,
        )
        self._ready = Gauge("shorthaul_ready", "1 while the agent is ready.", registry=self._registry)

    def request(self, record: RequestRecord) -> None:
        """A request was answered."""
        locality = record.locality_label
        self._requests.labels(
            record.path.value, record.kind, record.source, locality, record.result.value
        ).inc()
        if record.body_bytes:
            self._bytes.labels(record.path.value, locality).inc(record.body_bytes)
        if record.first_byte_s is not None:
            self._first_byte.labels(record.source).observe(record.first_byte_s)

    def lookup(self, seconds: float) -> None:
        """The holders of a digest were found, or not."""
        self._lookup.observe(seconds)

    def question(self, result: str) -> None:
        """A peer was asked who has what: ``answered`` or ``silent``."""
        self._questions.labels(result).inc()

    def attempt(self, result: str) -> None:
        """A fetch at a peer had its first bytes (``ok``), or a `Failure`'s value."""
        self._attempts.labels(result).inc()

    def store(self, blobs: int, size_bytes: int) -> None:
        """The store's size now."""
        self._store_blobs.set(blobs)
        self._store_bytes.set(size_bytes)

    def peers(self, members: int, cooling: int) -> None:
        """The membership now."""
        self._peers.set(members)
        self._cooling.set(cooling)

    def ready(self, ready: bool) -> None:
        """Whether the agent is ready now."""
        self._ready.set(ready)

    def expose(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
