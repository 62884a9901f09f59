"""The metrics of the local path: the probe's verdicts on connections."""

from agent.flows.verdicts import EndpointName, Verdict
from agent.observe.families import Families


class PathMetrics:
    """Counts verdicts."""

    def __init__(self, families: Families) -> None:
        self._local_flows = families.counter(
            "local_flows_total",
            "Connections of this node's containerd and of the probe's canaries to agents, by endpoint and by "
            "the probe's verdict. Where containerd's cgroup is not known, those of any process of root. A "
            "connection whose verdict changes counts once for each.",
            "endpoint",
            "verdict",
        )
        self._other_flows = families.counter(
            "other_flows_total",
            "Connections of all other processes of this node to agents (not of pods with a network of their "
            "own), by endpoint and by the probe's verdict. They prove and disprove nothing.",
            "endpoint",
            "verdict",
        )
        self._local_requests = families.counter(
            "local_requests_total",
            "Requests of this node's clients, by endpoint and by the probe's verdict on their connection.",
            "endpoint",
            "verdict",
        )
        self._remote_bytes = families.counter(
            "nodeport_remote_bytes_total",
            "Bytes on connections of this node's containerd that kube-proxy sent to another node, by "
            "direction (received, sent). They count when the connection ends.",
            "direction",
        )
        self._contradictions = families.counter(
            "flow_contradictions_total", "Connections whose two ends contradict each other. Any is an alarm."
        )
        self._path_proved = families.gauge(
            "local_path_proved",
            "1 while the path to the HostPort is proved to be direct, by the last canary and by all "
            "connections since, else 0.",
        )
        self._probe_connected = families.gauge(
            "probe_connected",
            "1 while a probe reports this node's connections, else 0. Without a probe every verdict is "
            "UNKNOWN.",
        )
        for endpoint in EndpointName:  # Prometheus sees no rate in a series that begins at 1
            for verdict in Verdict:
                self._local_flows.labels(endpoint.value, verdict.value)
                self._other_flows.labels(endpoint.value, verdict.value)

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
