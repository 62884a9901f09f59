"""Values that make no sense are refused, and the message says what to write."""

from typing import Any

import helm_python
import pytest

from tests.chart.rendering import manifests, refusal, rendered

BY_SCHEMA: list[tuple[dict[str, Any], str]] = [
    ({"nodeport": {}}, "'nodePort'"),
    ({"config": {"lookop": {}}}, "'lookup'"),
    ({"ports": {"metrics": 1}}, "'admin'"),
    ({"config": {"lookup": {"at_once": 5000}}}, "write a whole number from 1 to 1024"),
    ({"config": {"lookup": {"at_once": "64"}}}, "write a whole number from 1 to 1024"),
    ({"config": {"transfer": {"upload_bytes_per_s": 5}}}, "write 0 for no limit, or a whole number"),
    ({"config": {"transfer": {"mode": "proxy"}}}, "'relay', 'redirect'"),
    ({"config": {"cold_start": {"mode": "on"}}}, "'claims', 'off'"),
    ({"config": {"cold_start": {"followers_max": 0}}}, "write a whole number from 1 to 100"),
    ({"config": {"tags": {"resolve": "yes"}}}, "write true or false, without quotes"),
    ({"config": {"tags": {"exclude": ["a,b"]}}}, "write a list of globs"),
    ({"config": {"registries": {"include": ["https://docker.io"]}}}, "write a list of globs"),
    ({"config": {"registries": {"include": ["nginx"]}}}, "write a list of globs"),
    ({"config": {"costs": {"pairs": [{"from": "a"}]}}}, "write a list of {from: ZONE"),
    ({"config": {"node": {"name": "a"}}}, "leave it out: the chart sets each node"),
    ({"config": {"listen": {"peer": "10.0.0.1:1"}}}, "set the values `ports`"),
    ({"config": {"store": "oci-layout:///a"}}, "set the values `containerd`"),
    ({"config": {"membership": {"static": "a"}}}, "leave it out: the agents find each other"),
    ({"config": {"state_dir": "/a"}}, "set the value `stateDirectory`"),
    ({"config": {"probe": {"hosts_dir": "/a"}}}, "set the values `containerd`"),
    ({"network": "bridge"}, "'host', 'hostPort'"),
    ({"ports": {"peer": 70000}}, "write a port, from 1 to 65535"),
    ({"containerd": {"flavour": "docker"}}, "'k3s'"),
    ({"containerd": {"root": "var/lib"}}, "write an absolute path"),
    ({"containerd": {"root": "/var/lib'; rm -rf /"}}, "write an absolute path"),
    ({"configure": {"registries": ["https://ghcr.io"]}}, "write a list of registries as HOST or HOST:PORT"),
    ({"configure": {"registries": ["a'b"]}}, "write a list of registries as HOST or HOST:PORT"),
    ({"configure": {"registries": ["a.b", "a.b"]}}, "each once"),
    ({"configure": {"endpoints": ["loadbalancer"]}}, "hostport, nodeport and clusterip"),
    ({"configure": {"capabilities": ["pull", "referrers"]}}, "write [pull, resolve]"),
    ({"configure": {"dialTimeout": 1}}, "write a time such as 1s"),
    ({"image": {"repository": "a:tag/b c"}}, "write the image\\'s name without tag"),
    ({"image": {"digest": "abc"}}, "write sha256: and 64 hexadecimal digits"),
    ({"image": {"tag": 1.0}}, "write a tag in quotes"),
    ({"agent": {"resources": {"limits": {"memory": "much"}}}}, "write quantities"),
    ({"updateStrategy": {"maxSurge": "a few"}}, "write a number of nodes, a percentage"),
    ({"podDisruptionBudget": {"minAvailable": "50%"}}, "no percentage for DaemonSets"),
    ({"nodeSelector": {"a": True}}, "in quotes if it is a number, true or false"),
    ({"tolerations": "all"}, "write a list of tolerations"),
    ({"networkPolicy": {"nodeCIDRs": ["10.0.0.1"]}}, "write a list of networks"),
    ({"metrics": {"monitor": "yes"}}, "'none', 'ServiceMonitor', 'PodMonitor'"),
    ({"extraObjects": [{"kind": "A"}]}, "each with apiVersion and kind"),
]

BY_TEMPLATE: list[tuple[dict[str, Any], str]] = [
    ({"nodePort": {"enabled": False}, "configure": {"endpoints": ["nodeport"]}}, "set nodePort.enabled=true"),
    ({"network": "hostPort", "updateStrategy": {"maxSurge": 1}}, "set updateStrategy.maxUnavailable"),
    ({"network": "hostPort", "updateStrategy": {"maxUnavailable": 0}}, "nothing could be updated"),
    ({"updateStrategy": {"maxSurge": "0%"}}, "nothing could be updated"),
    ({"updateStrategy": {"maxSurge": 2, "maxUnavailable": 1}}, "set the other one to 0"),
    ({"terminationGracePeriodSeconds": 30}, "set at least 34"),
    ({"config": {"stop": {"drain_s": 100}}}, "set at least 109"),
    (
        {"config": {"cold_start": {"claim_start_s": 20}}},
        "make it a quarter of config.cold_start.claim_wait_s",
    ),
    ({"config": {"cold_start": {"claim_wait_s": 2.5}}}, "the next node would never get its turn"),
    ({"config": {"latency": {"window_s": 4}}}, "make it ten times config.latency.interval_s"),
    ({"metrics": {"monitor": "PodMonitor"}}, "set metrics.enabled=true"),
    ({"ports": {"admin": 30022}}, "30022 is taken by ports.nodeport"),
    ({"ports": {"nodeport": 30020}}, "30020 is taken by ports.peer"),
    ({"ports": {"hostport": 9090}}, "9090 is taken by ports.hostport"),
    ({"nodePort": {"port": 30022}}, "kube-proxy would take it away"),
    ({"ports": {"admin": 30021}}, "kube-proxy would take it away"),
    ({"ports": {"probe": 30021}}, "kube-proxy would take it away"),
    ({"fullnameOverride": "1st"}, "begins with a letter"),
    ({"priorityClassQuota": True, "priorityClassName": ""}, "set priorityClassName"),
]


@pytest.mark.parametrize(("values", "told"), BY_SCHEMA, ids=lambda value: str(value)[:60])
def test_schema_refuses(values: dict[str, Any], told: str) -> None:
    message = refusal(values)
    assert "don't meet the specifications of the schema" in message
    assert told in message


@pytest.mark.parametrize(("values", "told"), BY_TEMPLATE, ids=lambda value: str(value)[:60])
def test_templates_refuse(values: dict[str, Any], told: str) -> None:
    assert told in refusal(values)


def test_every_mistake_is_told_at_once() -> None:
    message = refusal({"network": "x", "ports": {"peer": 0}, "config": {"log": {"level": "loud"}}})
    assert all(at in message for at in ("/network", "/ports/peer", "/config/log/level"))


@pytest.mark.parametrize("name", ["1", "1st", "my.mirror"])
def test_a_release_name_that_no_service_may_have_is_refused(name: str) -> None:
    with pytest.raises(helm_python.HelmError, match=r"begins with a letter.* set fullnameOverride"):
        rendered(name=name)
    found = manifests({"fullnameOverride": "shorthaul"}, name=name)
    assert {each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in found} == {name}
