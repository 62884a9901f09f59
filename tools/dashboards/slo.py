"""Objectives: how much of what may fail has failed, and how fast. It reads what the chart's rules record."""

from tools.dashboards.grafana import Dashboard, Panel, Query, Row, selected

_FAILED = "cluster_path:shorthaul_failed:ratio_rate"
_REQUESTS = "cluster_path_outcome:shorthaul_mirror_requests:rate5m"
_NET = "cluster:shorthaul_net_saved_usd:rate5m"
_IN_TIME = "cluster_source:shorthaul_first_bytes_in_time:ratio_rate1h"


def _failed_in(window: str) -> Query:
    return Query(expr=f"max by (path) ({selected(_FAILED + window)})", legend=f"{{{{path}}}} {window}")


def _over_range(outcomes: str) -> str:
    return f"sum by (path) (avg_over_time({selected(_REQUESTS, f'outcome=~{outcomes}')}[$__range]))"


SLO = Dashboard(
    name="slo",
    title="Objectives",
    about="How much of what may fail has failed, and how fast. Needs the recording rules of the chart "
    "(metrics.rules.enabled). Zones and nodes can't be chosen here: objectives are for the whole "
    "cluster.",
    rows=(
        Row(
            title="Requests that were served",
            panels=(
                Panel(
                    title="Served in the chosen time",
                    kind="stat",
                    width=6,
                    unit="percentunit",
                    most=1,
                    asks="The share of requests that the mirror served, of those that it had to serve, by "
                    "listener.",
                    queries=(
                        Query(
                            expr=f"{_over_range('served')} / ({_over_range('served|failed')} > 0)",
                            legend="{{path}}",
                            instant=True,
                        ),
                    ),
                    bounds=(0.99, 0.98),
                    falling=True,
                    runbook="ShorthaulMirrorSuccessLow",
                ),
                Panel(
                    title="Failed, by window",
                    width=18,
                    unit="percentunit",
                    asks="The share that failed by a fault of the mirror. With an objective of 99 %, 14.4 % "
                    "in an hour and in five minutes is a page, 6 % in six hours and in half an hour is "
                    "a ticket.",
                    queries=tuple(_failed_in(window) for window in ("5m", "30m", "1h", "6h")),
                    bounds=(0.06, 0.144),
                    runbook="ShorthaulMirrorSuccessLow",
                ),
                Panel(
                    title="Requests, by listener and outcome",
                    width=12,
                    unit="reqps",
                    asks="What the objective is about: served and failed. missed and left are beside it.",
                    queries=(
                        Query(
                            expr=f"sum by (path, outcome) ({selected(_REQUESTS)})",
                            legend="{{path}} {{outcome}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    title="Failed in the last hour",
                    width=12,
                    asks="How many requests failed. Below the chart's failedAtLeast no share is an alert.",
                    queries=(
                        Query(
                            expr=f"max by (path) ({selected('cluster_path:shorthaul_failed:increase1h')})",
                            legend="{{path}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            title="First bytes in time",
            panels=(
                Panel(
                    title="Within 250 ms, over an hour",
                    width=12,
                    unit="percentunit",
                    most=1,
                    asks="The share of first bytes to clients that came within a quarter of a second, by "
                    "source.",
                    queries=(Query(expr=f"min by (source) ({selected(_IN_TIME)})", legend="{{source}}"),),
                    bounds=(0.9, 0.8),
                    falling=True,
                    runbook="ShorthaulFirstByteSlow",
                ),
                Panel(
                    title="Saved",
                    width=12,
                    unit="currencyUSD",
                    least=None,
                    asks="US dollars per hour that the mirror saves, what bytes between zones cost taken "
                    "off.",
                    queries=(
                        Query(
                            expr=f"3600 * sum by (cluster) ({selected(_NET)})",
                            legend="{{cluster}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            title="Alerts",
            panels=(
                Panel(
                    title="Firing now",
                    kind="table",
                    width=24,
                    asks="By name and severity, with how many there are. docs/operations.md has a section "
                    "for each.",
                    queries=(
                        Query(
                            expr="count by (alertname, severity) "
                            f"({selected('ALERTS', 'alertname=~Shorthaul.+', 'alertstate=firing')})",
                            instant=True,
                            table=True,
                        ),
                    ),
                ),
            ),
        ),
    ),
)
