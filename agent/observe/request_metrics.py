"""The metrics of requests and of the bodies that they were answered with."""

from collections.abc import Mapping

from agent.observe.families import Families
from agent.observe.refusals import LISTENERS, Reason
from agent.observe.requests import RequestPath, RequestRecord

_FIRST_BYTE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_DURATION_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SPEED_BUCKETS = (1e5, 1e6, 3e6, 1e7, 2e7, 5e7, 1e8, 2e8, 5e8, 1e9, 2e9)  # bytes per second
_SPEED_LEAST_BYTES = 1 << 20  # a smaller body shows latency, not speed


class RequestMetrics:
    """Counts what clients asked for and were sent."""

    def __init__(self, families: Families) -> None:
        self._requests = families.counter(
            "requests_total",
            "Requests answered, by listener (path: hostport, nodeport, peer), kind of content, source of the"
            " bytes (local, peer, none), tier of that source (node is this node), and result.",
            "path",
            "kind",
            "source",
            "tier",
            "result",
        )
        self._bytes = families.counter(
            "bytes_total",
            "Body bytes sent to clients, by listener (path) and by the tier of the node that they came from "
            "(node is this node). Its rate is the throughput in bytes per second.",
            "path",
            "tier",
        )
        self._first_byte = families.linked(
            "first_byte_seconds",
            "Seconds from a request's arrival to its first body byte, by listener (path: hostport, nodeport, "
            "peer) and source of the bytes (local, peer). Requests without a body are left out.",
            "path",
            "source",
            buckets=_FIRST_BYTE_BUCKETS_S,
        )
        self._duration = families.linked(
            "request_duration_seconds",
            "Seconds from the arrival of a request for a manifest or blob to the last byte of its answer, by"
            " listener (path), tier of the source (none if there was none), and result.",
            "path",
            "tier",
            "result",
            buckets=_DURATION_BUCKETS_S,
        )
        self._redirects = families.counter(
            "redirects_total", "Requests whose client was redirected to a peer (transfer.mode: redirect)."
        )
        self._turned_away = families.counter(
            "refused_total",
            "Requests that were refused before anything was done for them, by listener (hostport, nodeport, "
            "peer, admin) and reason. docs/operations.md says what each reason means.",
            "listener",
            "reason",
        )
        for listener in LISTENERS:  # Prometheus sees no rate in a series that begins at 1
            for reason in Reason:
                self._turned_away.labels(listener, reason.value)
        self._speed = families.linked(
            "body_speed_bytes_per_second",
            "Speed of each body of at least 1 MiB, in bytes per second from its first byte to its last, by "
            "listener (path) and tier of the source.",
            "path",
            "tier",
            buckets=_SPEED_BUCKETS,
        )
        self._saved_bytes = families.counter(
            "registry_saved_bytes_total",
            "Body bytes that clients got from this agent, by listener (path). Without a mirror each of them "
            "would have come from the registry.",
            "path",
        )
        for path in RequestPath:  # Prometheus sees no rate in a series that begins at 1
            self._saved_bytes.labels(path.value)
        self._saved_usd = families.counter(
            "registry_saved_usd_total",
            "US dollars that those bytes would have cost from the registry, at costs.registry per 10^9 "
            "bytes. The net saving is this minus shorthaul_zone_cost_usd_total, summed over all agents.",
        )
        self._sent_bytes = families.counter(
            "sent_bytes_total",
            "Body bytes sent to clients, by way. sendfile and splice: inside the kernel. copy, stripe and "
            "memory (first bytes, small contents): through the agent, which takes more processor time.",
            "way",
        )

    def request(self, record: RequestRecord) -> None:
        """A request was answered."""
        tier = record.tier_label
        self._requests.labels(record.path.value, record.kind, record.source, tier, record.result.value).inc()
        for part in record.sources:
            self._bytes.labels(record.path.value, part.tier.label).inc(part.size_bytes)
        if record.body_bytes and not record.sources:
            self._bytes.labels(record.path.value, tier).inc(record.body_bytes)
        if record.first_byte_s is not None:
            self._first_byte.observe(record.first_byte_s, record, record.path.value, record.source)
        if record.kind in ("manifest", "blob"):  # others are pings, or last as long as their connection
            self._duration.observe(record.seconds, record, record.path.value, tier, record.result.value)
        if record.body_bytes >= _SPEED_LEAST_BYTES and record.first_byte_s is not None:
            took_s = max(record.seconds - record.first_byte_s, 1e-6)
            self._speed.observe(record.body_bytes / took_s, record, record.path.value, tier)

    def saved(self, path: str, size_bytes: int, usd: float) -> None:
        """A client got these bytes here, which would have cost this much from the registry."""
        self._saved_bytes.labels(path).inc(size_bytes)
        self._saved_usd.inc(usd)

    def redirect(self) -> None:
        """A client was redirected to a peer."""
        self._redirects.inc()

    def sent(self, ways: Mapping[str, int]) -> None:
        """Body bytes were sent to a client. ``ways``: how many in which way."""
        for way, size_bytes in ways.items():
            self._sent_bytes.labels(way).inc(size_bytes)

    def turned_away(self, listener: str, reason: Reason) -> None:
        """A client was refused before anything was done for it."""
        self._turned_away.labels(listener, reason.value).inc()
