"""Settings: read and checked once, and frozen from then on."""

from agent.config.load import (
    ConfigError,
    Problem,
    describe_settings,
    dump_settings,
    load_settings,
    make_settings,
)
from agent.config.settings import (
    CostSettings,
    HttpSettings,
    LatencySettings,
    LookupSettings,
    PlacementSettings,
    ProbeSettings,
    PullSettings,
    ScrubSettings,
    Settings,
    TransferSettings,
)
from agent.config.values import ContainerdStore, Endpoint, OciLayoutStore

__all__ = [
    "ConfigError",
    "ContainerdStore",
    "CostSettings",
    "Endpoint",
    "HttpSettings",
    "LatencySettings",
    "LookupSettings",
    "OciLayoutStore",
    "PlacementSettings",
    "ProbeSettings",
    "Problem",
    "PullSettings",
    "ScrubSettings",
    "Settings",
    "TransferSettings",
    "describe_settings",
    "dump_settings",
    "load_settings",
    "make_settings",
]
