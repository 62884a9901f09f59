"""The chart's rules with short windows: a test can't wait for hours. Nothing else in them is changed.

What is declared here is all that differs. tests/chart/test_alerts.py plays the rules with their real windows.
"""

import copy
import re
from typing import Any

SECONDS = {"5m": 4, "15m": 4, "30m": 5, "1h": 6, "6h": 7}
"""How long each window of an expression is."""

WAIT_S = 1
"""How long an alert waits before it fires: ``for``, which is between 2 and 30 minutes."""

INTERVAL_S = 1
"""How often rules are evaluated and targets are scraped."""

THRESHOLDS = {
    "failedAtLeast": 2,  # a few requests are enough in a few seconds
    "indexResetsPerHour": 0,
    "apiServerSilentSeconds": 4,
    "crossZoneBytesPerSecond": 1000,
    "nodePortBytesPerSecond": 1000,
}
"""The chart's own thresholds are about hours of a whole cluster."""

_WINDOW = re.compile(r"\[(\w+)\]")


def scaled(spec: dict[str, Any]) -> dict[str, Any]:
    """The rules of a PrometheusRule with short windows. Raises KeyError for a window that is not declared."""
    made = copy.deepcopy(spec)
    for group in made["groups"]:
        group["interval"] = f"{INTERVAL_S}s"
        for rule in group["rules"]:
            rule["expr"] = _WINDOW.sub(lambda found: f"[{SECONDS[found[1]]}s]", rule["expr"])
            if "for" in rule:
                rule["for"] = f"{WAIT_S}s"
    return made
