"""The agent's own loader and the commands' own parsers take what the chart renders."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.cli.commands import make_parser
from agent.cli.settings import add_config, read_settings
from agent.config import ContainerdStore, Settings
from tests.chart.rendering import (
    NODE,
    SERVICES,
    VERSIONS,
    configuration,
    containers,
    environment,
    manifests,
    one,
    pod,
)
from tests.chart.samples import SAMPLES

_IPV6 = {"spec.nodeName": "n-6", "status.hostIP": "fd00::7", "status.podIP": "fd00:1::9"}


def _settings(
    folder: Path,
    values: Mapping[str, Any] | None = None,
    version: str = VERSIONS[-1],
    *,
    container: str = "agent",
    node: Mapping[str, str] = NODE,
    daemonset: str = "shorthaul",
) -> Settings:
    """The settings of a container on a node, by the environment that it gets and the file that is mounted."""
    file = folder / "agent.yaml"
    file.write_text(one("ConfigMap", values, version)["data"]["agent.yaml"])
    spec = one("DaemonSet", values, version, name=daemonset)["spec"]["template"]["spec"]
    every = [*spec.get("initContainers", []), *spec["containers"]]
    address = "fd00::a7" if ":" in node["status.podIP"] else "10.96.0.7"
    services = dict.fromkeys(SERVICES if spec["enableServiceLinks"] else (), address)
    given = environment(next(each for each in every if each["name"] == container), node, services)
    assert given["SHORTHAUL_CONFIG"] == "/etc/shorthaul/agent.yaml"
    parser = argparse.ArgumentParser()
    add_config(parser, required=True, environment={**given, "SHORTHAUL_CONFIG": str(file)})
    return read_settings(parser.parse_args([]))


@pytest.mark.parametrize("sample", SAMPLES)
def test_agent_takes_the_configuration_of_every_sample(sample: str, tmp_path: Path) -> None:
    for version in VERSIONS:
        for node in (NODE, _IPV6):
            settings = _settings(tmp_path, SAMPLES[sample], version, node=node)
            assert settings.node.name == node["spec.nodeName"]


def test_agent_knows_its_node_its_store_and_its_peers(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    assert str(settings.listen.hostport) == "127.0.0.1:30020"
    assert str(settings.listen.peer) == "192.0.2.7:30020"
    assert str(settings.listen.nodeport) == "192.0.2.7:30022"
    assert str(settings.listen.admin) == "127.0.0.1:9090"
    assert settings.store == ContainerdStore(
        socket=Path("/run/containerd/containerd.sock"), namespace="k8s.io", root=Path("/var/lib/containerd")
    )
    peers = settings.membership.kubernetes
    assert peers is not None
    assert (peers.namespace, peers.service, peers.node_labels) == ("images", "shorthaul-peers", True)
    (port,) = one("Service", name=peers.service)["spec"]["ports"]
    assert (port["name"], port["port"]) == (peers.port_name, settings.listen.peer.port)


def test_settings_of_the_user_are_the_agents(tmp_path: Path) -> None:
    settings = _settings(tmp_path, SAMPLES["configured"])
    assert settings.lookup.at_once == 32
    assert settings.transfer.upload_bytes_max == 8589934592
    assert settings.tags.exclude == ("*:rc-*", "ghcr.io/acme/*")
    assert settings.placement.region == "eu"
    assert settings.probe.canary_interval_s == 20
    assert settings.log.level == "debug"


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_path_of_the_configuration_is_mounted(sample: str, tmp_path: Path) -> None:
    settings = _settings(tmp_path, SAMPLES[sample])
    assert isinstance(settings.store, ContainerdStore)
    mounts = {each["mountPath"]: each for each in containers(SAMPLES[sample])["agent"]["volumeMounts"]}
    read = [
        settings.store.socket.parent,
        settings.store.root / "io.containerd.content.v1.content",
        settings.probe.hosts_dir,
        *([settings.placement.labels_file.parent] if settings.placement.labels_file else []),
        *([settings.peering.key.parent] if settings.peering.key else []),
        *([tls.certificate.parent, tls.key.parent, tls.ca.parent] if (tls := settings.peering.tls) else []),
        *(file.parent for file in _files_of_the_index(settings)),
    ]
    written = [
        settings.health.socket,
        settings.probe.socket,
        settings.handover.socket,
        settings.state_dir / "file" if settings.state_dir else None,
    ]
    assert [path for path in read if str(path) not in mounts] == []
    assert [
        path
        for path in written
        if path is not None and mounts.get(str(path.parent), {"readOnly": True}).get("readOnly")
    ] == []


def _files_of_the_index(settings: Settings) -> list[Path]:
    valkey = settings.valkey
    files = (valkey.password_file, valkey.ca_file, valkey.certificate_file, valkey.key_file)
    return [file for file in files if file is not None]


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_file_of_the_index_is_in_the_directory_that_the_agent_alone_has(
    sample: str, tmp_path: Path
) -> None:
    settings = _settings(tmp_path, SAMPLES[sample])
    volumes = {each["name"]: each for each in pod(SAMPLES[sample])["volumes"]}
    sources = volumes.get("index", {"projected": {"sources": []}})["projected"]["sources"]
    there = {item["path"] for source in sources for item in source["secret"]["items"]}
    assert {file.name for file in _files_of_the_index(settings)} == there
    having = {
        name
        for name, each in containers(SAMPLES[sample]).items()
        if "index" in [mount["name"] for mount in each["volumeMounts"]]
    }
    assert having == ({"agent"} if there else set())


def test_old_and_new_pod_hand_over_in_a_directory_of_the_node_and_are_asked_in_their_own(
    tmp_path: Path,
) -> None:
    settings = _settings(tmp_path)
    volumes = {each["name"]: each for each in pod()["volumes"]}
    mounts = {each["mountPath"]: volumes[each["name"]] for each in containers()["agent"]["volumeMounts"]}
    assert settings.handover.socket is not None
    assert settings.health.socket is not None
    assert "hostPath" in mounts[str(settings.handover.socket.parent)]
    assert "emptyDir" in mounts[str(settings.health.socket.parent)]
    assert str(settings.health.socket) in containers()["agent"]["startupProbe"]["exec"]["command"]


def test_agents_of_another_release_are_handed_nothing() -> None:
    """They would take the ports from each other for ever. Like this the second one says who has them."""
    sockets = {
        yaml.safe_load(each["data"]["agent.yaml"])["handover"]["socket"]
        for release in ("shorthaul", "mirror")
        for each in manifests(name=release)
        if each["kind"] == "ConfigMap"
    }
    assert len(sockets) == 2
    assert {str(Path(socket).parent) for socket in sockets} == {"/run/shorthaul"}


def test_admin_port_is_the_nodes_own_unless_it_is_published(tmp_path: Path) -> None:
    assert str(_settings(tmp_path).listen.admin) == "127.0.0.1:9090"
    assert str(_settings(tmp_path).probe.metrics) == "127.0.0.1:9091"
    published = _settings(tmp_path, {"metrics": {"enabled": True, "address": "::"}})
    assert (str(published.listen.admin), str(published.probe.metrics)) == ("[::]:9090", "[::]:9091")
    assert str(_settings(tmp_path, {"network": "hostPort"}).listen.admin) == "0.0.0.0:9090", (
        "the kubelet's probes"
    )


def test_hostport_mode_hands_nothing_over(tmp_path: Path) -> None:
    """Two pods of a node can't have one hostPort, so they never overlap."""
    assert _settings(tmp_path, {"network": "hostPort"}).handover.socket is None


