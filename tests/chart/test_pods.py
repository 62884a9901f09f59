"""What the pods may do, property by property, and how they come and go."""

from typing import Any

import pytest

from agent.cli.commands import make_parser
from tests.chart.rendering import (
    NODE,
    VERSIONS,
    configuration,
    containers,
    environment,
    manifests,
    notes,
    one,
    pod,
)
from tests.chart.samples import SAMPLES

HOST = {"network": "host"}
HOSTPORT = {"network": "hostPort"}
CAPABILITIES = {
    "configure": [],
    "hosts": [],
    "agent": ["DAC_READ_SEARCH"],
    "probe": ["BPF", "NET_ADMIN"],
}
WRITABLE = {
    "configure": set(),
    "hosts": {"/run/shorthaul", "/run/shorthaul-pod", "/host/etc/containerd/certs.d"},
    "agent": {"/run/shorthaul", "/run/shorthaul-pod", "/tmp"},
    "probe": {"/run/shorthaul-pod", "/tmp"},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CAPABILITIES)
class TestContainer:
    def test_has_no_capability_but_its_own(self, name: str, version: str) -> None:
        given = containers({}, version)[name]["securityContext"]["capabilities"]
        assert given["drop"] == ["ALL"]
        assert given.get("add", []) == CAPABILITIES[name]

    def test_gains_no_privileges(self, name: str, version: str) -> None:
        security = containers({}, version)[name]["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert "privileged" not in security

    def test_writes_only_to_what_it_owns(self, name: str, version: str) -> None:
        mounts = containers({}, version)[name]["volumeMounts"]
        assert {each["mountPath"] for each in mounts if not each.get("readOnly")} == WRITABLE[name]

    def test_has_requests_and_a_limit_of_memory_and_none_of_processor_time(
        self, name: str, version: str
    ) -> None:
        resources = containers({}, version)[name]["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}

    def test_runs_the_one_image(self, name: str, version: str) -> None:
        container = containers({}, version)[name]
        assert container["image"] == "localhost/shorthaul:0.1.0"
        assert container["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize("sample", SAMPLES)
class TestPod:
    def test_runs_as_root_with_the_runtimes_seccomp_profile(self, sample: str) -> None:
        for version in VERSIONS:
            security = pod(SAMPLES[sample], version)["securityContext"]
            assert (security["runAsUser"], security["runAsGroup"]) == (0, 0)
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}

    def test_sees_no_processes_of_the_node(self, sample: str) -> None:
        for version in VERSIONS:
            assert not {"hostPID", "hostIPC", "shareProcessNamespace"} & pod(SAMPLES[sample], version).keys()

    def test_gives_the_api_servers_token_to_the_agent_alone(self, sample: str) -> None:
        for version in VERSIONS:
            assert pod(SAMPLES[sample], version)["automountServiceAccountToken"] is False
            having = [
                name
                for name, each in containers(SAMPLES[sample], version).items()
                if any(mount["name"] == "token" for mount in each["volumeMounts"])
            ]
            assert having == ["agent"]

    def test_is_for_linux_nodes_only(self, sample: str) -> None:
        for version in VERSIONS:
            assert pod(SAMPLES[sample], version)["nodeSelector"]["kubernetes.io/os"] == "linux"

    def test_mounts_only_volumes_that_it_has_and_has_only_volumes_that_it_mounts(self, sample: str) -> None:
        for version in VERSIONS:
            every = containers(SAMPLES[sample], version).values()
            mounted = {mount["name"] for each in every for mount in each["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod(SAMPLES[sample], version)["volumes"]}


def test_pods_tolerate_every_taint_and_are_critical() -> None:
    spec = pod()
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "system-node-critical"


def test_virtual_nodes_get_no_pod() -> None:
    """They tolerate to be chosen, never run the pod, and each would hold a place of maxSurge for ever."""
    for values in (HOST, HOSTPORT):
        (term,) = pod(values)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ]
        assert term["matchExpressions"] == [
            {"key": "eks.amazonaws.com/compute-type", "operator": "NotIn", "values": ["fargate"]},
            {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]},
        ]


def test_affinity_of_the_values_is_taken_as_it_is() -> None:
    mine: dict[str, Any] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    assert pod({"affinity": mine})["affinity"] == mine


def test_node_selector_of_a_partial_rollout_is_added() -> None:
    assert pod({"nodeSelector": {"pool": "a"}})["nodeSelector"] == {"pool": "a", "kubernetes.io/os": "linux"}


def test_node_selector_cannot_ask_for_windows() -> None:
    assert pod({"nodeSelector": {"kubernetes.io/os": "windows"}})["nodeSelector"] == {
        "kubernetes.io/os": "linux"
    }


def test_containerds_directory_is_mounted_and_not_its_socket() -> None:
    """A socket that is mounted by itself is stale for ever after containerd restarts."""
    volumes = {each["name"]: each for each in pod()["volumes"]}
    assert volumes["containerd-run"]["hostPath"] == {"path": "/run/containerd", "type": "Directory"}


def test_of_containerds_root_only_the_content_is_mounted() -> None:
    paths = [each["hostPath"]["path"] for each in pod()["volumes"] if "hostPath" in each]
    assert [path for path in paths if path.startswith("/var/lib")] == [
        "/var/lib/containerd/io.containerd.content.v1.content"
    ]


def test_probe_is_a_native_sidecar_since_1_29() -> None:
    assert containers({}, "1.29")["probe"]["restartPolicy"] == "Always"
    assert [each["name"] for each in pod({}, "1.29")["initContainers"]] == ["configure", "probe"]
    assert [each["name"] for each in pod({}, "1.28")["containers"]] == ["hosts", "agent", "probe"]
    assert "restartPolicy" not in containers({}, "1.28")["probe"]


@pytest.mark.parametrize("version", ["1.29.4-gke.100", "v1.29.0+k3s1", "1.29.3-eks-abc123", "1.29+"])
def test_version_of_a_distribution_counts_as_that_version(version: str) -> None:
    assert "restartPolicy" in containers({}, version)["probe"]


@pytest.mark.parametrize("values", [HOST, HOSTPORT])
def test_probe_that_cannot_run_on_a_node_does_not_make_its_pod_unready(values: dict[str, Any]) -> None:
    """A node without eBPF is not proved. Its agent serves, and its peers use it."""
    every = [each for each in manifests(values) if each["kind"] == "DaemonSet"]
    specs = [each["spec"]["template"]["spec"] for each in every]
    (probe,) = [
        each
        for spec in specs
        for each in (*spec.get("initContainers", ()), *spec["containers"])
        if each["name"] == "probe"
    ]
    assert make_parser().parse_args(probe["args"]).retry > 0


def test_without_the_probe_there_is_none() -> None:
    assert sorted(containers({"probe": {"enabled": False}})) == ["agent", "configure", "hosts"]


def test_nothing_is_written_on_the_node_if_nothing_is_to_be_configured() -> None:
    values = {"configure": {"enabled": False}}
    assert sorted(containers(values)) == ["agent", "probe"]
    writable = [
        mount["mountPath"]
        for each in containers(values).values()
        for mount in each["volumeMounts"]
        if not mount.get("readOnly") and mount["mountPath"].startswith("/host")
    ]
    assert writable == []


class TestOnTheHostsNetwork:
    def test_no_port_is_declared(self) -> None:
        """The scheduler would not let the old and the new pod of a node overlap."""
        assert pod()["hostNetwork"] is True
        assert not [each for each in containers().values() if "ports" in each]

    def test_an_update_adds_before_it_removes(self) -> None:
        assert one("DaemonSet")["spec"]["updateStrategy"] == {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        }

    def test_only_the_pods_own_agent_passes_the_startup_probe(self) -> None:
        agent = containers()["agent"]
        health = "/run/shorthaul-pod/health.sock"
        assert agent["startupProbe"]["exec"]["command"] == ["shorthaul", "ready", "--socket", health]
        volumes = {each["name"]: each for each in pod()["volumes"]}
        mounts = {each["mountPath"]: each["name"] for each in agent["volumeMounts"]}
        assert "emptyDir" in volumes[mounts["/run/shorthaul-pod"]], "a directory of the node's is both pods'"

    def test_the_kubelet_asks_on_the_loopback_address(self) -> None:
        agent = containers()["agent"]
        for kind, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
            assert agent[kind]["httpGet"] == {"path": path, "port": 9090, "host": "127.0.0.1"}
            over6 = containers(SAMPLES["metrics for a PodMonitor, on IPv6"])["agent"][kind]["httpGet"]
            assert over6["host"] == "::1", "a socket for [::] takes no IPv4"

    def test_old_and_new_pod_share_a_directory(self) -> None:
        volumes = {each["name"]: each for each in pod()["volumes"]}
        for name in ("agent", "hosts"):
            mounts = {each["mountPath"]: each["name"] for each in containers()[name]["volumeMounts"]}
            shared = volumes[mounts["/run/shorthaul"]]["hostPath"]
            assert shared == {"path": "/run/shorthaul", "type": "DirectoryOrCreate"}


class TestHostPortMode:
    def test_the_port_is_declared_on_loopback(self) -> None:
        assert pod(HOSTPORT)["hostNetwork"] is False
        assert containers(HOSTPORT)["agent"]["ports"] == [
            {"name": "hostport", "containerPort": 30029, "hostPort": 30020, "hostIP": "127.0.0.1"}
        ]

    def test_an_update_removes_before_it_adds_and_the_notes_say_so(self) -> None:
        for name in ("shorthaul", "shorthaul-probe"):
            rolling = one("DaemonSet", HOSTPORT, name=name)["spec"]["updateStrategy"]["rollingUpdate"]
            assert rolling == {"maxSurge": 0, "maxUnavailable": 1}
        assert "in an upgrade each node has no\nagent for a second or two" in notes(HOSTPORT)
        assert "second or two" not in notes()

    def test_the_kubelet_asks_the_pods_address(self) -> None:
        assert "host" not in containers(HOSTPORT)["agent"]["readinessProbe"]["httpGet"]

    def test_the_agent_listens_on_the_pods_address(self) -> None:
        said = environment(containers(HOSTPORT)["agent"], {**NODE, "status.podIP": "10.1.2.3"})[
            "SHORTHAUL_SET"
        ]
        assert said.splitlines() == [
            'node.name="n1.example"',
            'node.address="10.1.2.3"',
            'listen.peer="10.1.2.3:30020"',
            'listen.nodeport="10.1.2.3:30022"',
            'listen.hostport="10.1.2.3:30029"',
            "node.pod_network=true",
        ]

    def test_the_probe_is_where_containerd_is(self) -> None:
        assert "probe" not in containers(HOSTPORT)
        spec = one("DaemonSet", HOSTPORT, name="shorthaul-probe")["spec"]["template"]["spec"]
        (probe,) = spec["containers"]
        assert spec["hostNetwork"] is True
        assert probe["securityContext"] == containers()["probe"]["securityContext"]
        assert "ports" not in probe
        assert environment(probe, NODE)["SHORTHAUL_SET"].splitlines() == [
            'node.name="n1.example"',
            'node.address="192.0.2.7"',
            'listen.hostport="127.0.0.1:30020"',
        ]

    def test_agent_and_probe_find_each_other_in_the_nodes_directory(self) -> None:
        socket = configuration(HOSTPORT)["probe"]["socket"]
        assert socket == "/run/shorthaul/probe.sock"
        for name in ("shorthaul", "shorthaul-probe"):
            spec = one("DaemonSet", HOSTPORT, name=name)["spec"]["template"]["spec"]
            volumes = {each["name"]: each for each in spec["volumes"]}
            mounts = {each["mountPath"]: each["name"] for each in spec["containers"][-1]["volumeMounts"]}
            assert volumes[mounts["/run/shorthaul"]]["hostPath"]["path"] == "/run/shorthaul"

    def test_no_service_leads_to_the_probe(self) -> None:
        labels = one("DaemonSet", HOSTPORT, name="shorthaul-probe")["spec"]["template"]["metadata"]["labels"]
        selectors = [each["spec"]["selector"] for each in manifests(HOSTPORT) if each["kind"] == "Service"]
        assert selectors
        assert not [selector for selector in selectors if selector.items() <= labels.items()]


def test_node_says_who_it_is_in_every_container_that_reads_the_settings() -> None:
    for name in ("agent", "probe"):
        given = environment(containers()[name], NODE)
        assert given["SHORTHAUL_CONFIG"] == "/etc/shorthaul/agent.yaml"
        assert given["SHORTHAUL_SET"].splitlines() == [
            'node.name="n1.example"',
            'node.address="192.0.2.7"',
            'listen.peer="192.0.2.7:30020"',
            'listen.nodeport="192.0.2.7:30022"',
        ]


@pytest.mark.parametrize(
    ("version", "flavour"),
    [
        ("v1.30.2+k3s1", "k3s"),
        ("v1.30.2+rke2r1", "rke2"),
        ("v1.30.2+k0s.0", "k0s"),
        ("v1.30.2-gke.1587003", "gke"),
        ("v1.30.2-eks-036c24b", "eks"),
        ("v1.30.2", "containerd"),
    ],
)
def test_flavour_follows_from_the_clusters_version(version: str, flavour: str) -> None:
    assert f"--flavour {flavour} " in containers({}, version)["configure"]["args"][0]
    assert (
        "--flavour talos "
        in containers({"containerd": {"flavour": "talos"}}, version)["configure"]["args"][0]
    )


def test_changed_configuration_makes_new_pods() -> None:
    def checksum(values: dict[str, Any]) -> str:
        found: str = one("DaemonSet", values)["spec"]["template"]["metadata"]["annotations"][
            "checksum/config"
        ]
        return found

    assert (
        checksum({})
        == checksum({"podLabels": {"a": "b"}})
        != checksum({"config": {"log": {"level": "debug"}}})
    )


def test_secret_and_object_of_the_users_are_there() -> None:
    values = SAMPLES["a secret and an object more"]
    assert one("Secret", values)["metadata"]["name"] == "shorthaul-key"
    assert {"name": "key", "mountPath": "/etc/key", "readOnly": True} in containers(values)["agent"][
        "volumeMounts"
    ]
    assert not [each for each in manifests() if each["kind"] == "Secret"]


def test_image_is_pinned_by_its_digest() -> None:
    assert containers(SAMPLES["pinned"])["agent"]["image"] == (
        "registry.example.com:5000/a/shorthaul@sha256:" + "a" * 64
    )
