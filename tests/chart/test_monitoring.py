"""Dashboards and alerts as the chart renders them. tests/prometheus runs them on a real Prometheus."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord
from tests.chart.monitoring import (
    MONITORED,
    alerts,
    as_asked,
    dashboard_queries,
    dashboards,
    grouping_labels,
    rules,
    rules_file,
    selectors,
)
from tests.chart.rendering import kinds, manifests, merged, refusal
from tests.unit.twins import REPOSITORY_ROOT
from topology.placement import Tier

_PANELS = [
    (uid, panel) for uid, board in dashboards().items() for panel in board["panels"] if panel["type"] != "row"
]
_NAMES = sorted({rule["alert"] for rule in alerts()})
_HEADINGS = re.findall(
    r"^#+ (.+)$", (REPOSITORY_ROOT / "docs/operations.md").read_text(encoding="utf-8"), flags=re.MULTILINE
)
SHARES = ("agentsDownShare", "crossZoneShare", "stalledShare", "claimsLostShare")
_UNITS = {"short", "s", "bytes", "Bps", "reqps", "ops", "cps", "percentunit", "currencyUSD"}


def test_dashboards_are_what_the_generator_makes() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "tools.dashboards", "--check"],
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_nothing_of_it_is_there_unless_it_is_asked_for() -> None:
    assert not [name for kind, name in kinds() if kind == "PrometheusRule" or "dashboard" in name]
    assert len(dashboards()) == 6


@pytest.mark.parametrize("uid", sorted(dashboards()))
def test_dashboard_is_a_good_citizen_of_grafana(uid: str) -> None:
    board = dashboards()[uid]
    assert board["schemaVersion"] >= 39
    assert "id" not in board  # it would overwrite somebody else's
    assert [each["name"] for each in board["templating"]["list"]] == ["datasource", "cluster", "zone", "node"]
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    (others,) = (link for link in board["links"] if link["type"] == "dashboards")
    assert others["tags"] == board["tags"] == ["shorthaul"]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize(("uid", "panel"), _PANELS, ids=[f"{uid}/{panel['title']}" for uid, panel in _PANELS])
def test_panel_says_what_it_answers_its_unit_and_its_lines(uid: str, panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in _UNITS
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        kept = re.search(r"(?:sum|max|min|count|quantile) by \(([^)]*)\)", target["expr"])
        if kept and panel["type"] == "timeseries":
            names = {name.strip() for name in kept[1].split(",")} - {"le", "cluster"}
            assert all(f"{{{{{name}}}}}" in target["legendFormat"] for name in names), target


@pytest.mark.parametrize("where", sorted(dashboard_queries()))
def test_query_is_promql_of_the_chosen_cluster_and_multiplies_no_nodes_by_nodes(where: str) -> None:
    expr = dashboard_queries()[where]
    parsed = promql_parser.parse(as_asked(expr))
    assert parsed is not None
    assert 'cluster=~"$cluster"' in expr
    assert "group_left (node" not in expr or "topk" in expr or "quantile" in expr  # a line for each node
    assert "peer" not in re.findall(r"by \(([^)]*)\)", expr)


def _counted_by_listener() -> set[str]:
    """The metrics that count what agents ask each other for, too, with the listener as a label."""
    metrics = Metrics()
    metrics.request(
        RequestRecord(
            path=RequestPath.PEER,
            method="GET",
            kind="blob",
            tier=Tier.NODE,
            first_byte_s=0.1,
            seconds=0.2,
            body_bytes=1 << 20,
        )
    )
    return set(re.findall(r'^(\w+)\{.*path="peer"', metrics.expose().decode(), flags=re.MULTILINE))


def test_what_agents_ask_each_other_for_is_in_no_sum_with_what_clients_ask_for() -> None:
    counted = _counted_by_listener()
    assert "shorthaul_first_byte_seconds_bucket" in counted
    queries = {**dashboard_queries(), **{str(rule.get("record")): rule["expr"] for rule in rules()}}
    mixed = [
        where
        for where, expr in queries.items()
        for metric, matchers in selectors(as_asked(expr))
        if metric in counted
        and "path" not in grouping_labels(expr)
        and "path" not in {matcher.name for matcher in matchers}
    ]
    assert not mixed, "each takes one kind of listener, or tells listeners apart"


def test_links_lead_to_sections_that_are_there_and_vanish_where_nobody_publishes_them() -> None:
    published = dashboards(metrics={"runbooks": "https://git.example.org/shorthaul/docs/"})
    links = [
        link["url"]
        for board in published.values()
        for part in (board, *board["panels"])
        for link in part.get("links", [])
        if "url" in link
    ]
    anchors = {heading.lower() for heading in _HEADINGS}
    assert len(links) > 30
    for url in links:
        page, _, anchor = url.partition("#")
        assert page == "https://git.example.org/shorthaul/docs/operations.md"
        assert not anchor or anchor in anchors
    assert "operations.md" not in json.dumps([board["links"] for board in dashboards().values()])


@pytest.mark.parametrize("name", _NAMES)
def test_alert_has_a_section_that_says_what_it_means_whose_fault_it_is_and_what_to_do(name: str) -> None:
    page = (REPOSITORY_ROOT / "docs/operations.md").read_text(encoding="utf-8")
    section = page.partition(f"\n### {name}\n")[2].partition("\n#")[0]
    assert [re.match(r"- \*\*([^*]+)\*\*", line)[1] for line in section.strip().splitlines()] == [  # type: ignore[index]
        "Means",
        "Whose fault",
        "Do",
    ]


def test_there_is_no_section_for_an_alert_that_is_gone() -> None:
    assert sorted(heading for heading in _HEADINGS if heading.startswith("Shorthaul")) == _NAMES


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_alert_says_how_bad_it_is_what_it_is_with_its_value_or_place_and_where_to_read_on(
    rule: dict[str, Any],
) -> None:
    said = rule["annotations"]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert said["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert said["summary"].endswith(".")
    assert "\n" not in said["description"]
    assert "{{ $" in said["description"] or rule["alert"] == "ShorthaulAgentsAbsent"
    assert rule.get("for", "0s") != "0s" or "increase(" in rule["expr"]  # nothing that is over in a moment
    promql_parser.parse(rule["expr"])


def test_only_rules_with_short_windows_read_what_5000_agents_expose() -> None:
    """A rule over six hours of 40,000 series would take seconds of each half minute."""
    for rule in rules():
        for name, window in re.findall(r"(shorthaul_\w+)(?:\{[^}]*\})?\[(\w+)\]", rule["expr"]):
            recorded = f":{name}" in rule["expr"]
            assert recorded or window == "5m" or "alert" in rule, rule


def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rules_file()))
    told = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_thresholds_labels_and_names_come_from_the_values() -> None:
    changed = alerts(
        metrics={
            "runbooks": "https://x.example/docs",
            "rules": {
                "alertLabels": {"team": "platform"},
                "without": ["ShorthaulProbeAbsent"],
                "thresholds": {"stalledShare": 0.25},
            },
        }
    )
    by_name = {rule["alert"]: rule for rule in changed}
    assert "> 0.25" in by_name["ShorthaulStalledPeers"]["expr"]
    assert "ShorthaulProbeAbsent" not in by_name
    assert all(rule["labels"]["team"] == "platform" for rule in changed)
    assert all(rule["annotations"]["runbook_url"].startswith("https://x.example/docs/") for rule in changed)
    assert not [rule for rule in rules() if "[[" in json.dumps(rule)]
    assert 'job=~".*shorthaul.*"' in json.dumps(by_name["ShorthaulAgentsDown"]).replace("\\", "")


@pytest.mark.parametrize(
    ("values", "gone"),
    [
        ({"probe": {"enabled": False}}, {"ShorthaulProbeAbsent", "ShorthaulHostPortUnproved"}),
        ({"network": "hostPort"}, {"ShorthaulHostPortUnproved", "ShorthaulLocalTrafficThroughKubeProxy"}),
    ],
)
def test_what_can_t_be_proved_by_design_is_no_alert(values: dict[str, Any], gone: set[str]) -> None:
    left = {rule["alert"] for rule in alerts(**values)}
    assert not left & gone
    assert "ShorthaulMirrorSuccessLow" in left


def test_configmaps_and_rules_go_where_grafana_and_the_operator_look() -> None:
    values = merged(
        MONITORED,
        {
            "metrics": {
                "dashboards": {"namespace": "grafana", "folder": "Images", "labels": {"mine": "1"}},
                "rules": {"namespace": "prometheus", "labels": {"release": "stack"}},
            }
        },
    )
    maps = [each["metadata"] for each in manifests(values) if "-dashboard-" in each["metadata"]["name"]]
    assert {each["namespace"] for each in maps} == {"grafana"}
    assert all(each["labels"]["grafana_dashboard"] == each["labels"]["mine"] == "1" for each in maps)
    assert all(each["annotations"] == {"grafana_folder": "Images"} for each in maps)
    (rule,) = (each["metadata"] for each in manifests(values) if each["kind"] == "PrometheusRule")
    assert (rule["namespace"], rule["labels"]["release"]) == ("prometheus", "stack")


def test_all_of_it_fits_into_a_release() -> None:
    """Helm keeps a release in one Secret, compressed: at most 1 MiB."""
    assert sum(len(json.dumps(board)) for board in dashboards().values()) < 200_000


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"metrics": {"rules": {"thresholds": {"stalledShare": 5}}}}, "share from 0 to 1"),
        *(
            ({"metrics": {"rules": {"thresholds": {key: value}}}}, "in metrics.rules.without")
            for key, value in {
                **dict.fromkeys(SHARES, 1),
                "successObjective": 0.93,
                "firstByteObjective": 0,
            }.items()
        ),
        ({"metrics": {"rules": {"without": ["Everything"]}}}, "names of alerts"),
        ({"metrics": {"runbooks": "docs"}}, "https://"),
    ],
)
def test_value_that_makes_no_sense_is_refused_with_what_to_write(values: dict[str, Any], told: str) -> None:
    assert told in refusal(values)


@pytest.mark.parametrize("monitor", ["ServiceMonitor", "PodMonitor"])
def test_pods_of_one_node_are_one_target_that_is_named_by_its_node(monitor: str) -> None:
    """During an upgrade two pods answer at one address."""
    values = merged(MONITORED, {"metrics": {"monitor": monitor}})
    (found,) = (each["spec"] for each in manifests(values) if each["kind"] == monitor)
    for endpoint in found.get("endpoints") or found["podMetricsEndpoints"]:
        *_, node, dropped = endpoint["relabelings"]
        assert (node["targetLabel"], node["sourceLabels"]) == ("node", ["__meta_kubernetes_pod_node_name"])
        assert (dropped["action"], dropped["regex"]) == ("labeldrop", "pod|container")
