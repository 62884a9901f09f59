"""The metrics of peers: where they are, how far away, and what bytes between zones cost."""

from collections.abc import Mapping

from agent.observe.families import Families
from topology.placement import Tier

_RTT_BUCKETS_S = (50e-6, 0.0001, 0.0002, 0.0003, 0.0005, 0.0007, 0.001, 0.0015, 0.002, 0.005, 0.02, 0.1, 0.5)


class TopologyMetrics:
    """Counts facts about the other nodes."""

    def __init__(self, families: Families) -> None:
        self._peers = families.gauge("peers", "Peers in the list of members now, without this node.")
        self._members_silent = families.gauge(
            "api_server_silent_seconds",
            "Seconds since the Kubernetes API server was last heard (membership.kubernetes). While all is "
            "well it speaks about once a minute. 0 with another membership.",
        )
        self._cooling = families.gauge(
            "peers_cooling", "Peers that cool off now because they failed: others are preferred to them."
        )
        self._reachable = families.gauge(
            "peers_reachable",
            "Peers that nothing speaks against now: they do not cool off, and those that once did not answer "
            "have answered since.",
        )
        self._rtt = families.histogram(
            "rtt_seconds",
            "Round trips to peers in seconds, as this node's kernel measured them, by the peer's tier.",
            "tier",
            buckets=_RTT_BUCKETS_S,
        )
        self._rtt_samples = families.counter(
            "rtt_samples_total",
            "Measured round trips that were added to the topology, by source (measurement, connection, "
            "upload, kernel).",
            "source",
        )
        self._measurements = families.counter(
            "latency_measurements_total",
            "Attempts to measure the round trip to a peer, by result (measured, lost, unreachable, absurd).",
            "result",
        )
        self._measuring = families.gauge(
            "latency_connections", "Measuring connections to peers that are open now."
        )
        self._reports = families.counter(
            "latency_reports_total",
            "Latency reports that came from peers, by result (taken, invalid, stranger: not from a member).",
            "result",
        )
        self._absurd = families.counter(
            "rtt_absurd_total",
            "Round trips in peers' reports that can't be true, and were clamped or left out.",
        )
        self._placed = families.gauge(
            "topology_nodes",
            "Nodes now, this one included, by how their zone is known (labelled, inferred, unknown). Those "
            "whose latency contradicts their labels count as suspect as well.",
            "placed",
        )
        self._label_problems = families.gauge(
            "label_problems", "Missing and contradictory labels of nodes now. /api/topology lists them."
        )
        self._zone_rtt = families.gauge(
            "zone_rtt_seconds",
            "Round trip now from this node's zone to each zone, in seconds: measured, reported by peers, or "
            "the shortest path over other zones.",
            "zone",
        )
        self._zone_bytes = families.counter(
            "zone_bytes_total",
            "Body bytes between this node and others, by source zone and destination zone. The agents of a "
            "cluster count no byte twice.",
            "source_zone",
            "destination_zone",
        )
        self._zone_usd = families.counter(
            "zone_cost_usd_total",
            "US dollars that the body bytes between this node and others cost, by the prices in costs.*, by "
            "source zone and destination zone.",
            "source_zone",
            "destination_zone",
        )

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

    def zone_rtts(self, rtts_us: Mapping[str, float]) -> None:
        """The round trips from this node's zone to each zone now. Other zones are dropped."""
        self._zone_rtt.clear()
        for zone, rtt_us in rtts_us.items():
            self._zone_rtt.labels(zone).set(rtt_us / 1e6)

    def received(self, source: str, destination: str, size_bytes: int, usd: float) -> None:
        """Body bytes went from one zone to another, for this cost."""
        self._zone_bytes.labels(source, destination).inc(size_bytes)
        self._zone_usd.labels(source, destination).inc(usd)
