"""What the metrics of the agent and of the probe have in common: which release runs, and no noise."""

import platform
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agent import __version__


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
