"""The metrics of the agent itself: its listeners, its loop, its certificate, what it reads again."""

from collections.abc import Mapping

from agent.observe.families import Families

_LAG_BUCKETS_S = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10)


class AgentMetrics:
    """Counts facts about this agent."""

    def __init__(self, families: Families) -> None:
        self._peering_open = families.gauge(
            "peering_open",
            "1 if agents need not prove that they are of this cluster (peering.open), else 0.",
        )
        self._ready = families.gauge("ready", "1 while the agent is ready to serve pulls, else 0.")
        self._loop_lag = families.histogram(
            "event_loop_lag_seconds",
            "Seconds that the agent's event loop was late, measured twice a second. Every request waits that "
            "long. A loop that is stuck answers no liveness probe.",
            buckets=_LAG_BUCKETS_S,
        )
        self._connections = families.gauge(
            "connections",
            "TCP connections that are open now, by listener (hostport, nodeport, peer, admin). The standing "
            "connections of other agents are included.",
            "listener",
        )
        self._tls_failures = families.counter(
            "tls_failures_total",
            "Connections between agents that TLS ended, by the end that this node is (dialled, accepted) and "
            "by the reason: expired, not_yet_valid, issuer (of no known CA), name (of another node), "
            "purpose, no_certificate, bad_certificate, no_tls (one end speaks none), version, silent, "
            "closed, too_many, other.",
            "end",
            "reason",
        )
        self._certificate_ends = families.gauge(
            "certificate_not_after_seconds",
            "When this node's certificate for other agents ends, in seconds since 1970. 0 without TLS.",
        )
        self._reloads = families.counter(
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
        self._problems = families.gauge(
            "problems",
            "Contradictions in the peers file, the filters and what other agents say of themselves. "
            "/api/topology lists up to 20 of each kind.",
        )

    def ready(self, ready: bool) -> None:
        """Whether the agent is ready now."""
        self._ready.set(ready)

    def loop_lag(self, seconds: float) -> None:
        """The event loop was that late."""
        self._loop_lag.observe(seconds)

    def connections(self, listeners: Mapping[str, int]) -> None:
        """How many connections each listener has open now."""
        for listener, number in listeners.items():
            self._connections.labels(listener).set(number)

    def peering_open(self, is_open: bool) -> None:
        """Whether agents need no proof."""
        self._peering_open.set(is_open)

    def tls_failed(self, end: str, reason: str) -> None:
        """TLS ended a connection that this node ``dialled`` or ``accepted``. ``reason``: a `TlsReason`."""
        self._tls_failures.labels(end, reason).inc()

    def certificate_ends(self, unix_s: float) -> None:
        """When this node's certificate for other agents ends."""
        self._certificate_ends.set(unix_s)

    def reload(self, what: str, result: str) -> None:
        """Peers, labels or settings were read again: ``changed``, ``unchanged`` or ``failed``."""
        self._reloads.labels(what, result).inc()

    def problems(self, problems: int) -> None:
        """So many contradictions are known now."""
        self._problems.set(problems)
