"""Makes the agent's metrics in one registry, under the product's name. The one door to prometheus_client."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Families:
    """Makes metrics in ``registry``. Each help text stands alone: what is counted, and in which unit."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, meaning: str, *labels: str) -> Counter:
        """A number that only grows while the agent runs. Its name ends with ``_total``."""
        return Counter(f"shorthaul_{name}", meaning, labels, registry=self._registry)

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        """A number of now."""
        return Gauge(f"shorthaul_{name}", meaning, labels, registry=self._registry)

    def histogram(self, name: str, meaning: str, *labels: str, buckets: Sequence[float]) -> Histogram:
        """How often which sizes came. ``buckets``: their upper bounds, in the unit that the name says."""
        return Histogram(f"shorthaul_{name}", meaning, labels, buckets=buckets, registry=self._registry)
