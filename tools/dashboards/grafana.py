"""Grafana's JSON of dashboards, from what a reader of one needs to know: a question, a query, a unit.

Source: Grafana's dashboard JSON model, schema version 39 (Grafana 10.4 and later import it).
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SCHEMA_VERSION = 39
RUNBOOKS = "[[ runbooks ]]"
"""The chart writes the address here, or takes the link out."""

IN_CLUSTER = 'cluster=~"$cluster"'
_CHOSEN = 'node_zone=~"$zone",node_name=~"$node"'
NODES = f"shorthaul_node_info{{{IN_CLUSTER},{_CHOSEN}}}"
HERE = f"and on (cluster, instance) {NODES}"
"""Keeps the series of the chosen zones and nodes. Each agent has one such series: nothing is multiplied."""

_WIDTH = 24
_MATCHER = re.compile(r"^(\w+)(=~|!~|!=|=)(.*)$")
_SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


def rate(metric: str, *matchers: str, window: str = "$__rate_interval") -> str:
    """The rate of a counter of the chosen nodes."""
    return f"(rate({selected(metric, *matchers)}[{window}]) {HERE})"


def now(metric: str, *matchers: str) -> str:
    """A gauge of the chosen nodes."""
    return f"({selected(metric, *matchers)} {HERE})"


def selected(metric: str, *matchers: str) -> str:
    """A metric of the chosen clusters. ``matchers``: such as ``path!=peer``, without quotes."""
    quoted = (_MATCHER.sub(r'\1\2"\3"', each) for each in matchers)
    return f"{metric}{{{','.join((IN_CLUSTER, *quoted))}}}"


def quantile(of: float, metric: str, *matchers: str, by: str = "") -> str:
    """A quantile of a histogram of the chosen nodes. ``by``: labels to keep."""
    kept = ", ".join(("le", by)) if by else "le"
    return f"histogram_quantile({of}, sum by ({kept}) ({rate(metric + '_bucket', *matchers)}))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One expression. ``legend``: Grafana's format. ``instant``: only its value now is shown."""

    expr: str
    legend: str = ""
    instant: bool = False
    table: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. ``kind``: Grafana's name. ``asks``: what it answers.

    ``runbook``: a heading of docs/operations.md. ``bounds``: where a value turns yellow and red; ``falling``:
    when it is below them. ``matrix``: the labels of rows and columns. ``hidden``: columns that are not shown.
    """

    title: str
    asks: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    runbook: str = ""
    stacked: bool = False
    bounds: tuple[float, float] | None = None
    falling: bool = False
    least: float | None = 0.0
    most: float | None = None
    matrix: tuple[str, str] | None = None
    hidden: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A heading above panels."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard. ``name``: of its file, and in its uid."""

    name: str
    title: str
    about: str
    rows: Sequence[Row] = field(default=())

    @property
    def uid(self) -> str:
        """Is the same in each release, so that links and bookmarks stay."""
        return f"shorthaul-{self.name}"

    def json(self) -> Json:
        """What Grafana imports."""
        return {
            "uid": self.uid,
            "title": f"shorthaul / {self.title}",
            "description": self.about,
            "tags": ["shorthaul"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "1m",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "links": [
                {
                    "type": "dashboards",
                    "title": "shorthaul",
                    "tags": ["shorthaul"],
                    "asDropdown": True,
                    "includeVars": True,
                    "keepTime": True,
                    "targetBlank": False,
                },
                _runbook_link(""),
            ],
            "annotations": {"list": [_upgrades()]},
            "templating": {"list": _variables()},
            "panels": _laid_out(self),
        }


def _variables() -> list[Json]:
    def of_metric(name: str, query: str, label: str) -> Json:
        return {
            "type": "query",
            "name": name,
            "label": label,
            "datasource": _SOURCE,
            "query": {"qryType": 1, "query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }

    return [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Data source",
            "query": "prometheus",
            "refresh": 1,
            "current": {},
        },
        of_metric("cluster", "label_values(shorthaul_node_info, cluster)", "Cluster"),
        of_metric("zone", f"label_values(shorthaul_node_info{{{IN_CLUSTER}}}, node_zone)", "Zone"),
        of_metric(
            "node",
            f'label_values(shorthaul_node_info{{{IN_CLUSTER},node_zone=~"$zone"}}, node_name)',
            "Node",
        ),
    ]


def _upgrades() -> Json:
    expr = f"changes({selected('cluster_version:shorthaul_agents:count')}[5m]) > 0"
    return {
        "name": "Upgrades",
        "datasource": _SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "blue",
        "expr": expr,
        "step": "60s",
        "titleFormat": "shorthaul {{version}}",
    }


def _laid_out(dashboard: Dashboard) -> list[Json]:
    """The panels in rows, from left to right and from top to bottom."""
    found: list[Json] = []
    top = 0
    for row in dashboard.rows:
        found.append(
            {
                "id": _number(dashboard, row.title, ""),
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1},
                "panels": [],
            }
        )
        left, top, tallest = 0, top + 1, 0
        for panel in row.panels:
            if left + panel.width > _WIDTH:
                left, top, tallest = 0, top + tallest, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            found.append(_panel(panel, _number(dashboard, row.title, panel.title), place))
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return found


def _number(dashboard: Dashboard, row: str, title: str) -> int:
    """A panel's id: the same as long as its title is, wherever it stands."""
    return int.from_bytes(hashlib.sha256(f"{dashboard.name}/{row}/{title}".encode()).digest()[:3]) + 1


def _panel(panel: Panel, number: int, place: Json) -> Json:
    made: Json = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.asks,
        "datasource": _SOURCE,
        "gridPos": place,
        "links": [_runbook_link(panel.runbook)] if panel.runbook else [],
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "datasource": _SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": query.instant,
                "range": not query.instant,
                **({"format": "table"} if query.table else {}),
                **({"format": "heatmap"} if panel.kind == "heatmap" else {}),
            }
            for position, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }
    changes = _transformations(panel)
    return {**made, "transformations": changes} if changes else made