def test_probe_and_agent_of_hostport_mode_mean_the_same_port(tmp_path: Path) -> None:
    values = {"network": "hostPort"}
    node = {**NODE, "status.podIP": "10.1.2.3"}
    agent = _settings(tmp_path, values, node=node)
    probe = _settings(tmp_path, values, container="probe", daemonset="shorthaul-probe", node=node)
    (port,) = containers(values)["agent"]["ports"]
    assert agent.node.pod_network
    assert str(agent.listen.hostport) == f"10.1.2.3:{port['containerPort']}"
    assert str(probe.listen.hostport) == f"127.0.0.1:{port['hostPort']}"
    assert agent.probe.socket == probe.probe.socket
    assert agent.node.name == probe.node.name


def test_zone_comes_by_the_downward_api_where_nodes_may_not_be_read(tmp_path: Path) -> None:
    settings = _settings(tmp_path, {"membership": {"nodeLabels": False}})
    assert settings.membership.kubernetes is not None
    assert settings.membership.kubernetes.node_labels is False
    assert settings.placement.labels_file == Path("/etc/podinfo/labels")
    (volume,) = [
        each for each in pod({"membership": {"nodeLabels": False}})["volumes"] if each["name"] == "labels"
    ]
    (item,) = volume["downwardAPI"]["items"]
    assert (item["path"], item["fieldRef"]) == ("labels", {"fieldPath": "metadata.labels"})


def test_configuration_is_one_for_all_nodes() -> None:
    assert "$(" not in str(configuration())
    assert "node" not in configuration()


@pytest.mark.parametrize("sample", ["defaults", "configured", "hostport mode"])
def test_commands_of_the_pod_are_commands(sample: str) -> None:
    parser = make_parser()
    for name in ("agent", "probe"):
        found = containers(SAMPLES[sample]).get(name)
        if found is not None:
            parser.parse_args([*found["args"], "--config", "/etc/shorthaul/agent.yaml"])
    program, *arguments = containers(SAMPLES[sample])["agent"]["startupProbe"]["exec"]["command"]
    assert program == "shorthaul"
    parser.parse_args(arguments)


def test_agent_starts_although_nobody_tells_it_where_the_index_is(tmp_path: Path) -> None:
    """Somebody deleted the Service: the kubelet leaves the variable as it is."""
    values = SAMPLES["an index of the chart's own"]
    (tmp_path / "agent.yaml").write_text(one("ConfigMap", values)["data"]["agent.yaml"])
    given = environment(containers(values)["agent"], NODE, {})
    parser = argparse.ArgumentParser()
    add_config(
        parser,
        required=True,
        environment={**given, "SHORTHAUL_CONFIG": str(tmp_path / "agent.yaml")},
    )
    index = read_settings(parser.parse_args([])).index
    assert str(index) == "valkey://shorthaul-valkey-service-host.invalid:6379"
