"""The agent's metrics: one method for each fact, by subject in the modules beside this one.

The registry is injected. Only `families` and a few modules of metrics import prometheus_client. Those of an
index in a server are in `index_metrics`, which the agent has only with such a server.
Labels are bounded: path, kind, source, tier, result, zone or pair of zones. A node, an address or a digest is
never a label.

Each help text stands alone: what is counted, in which unit, and what the labels' values mean. Counters and
histograms count since the agent started.
"""

from collections.abc import Callable
from functools import cached_property

from prometheus_client import CollectorRegistry, ProcessCollector

from agent.observe.agent_metrics import AgentMetrics
from agent.observe.coldstart_metrics import ColdStartMetrics
from agent.observe.exposition import Exposed, add_build_info, exposed
from agent.observe.families import Families
from agent.observe.health_metrics import HealthMetrics
from agent.observe.index_metrics import IndexMetrics
from agent.observe.mirror_metrics import MirrorMetrics
from agent.observe.path_metrics import PathMetrics
from agent.observe.pull_metrics import PullMetrics
from agent.observe.request_metrics import RequestMetrics
from agent.observe.requests import RequestRecord
from agent.observe.store_metrics import StoreMetrics
from agent.observe.topology_metrics import TopologyMetrics
from agent.observe.upload_metrics import UploadMetrics


class Metrics(
    AgentMetrics,
    RequestMetrics,
    PullMetrics,
    ColdStartMetrics,
    UploadMetrics,
    StoreMetrics,
    TopologyMetrics,
    PathMetrics,
):
    """Counts facts."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry or CollectorRegistry()
        self.on_lookup: Callable[[float], None] = lambda _seconds: None  # who counts them, too
        ProcessCollector(registry=self._registry)
        add_build_info(self._registry)
        self.health = HealthMetrics(self._registry)
        self._mirror = MirrorMetrics(self._registry)
        families = Families(self._registry)
        self.exemplars = families.exemplars
        AgentMetrics.__init__(self, families)
        RequestMetrics.__init__(self, families)
        PullMetrics.__init__(self, families)
        ColdStartMetrics.__init__(self, families)
        UploadMetrics.__init__(self, families)
        StoreMetrics.__init__(self, families)
        TopologyMetrics.__init__(self, families)
        PathMetrics.__init__(self, families)

    @cached_property
    def index(self) -> IndexMetrics:
        """The facts of an index that is kept in a server. They are exposed from the first use on."""
        return IndexMetrics(self._registry)

    def request(self, record: RequestRecord) -> None:
        """See `RequestMetrics.request`."""
        self._mirror.request(record)
        super().request(record)

    def lookup(self, seconds: float) -> None:
        """See `PullMetrics.lookup`."""
        super().lookup(seconds)
        self.on_lookup(seconds)

    def expose(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return self.exposed("").body

    def exposed(self, accept: str) -> Exposed:
        """All metrics, in the format that this ``Accept`` header prefers."""
        return exposed(self._registry, accept)
