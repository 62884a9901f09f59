"""The probe's own metrics: what it saw, what it lost, and its readers. The agent's are in `metrics`."""

from collections import Counter
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from agent.flows.messages import Flows, Health, Message
from agent.flows.verdicts import EndpointName, Verdict
from agent.observe.exposition import Exposed, add_build_info, exposed


class ProbeMetrics:
    """Counts what the probe reports. It receives each message of the probe."""

    def __init__(self) -> None:
        self._flows = {(endpoint.value, verdict.value): 0 for endpoint in EndpointName for verdict in Verdict}
        self._others = dict(self._flows)
        self._health = Health()
        self.delivered = 0
        self.readers = self.refused = self.cut_off = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        add_build_info(self._registry)

    def on_message(self, message: Message) -> None:
        """Count a message of the probe."""
        if isinstance(message, Health):
            self._health = message
        elif isinstance(message, Flows):
            for flow in message.flows:
                if flow.verdict_is_new:
                    counted = self._flows if flow.counts else self._others
                    counted[flow.endpoint.value, flow.verdict.value] += 1

    def exposed(self, accept: str = "") -> Exposed:
        """All metrics, in the format that this ``Accept`` header prefers."""
        return exposed(self._registry, accept)

    def collect(self) -> list[Metric]:
        """The metrics now. prometheus_client calls this for each scrape."""
        health = self._health
        flows = _by_verdict(
            "shorthaul_probe_flows",
            "Connections of this node's containerd and canaries to agents that the probe judged, by endpoint "
            "and verdict. Where containerd's cgroup is not known, those of any process of root.",
            self._flows,
        )
        others = _by_verdict(
            "shorthaul_probe_other_flows",
            "Connections of all other processes of this node to agents that the probe judged, by endpoint "
            "and verdict. They prove and disprove nothing.",
            self._others,
        )
        lost = CounterMetricFamily(
            "shorthaul_probe_lost",
            "Things that the probe lost, by what it was: events (the ring buffer was full; an open flow is "
            "reported again with its next packet), ends of flows (the same, but nothing follows), flows (no "
            "memory for their state), packets (headers not readable), invalid events (invalid), flows that "
            "were dropped before they were reported, or judged UNKNOWN too early, because there were too "
            "many (forgotten), events of other users' connections that were too many in a second "
            "(held_back; an open connection is tried again with its next packet).",
            labels=("what",),
        )
        for what, number in (
            ("events", health.lost_events),
            ("ends", health.lost_ends),
            ("flows", health.lost_flows),
            ("packets", health.lost_packets),
            ("invalid", health.invalid_events),
            ("forgotten", health.forgotten),
            ("held_back", health.held_back),
        ):
            lost.add_metric((what,), number)
        canaries = GaugeMetricFamily(
            "shorthaul_probe_canaries",
            "Canaries (connections that the probe makes itself) of the last round, by endpoint and verdict.",
            labels=("endpoint", "verdict"),
        )
        verdicts = Counter((canary.endpoint.value, canary.verdict.value) for canary in health.canaries)
        for labels, number in sorted(verdicts.items()):
            canaries.add_metric(labels, number)
        rtts = GaugeMetricFamily(
            "shorthaul_probe_canary_rtt_seconds",
            "Seconds that the longest TCP handshake of the last round of canaries took, by endpoint.",
            labels=("endpoint",),
        )
        for name in sorted({canary.endpoint.value for canary in health.canaries if canary.rtt_us}):
            worst = max(canary.rtt_us for canary in health.canaries if canary.endpoint.value == name)
            rtts.add_metric((name,), worst / 1e6)
        return [
            flows,
            others,
            lost,
            canaries,
            rtts,
            CounterMetricFamily(
                "shorthaul_probe_events", "Events that the eBPF programs sent.", value=self.delivered
            ),
            CounterMetricFamily(
                "shorthaul_probe_contradictions",
                "Connections whose two ends contradict each other. Any is an alarm.",
                value=health.contradictions,
            ),
            CounterMetricFamily(
                "shorthaul_probe_foreign_connections",
                "Connections of other network namespaces (pods) to the watched ports. They are not judged.",
                value=health.foreign,
            ),
            GaugeMetricFamily(
                "shorthaul_probe_agents", "Agents that told their sockets.", value=health.agents
            ),
            GaugeMetricFamily(
                "shorthaul_probe_sure_of_intent",
                "1 while no other eBPF program can rewrite a connect() before the probe reads it, else 0.",
                value=health.sure_of_intent,
            ),
            GaugeMetricFamily(
                "shorthaul_probe_readers", "Processes that read the probe's socket now.", value=self.readers
            ),
            CounterMetricFamily(
                "shorthaul_probe_readers_refused",
                "Readers that were refused because they run as another user.",
                value=self.refused,
            ),
            CounterMetricFamily(
                "shorthaul_probe_readers_cut_off",
                "Readers that were cut off because they were too slow.",
                value=self.cut_off,
            ),
        ]


def _by_verdict(name: str, meaning: str, numbers: Mapping[tuple[str, str], int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, meaning, labels=("endpoint", "verdict"))
    for key, number in sorted(numbers.items()):
        family.add_metric(key, number)
    return family
