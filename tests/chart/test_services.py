"""How containerd and the agents find the agents."""

from typing import Any

import pytest

from tests.chart.rendering import VERSIONS, containers, kinds, one, pod
from tests.chart.samples import SAMPLES

CLUSTERIP = SAMPLES["clusterip"]


def _spec(name: str, values: dict[str, Any] | None = None, version: str = VERSIONS[-1]) -> dict[str, Any]:
    found: dict[str, Any] = one("Service", values, version, name=name)["spec"]
    return found


@pytest.mark.parametrize(
    ("version", "prefers"),
    [
        ("1.24", None),
        ("1.28", None),
        ("1.30", None),
        ("1.31", "PreferClose"),
        ("1.33", "PreferClose"),
        ("1.34", "PreferSameNode"),
        ("1.36", "PreferSameNode"),
    ],
)
def test_nodeport_prefers_the_nearest_agent_that_the_version_can(version: str, prefers: str | None) -> None:
    spec = _spec("shorthaul", {}, version)
    assert spec.get("trafficDistribution") == prefers
    assert "internalTrafficPolicy" not in spec, "it localises the ClusterIP only"
    assert "externalTrafficPolicy" not in spec, "a node without an agent would have no fallback"


def test_nodeport_leads_to_the_agents_listener_for_it() -> None:
    spec = _spec("shorthaul")
    assert spec["type"] == "NodePort"
    assert spec["ports"] == [
        {"name": "mirror", "port": 30021, "targetPort": 30022, "nodePort": 30021, "protocol": "TCP"}
    ]


def test_list_of_peers_has_no_address_of_its_own_and_hides_who_is_not_ready() -> None:
    spec = _spec("shorthaul-peers")
    assert spec["clusterIP"] == "None"
    assert not spec.get("publishNotReadyAddresses"), "it would make every agent look ready"
    assert [(each["name"], each["port"]) for each in spec["ports"]] == [("peer", 30020)]


def test_hostport_alone_needs_one_service_fewer() -> None:
    for values in ({"nodePort": {"enabled": False}}, {"configure": {"endpoints": ["hostport"]}}):
        assert [name for kind, name in kinds(values) if kind == "Service"] == ["shorthaul-peers"]
        for name in ("configure", "hosts"):
            assert (
                "--endpoints hostport --hostport 127.0.0.1:30020 --capabilities"
                in containers(values)[name]["args"][0]
            )


def test_cluster_ip_is_local_or_nobodys() -> None:
    spec = _spec("shorthaul-local", CLUSTERIP)
    assert (spec["type"], spec["internalTrafficPolicy"]) == ("ClusterIP", "Local")
    assert ("Service", "shorthaul") not in kinds(CLUSTERIP)


def test_cluster_ips_address_comes_by_the_environment() -> None:
    assert pod(CLUSTERIP)["enableServiceLinks"] is True
    assert pod()["enableServiceLinks"] is False
    assert '--clusterip "$SHORTHAUL_LOCAL_SERVICE_HOST:30021"' in containers(CLUSTERIP)["hosts"]["args"][0]


def test_endpoints_are_asked_in_the_order_that_is_said() -> None:
    values = {"configure": {"endpoints": ["nodeport", "clusterip", "hostport"]}}
    assert "--endpoints nodeport,clusterip,hostport " in containers(values)["hosts"]["args"][0]


def test_metrics_are_nobodys_by_default() -> None:
    assert ("Service", "shorthaul-metrics") not in kinds()
    assert {"ServiceMonitor", "PodMonitor"}.isdisjoint(kind for kind, _ in kinds())


def test_metrics_of_agents_that_are_not_ready_are_read_too() -> None:
    spec = _spec("shorthaul-metrics", {"metrics": {"enabled": True}})
    assert spec["publishNotReadyAddresses"] is True
    assert [each["port"] for each in spec["ports"]] == [9090, 9091]


def test_service_monitor_selects_the_metrics_service_only() -> None:
    values = SAMPLES["metrics for a ServiceMonitor"]
    monitor = one("ServiceMonitor", values)
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    chosen = [
        name
        for kind, name in kinds(values)
        if kind == "Service" and wanted <= one(kind, values, name=name)["metadata"]["labels"].items()
    ]
    assert chosen == ["shorthaul-metrics"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_pod_monitor_finds_both_containers_without_declared_ports() -> None:
    endpoints = one("PodMonitor", {"metrics": {"enabled": True, "monitor": "PodMonitor"}})["spec"][
        "podMetricsEndpoints"
    ]
    kept = {each["relabelings"][0]["regex"]: each["relabelings"][1]["replacement"] for each in endpoints}
    assert kept == {"agent": "$1:9090", "probe": "$1:9091"}
    assert not [each for each in endpoints if {"port", "targetPort", "portNumber"} & each.keys()]
