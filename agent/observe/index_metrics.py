"""The metrics of an index that is kept in a server. An agent that asks its peers (``scatter``) has none.

They are in the registry from the first use of `Metrics.index` on: an alarm on ``shorthaul_index_up == 0``
does not fire on agents that have no server. Labels are bounded: source, result, kind, outcome. The server's
address, a node or a digest is never a label.
"""

from enum import Enum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from agent.documents.index import IndexSource

_LOOKUP_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.5, 1)


class IndexTrouble(Enum):
    """Why a call to the server failed. The value is the label."""

    UNREACHABLE = "unreachable"
    """No connection, or it broke."""
    SLOW = "slow"
    """No answer within `valkey.timeout_s`: slow, frozen, or the network drops packets."""
    TLS = "tls"
    """The TLS handshake failed: name, CA, client certificate, or one end without TLS."""
    DENIED = "denied"
    """Wrong password or user, or the user may not use a command or key."""
    FULL = "full"
    """``maxmemory`` is reached, and the server evicts nothing."""
    READ_ONLY = "read_only"
    """The server is a replica, or stopped to accept writes."""
    NOT_READY = "not_ready"
    """It loads its data, waits for its master, fails over, or a slot of the Cluster is not served."""
    FOREIGN = "foreign"
    """Another cluster, or another version of the layout, has these keys."""
    GARBAGE = "garbage"
    """It answers something that is not expected: not a Valkey, or a wrong type of value."""
    OTHER = "other"


class FencedOutcome(Enum):
    """What the server said to a node that was about to fetch something from the registry."""

    GRANTED = "granted"
    """Nobody else fetches it."""
    HELD = "held"
    """Another node fetches it already, on the word of another arbiter: it is followed or waited for."""
    LOST = "lost"
    """It was granted, and then another node took it over: this one was too late to renew it."""
    UNAVAILABLE = "unavailable"
    """The server could not be asked: the zone's arbiter alone decided."""


class IndexMetrics:
    """Counts facts about the index's server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._up = Gauge(
            "shorthaul_index_up",
            "1 while the index's server is asked, else 0: then near peers are asked who has what. "
            "`/api/index` and `shorthaul doctor` say why. Absent with `index: scatter`.",
            registry=registry,
        )
        self._lookups = Counter(
            "shorthaul_index_lookups_total",
            "Times that somebody wanted to know who has a digest, by who answered and what. source: cache "
            "(this agent, from a moment ago), server (the index), fallback (near peers, because the server "
            "could not be asked or may not know everything yet). result: found, nobody.",
            ("source", "result"),
            registry=registry,
        )
        self._seconds = Histogram(
            "shorthaul_index_lookup_seconds",
            "Seconds that the index's server took to say who has the digests of one look-up, the way there "
            "and back included. Look-ups that it did not answer are in shorthaul_index_errors_total.",
            buckets=_LOOKUP_BUCKETS_S,
            registry=registry,
        )
        self._announced = Gauge(
            "shorthaul_index_announced_digests",
            "Digests that this node has and that the index's server was told of.",
            registry=registry,
        )
        self._pending = Gauge(
            "shorthaul_index_pending_changes",
            "Digests that the index's server has yet to be told of: that they came, went, or have to be "
            "said again after a reset. Large after a start or a reset, and 0 soon after.",
            registry=registry,
        )
        self._resets = Counter(
            "shorthaul_index_resets_total",
            "Times that the index's server lost what this node had told it (restarted, emptied, failed over, "
            "evicted), or may have. Everything is said again, slowly.",
            registry=registry,
        )
        self._errors = Counter(
            "shorthaul_index_errors_total",
            "Calls to the index's server that failed, by kind: unreachable, slow (no answer in "
            "valkey.timeout_s), tls, denied (password or rights), full, read_only, not_ready, foreign (keys "
            "of another cluster or version), garbage, other. While it is down only one probe a second calls.",
            ("kind",),
            registry=registry,
        )
        self._fenced = Counter(
            "shorthaul_claims_fenced_total",
            "Times that this node was to fetch something from the registry and asked the index's server "
            "whether another node does. granted: none does. held: another one does, and is followed. lost: "
            "another node took it over meanwhile. unavailable: the server could not be asked.",
            ("outcome",),
            registry=registry,
        )
        self._prepare()

    def _prepare(self) -> None:
        """Prometheus sees no rate in a series that begins at 1."""
        for source in IndexSource:
            for result in ("found", "nobody"):
                self._lookups.labels(source.value, result)
        for kind in IndexTrouble:
            self._errors.labels(kind.value)
        for outcome in FencedOutcome:
            self._fenced.labels(outcome.value)

    def up(self, up: bool) -> None:
        """Whether the server is asked now."""
        self._up.set(up)

    def lookup(self, source: IndexSource, *, found: bool) -> None:
        """Somebody wanted to know who has a digest, and was answered."""
        self._lookups.labels(source.value, "found" if found else "nobody").inc()

    def answered(self, seconds: float) -> None:
        """The server answered a look-up."""
        self._seconds.observe(seconds)

    def announced(self, digests: int, *, pending: int) -> None:
        """So many digests were told to the server, and so many changes were not yet."""
        self._announced.set(digests)
        self._pending.set(pending)

    def reset(self) -> None:
        """The server lost what this node told it, or may have."""
        self._resets.inc()

    def failed(self, kind: IndexTrouble) -> None:
        """A call to the server failed."""
        self._errors.labels(kind.value).inc()

    def fenced(self, outcome: FencedOutcome) -> None:
        """The server was asked whether another node fetches what this node is about to fetch."""
        self._fenced.labels(outcome.value).inc()
