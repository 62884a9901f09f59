"""The probe's own metrics: what it saw, what it lost, who reads it. Not the agent's: see `metrics`.

Served by prometheus_client's own small server in a thread: aiohttp would cost more than all the rest.
"""

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from agent.flows.messages import Flows, Health, Message


class ProbeMetrics:
    """Counts what the probe tells; a sink of its messages."""

    def __init__(self) -> None:
        self._flows: dict[tuple[str, str], int] = {}
        self._health = Health()
        self.told = 0
        self.readers = self.refused = self.cut_off = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def take(self, message: Message) -> None:
        """A message was told."""
        if isinstance(message, Health):
            self._health = message
        elif isinstance(message, Flows):
            for flow in message.flows:
                if flow.news:
                    key = flow.endpoint.value, flow.verdict.value
                    self._flows[key] = self._flows.get(key, 0) + 1

    def serve(self, host: str, port: int) -> None:
        """Serve ``/metrics`` from a thread. Raises OSError when the port is taken."""
        start_http_server(port, host, registry=self._registry)

    def collect(self) -> list[Metric]:
        """What prometheus_client asks a collector for."""
        health = self._health
        flows = CounterMetricFamily(
            "shorthaul_probe_flows", "Connections judged.", labels=("endpoint", "verdict")
        )
        for key, number in sorted(self._flows.items()):
            flows.add_metric(key, number)
        lost = CounterMetricFamily(
            "shorthaul_probe_lost",
            "What the programs could not tell: events (ring buffer full; told again by the flow's next "
            "packet), flows (no memory for their state), packets (headers not readable), and events that "
            "were none (invalid), flows dropped unjudged (forgotten).",
            labels=("what",),
        )
        for what, number in (
            ("events", health.lost_events),
            ("flows", health.lost_flows),
            ("packets", health.lost_packets),
            ("invalid", health.invalid_events),
            ("forgotten", health.forgotten),
        ):
            lost.add_metric((what,), number)
        canaries = GaugeMetricFamily(
            "shorthaul_probe_canary", "The last canary's verdict: 1.", labels=("endpoint", "verdict")
        )
        rtts = GaugeMetricFamily(
            "shorthaul_probe_canary_rtt_seconds", "Its handshake's round trip.", labels=("endpoint",)
        )
        for canary in health.canaries:
            canaries.add_metric((canary.endpoint.value, canary.verdict.value), 1)
            rtts.add_metric((canary.endpoint.value,), canary.rtt_us / 1e6)
        return [
            flows,
            lost,
            canaries,
            rtts,
            CounterMetricFamily("shorthaul_probe_events", "Events of the programs.", value=self.told),
            CounterMetricFamily(
                "shorthaul_probe_contradictions",
                "Connections of which the two ends tell different things.",
                value=health.contradictions,
            ),
            GaugeMetricFamily(
                "shorthaul_probe_sure_of_intent",
                "1 while no other program can rewrite a connect() before it is read.",
                value=health.sure_of_intent,
            ),
            GaugeMetricFamily("shorthaul_probe_readers", "Readers of its socket.", value=self.readers),
            CounterMetricFamily(
                "shorthaul_probe_readers_refused", "Readers of another user.", value=self.refused
            ),
            CounterMetricFamily(
                "shorthaul_probe_readers_cut_off", "Readers that were too slow.", value=self.cut_off
            ),
        ]
