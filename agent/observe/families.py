"""Makes the agent's metrics in one registry, under the product's name."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from agent.observe.exemplars import Exemplars, LinkedHistogram


class Families:
    """Makes metrics in ``registry``. Each help text stands alone: what is counted, and in which unit."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.exemplars = Exemplars()

    def counter(self, name: str, meaning: str, *labels: str) -> Counter:
        """A number that only grows while the agent runs. Its name ends with ``_total``."""
        return Counter(f"shorthaul_{name}", meaning, labels, registry=self._registry)

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        """A number of now."""
        return Gauge(f"shorthaul_{name}", meaning, labels, registry=self._registry)

    def histogram(self, name: str, meaning: str, *labels: str, buckets: Sequence[float]) -> Histogram:
        """How often which sizes came. ``buckets``: their upper bounds, in the unit that the name says."""
        return Histogram(f"shorthaul_{name}", meaning, labels, buckets=buckets, registry=self._registry)

    def linked(self, name: str, meaning: str, *labels: str, buckets: Sequence[float]) -> LinkedHistogram:
        """A histogram of requests, whose buckets name one each."""
        return LinkedHistogram(
            self.histogram(name, meaning, *labels, buckets=buckets), buckets, self.exemplars
        )
