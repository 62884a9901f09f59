"""The dashboards, alerts and recording rules as the chart renders them, and what is in their queries."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import promql_parser

from tests.chart.rendering import manifests, merged

MONITORED: dict[str, Any] = {
    "metrics": {
        "enabled": True,
        "monitor": "ServiceMonitor",
        "dashboards": {"enabled": True},
        "rules": {"enabled": True},
    }
}

Rule = dict[str, Any]
_VARIABLES = {
    "$__rate_interval": "5m",
    "$__range_s": "21600",
    "$__range": "6h",
    "$cluster": ".*",
    "$zone": ".*",
    "$node": ".*",
}


def rules_file(**values: Any) -> dict[str, Any]:
    """What Prometheus reads as a file of rules."""
    (found,) = (
        each["spec"] for each in manifests(merged(MONITORED, values)) if each["kind"] == "PrometheusRule"
    )
    return dict(found)


def rules(**values: Any) -> list[Rule]:
    """All rules."""
    return [rule for group in rules_file(**values)["groups"] for rule in group["rules"]]


def alerts(**values: Any) -> list[Rule]:
    """Those that alert."""
    return [rule for rule in rules(**values) if "alert" in rule]


def dashboards(**values: Any) -> dict[str, dict[str, Any]]:
    """The dashboards by their uid."""
    texts = (
        text
        for each in manifests(merged(MONITORED, values))
        if each["kind"] == "ConfigMap" and "-dashboard-" in each["metadata"]["name"]
        for text in each["data"].values()
    )
    return {each["uid"]: each for each in map(json.loads, texts)}


@cache
def dashboard_queries() -> dict[str, str]:
    """Every query of every panel and variable, as Grafana writes it there, by where it is."""
    found = {}
    for uid, board in dashboards().items():
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                found[f"{uid}/{panel['title']}/{target['refId']}"] = target["expr"]
        for annotation in board["annotations"]["list"]:
            found[f"{uid}/{annotation['name']}"] = annotation["expr"]
    return found


def as_asked(expr: str, variables: Mapping[str, str] = {}) -> str:
    """A dashboard's query with Grafana's variables filled in."""
    for name, value in {**_VARIABLES, **variables}.items():
        expr = expr.replace(name, value)
    assert "$" not in re.sub(r'"\$1"', "", expr), expr
    return expr


def selectors(expr: str) -> list[tuple[str, list[Any]]]:
    """The metrics that an expression reads, each with the matchers on its labels."""
    found: list[tuple[str, list[Any]]] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append((str(node.name), list(node.matchers.matchers)))
        return True

    promql_parser.walk(promql_parser.parse(expr), visit)
    return found


def grouping_labels(expr: str) -> Iterator[str]:
    """The labels that an expression keeps or joins on."""
    for names in re.findall(r"\b(?:by|on|group_left|group_right|without|ignoring) ?\(([^)]*)\)", expr):
        yield from (name.strip() for name in names.split(",") if name.strip())
