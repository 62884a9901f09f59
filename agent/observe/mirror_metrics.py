"""What a mirror is for, as one counter: clients asked, and were served or not, and whose fault it was.

It is the indicator of the objectives that the chart's rules alert on. All of its series exist from the start,
because Prometheus sees no rate in a series that begins at 1.
"""

from enum import Enum

from prometheus_client import CollectorRegistry, Counter

from agent.observe.requests import RequestPath, RequestRecord, Result

_PATHS = (RequestPath.HOSTPORT, RequestPath.NODEPORT)
_SERVED = (Result.OK, Result.REDIRECTED)
_FAILED = (Result.CUT, Result.UNAVAILABLE, Result.BUSY, Result.ERROR)


class Outcome(Enum):
    """What became of a client's request for content. The value is the label."""

    SERVED = "served"
    """The client got what it asked for."""
    MISSED = "missed"
    """No node has it, as far as is known: it is fetched from the registry, and nobody is to blame."""
    FAILED = "failed"
    """A fault: a node has it and gave it not, this node could not ask or was refused, or the body was cut."""
    LEFT = "left"
    """The settings leave it to the registry."""


def outcome_of(record: RequestRecord) -> Outcome | None:
    """What became of a request. None: it was no client's, for no content, or its client's own doing."""
    if record.path not in _PATHS or record.kind not in ("manifest", "blob"):
        return None
    if record.result in _SERVED:
        return Outcome.SERVED
    if record.result in _FAILED:
        return Outcome.FAILED
    if record.result is not Result.NOT_FOUND:
        return None
    if record.left_to_registry:
        return Outcome.LEFT
    return Outcome.FAILED if record.fault else Outcome.MISSED


class MirrorMetrics:
    """Counts the outcomes. The registry is injected."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "shorthaul_mirror_requests_total",
            "Requests of clients for manifests and blobs, by listener (path: hostport, nodeport) and "
            "outcome. served. missed: no node has it, as far as is known, so the registry is asked. failed: "
            "a fault (a node has it and did not give it, this node could not ask, the body was cut, 503). "
            "left: the settings leave it to the registry. Requests that the client got wrong or gave up are "
            "left out.",
            ("path", "outcome"),
            registry=registry,
        )
        for path in _PATHS:
            for outcome in Outcome:
                self._requests.labels(path.value, outcome.value)

    def request(self, record: RequestRecord) -> None:
        """A request was answered."""
        outcome = outcome_of(record)
        if outcome is not None:
            self._requests.labels(record.path.value, outcome.value).inc()
