"""Settings: read and checked once, and frozen from then on.

The package is their types. `agent.config.load` reads them, and loads yaml: whoever reads settings imports it.
"""

from agent.config.indexurl import Deployment, IndexUrl
from agent.config.settings import (
    ColdStartSettings,
    CostSettings,
    HttpSettings,
    KubernetesSettings,
    LatencySettings,
    LookupSettings,
    PlacementSettings,
    ProbeSettings,
    PullSettings,
    ScrubSettings,
    Settings,
    TransferSettings,
    ValkeySettings,
)
from agent.config.values import ContainerdStore, Endpoint, OciLayoutStore

__all__ = [
    "ColdStartSettings",
    "ContainerdStore",
    "CostSettings",
    "Deployment",
    "Endpoint",
    "HttpSettings",
    "IndexUrl",
    "KubernetesSettings",
    "LatencySettings",
    "LookupSettings",
    "OciLayoutStore",
    "PlacementSettings",
    "ProbeSettings",
    "PullSettings",
    "ScrubSettings",
    "Settings",
    "TransferSettings",
    "ValkeySettings",
]
