"""What the metrics of the agent and of the probe have in common: their formats, the release, and no noise."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from agent import __version__

_OPENMETRICS = "application/openmetrics-text"
_TEXTS = ("text/plain", "text/*", "*/*")
_VERSIONS = ("", "1.0.0")  # of OpenMetrics; who wants the draft before it gets the text format


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """All metrics of a registry, in one format."""

    content_type: str
    body: bytes


def exposed(registry: CollectorRegistry, accept: str) -> Exposed:
    """The metrics in the format that an ``Accept`` header prefers: only OpenMetrics has exemplars."""
    metrics = WithoutCreated(registry)
    if prefers_openmetrics(accept):
        body: bytes = openmetrics.generate_latest(metrics)  # type: ignore[no-untyped-call]
        return Exposed(content_type=openmetrics.CONTENT_TYPE_LATEST, body=body)
    return Exposed(content_type=CONTENT_TYPE_LATEST, body=generate_latest(metrics))


def prefers_openmetrics(accept: str) -> bool:
    """Whether an ``Accept`` header (RFC 9110, 12.5.1) prefers OpenMetrics to text. Without any: no."""
    weights = {_OPENMETRICS: 0.0, "": 0.0}
    for accepted in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in accepted.split(";"))
        given = {name: value for name, _, value in (part.partition("=") for part in parameters)}
        if kind == _OPENMETRICS and given.get("version", "").strip('"') not in _VERSIONS:
            continue
        form = _OPENMETRICS if kind == _OPENMETRICS else "" if kind in _TEXTS else None
        if form is not None:
            weights[form] = max(weights[form], _weight(given.get("q", "1")))
    return weights[_OPENMETRICS] > 0 and weights[_OPENMETRICS] >= weights[""]


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


class WithoutCreated(Collector):
    """A registry's metrics without the time at which each series was made.

    prometheus_client exposes that as a gauge of its own for each series, which nobody asked for.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        for metric in self._registry.collect():
            metric.samples = [each for each in metric.samples if not each.name.endswith("_created")]
            yield metric


def add_build_info(registry: CollectorRegistry) -> None:
    """The metric that says which release runs."""
    build = Gauge(
        "shorthaul_build_info",
        "Always 1. The labels say which version of shorthaul and of Python runs.",
        ("version", "python"),
        registry=registry,
    )
    build.labels(__version__, platform.python_version()).set(1)