def _field(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "text" if panel.bounds is None else "green", "value": None}]
    if panel.bounds is not None:
        first, second = panel.bounds
        steps = (
            [
                {"color": "red", "value": None},
                {"color": "yellow", "value": second},
                {"color": "green", "value": first},
            ]
            if panel.falling
            else [*steps, {"color": "yellow", "value": first}, {"color": "red", "value": second}]
        )
    custom: Json = {}
    if panel.kind == "timeseries":
        custom = {
            "fillOpacity": 30 if panel.stacked else 8,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
        }
        if panel.stacked:
            custom["stacking"] = {"mode": "normal", "group": "A"}
    elif panel.kind == "table":
        coloured = panel.bounds is not None
        custom = {"align": "auto", "cellOptions": {"type": "color-background" if coloured else "auto"}}
    found: Json = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}, "custom": custom}
    found["color"] = {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"}
    if panel.least is not None:
        found["min"] = panel.least
    if panel.most is not None:
        found["max"] = panel.most
    if panel.kind in ("stat", "table"):
        found["noValue"] = "none"
    return found


def _transformations(panel: Panel) -> list[Json]:
    if panel.matrix is not None:
        row, column = panel.matrix
        options = {"rowField": row, "columnField": column, "valueField": "Value"}
        return [{"id": "groupingToMatrix", "options": options}]
    if panel.kind == "table":
        hidden = dict.fromkeys(("Time", *panel.hidden), True)
        merged = [{"id": "merge", "options": {}}] if len(panel.queries) > 1 else []
        return [*merged, {"id": "organize", "options": {"excludeByName": hidden}}]
    return []


def _runbook_link(heading: str) -> Json:
    """A link that the chart takes out if it does not know where the pages are. It has no inner braces."""
    anchor = f"#{heading.lower()}" if heading else ""
    return {
        "type": "link",
        "title": f"Runbook: {heading}" if heading else "Runbooks",
        "url": f"{RUNBOOKS}/operations.md{anchor}",
        "targetBlank": True,
    }


_LEGEND: Json = {"displayMode": "list", "placement": "bottom", "showLegend": True}
_VALUES: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[str, Json] = {
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "stat": {
        "reduceOptions": _VALUES,
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "textMode": "auto",
        "orientation": "auto",
    },
    "bargauge": {
        "reduceOptions": _VALUES,
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
    },
    "table": {
        "showHeader": True,
        "cellHeight": "sm",
        "footer": {"show": False, "reducer": ["sum"], "fields": ""},
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "exponent": 0.5, "fill": "blue"},
        "yAxis": {"axisPlacement": "left", "unit": "s"},
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
    },
}
