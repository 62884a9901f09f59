"""The Jobs: what Kubernetes takes, and what they may."""

import json
from typing import Any

import kubernetes_validate
import pytest

from benchmarks.cluster import wire
from benchmarks.cluster.jobs import GRACE_S, START_S, Task, earlier, manifest
from benchmarks.cluster.plan import BLOBS_MAX
from benchmarks.cluster.release import Release, ReleaseInvalid, candidates, release
from tests.chart.rendering import VERSIONS, Manifest, manifests, one
from tests.chart.samples import SAMPLES
from tests.unit.benchmarks.cluster.rig import agent_pod, node

_OLDEST_SCHEMA = {"1.24": "1.25"}  # kubernetes-validate has none of 1.24
_ARGUMENT_MAX_BYTES = 128 << 10  # of one environment variable, by Linux


def found(values: dict[str, Any] | None = None, version: str = VERSIONS[-1]) -> Release:
    daemonsets = [each for each in manifests(values, version) if each["kind"] == "DaemonSet"]
    return release({"items": daemonsets}, "", "images")


def order(**more: Any) -> wire.Order:
    base: dict[str, Any] = {"run": "abc", "stage": "pull", "node": "n1", "hostport": "", "seconds": 30.0}
    return wire.Order(**{**base, "bytes_max": 1, **more})


def job(values: dict[str, Any] | None = None, version: str = VERSIONS[-1], **more: Any) -> Manifest:
    return manifest(Task(release=found(values, version), order=order(**more), number=1))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_kubernetes_takes_the_job(version: str) -> None:
    document = json.loads(json.dumps(job(version=version)))
    kubernetes_validate.validate(document, _OLDEST_SCHEMA.get(version, version), strict=True)


@pytest.mark.parametrize("sample", SAMPLES)
def test_kubernetes_takes_the_job_of_every_release(sample: str) -> None:
    document = json.loads(json.dumps(job(SAMPLES[sample])))
    kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def test_pod_has_no_right_that_it_does_not_need() -> None:
    spec = job()["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    assert set(mounts) == {"config", "containerd-run", "containerd-certs", "tmp"}
    assert all(mounts[name]["readOnly"] for name in mounts if name != "tmp")
    assert "key" not in json.dumps(spec["volumes"])
    assert "priorityClassName" not in spec  # it takes no other pod's place


def test_pod_is_the_agents_on_the_node_s_network_and_on_its_node_alone() -> None:
    spec, daemonset = job()["spec"]["template"]["spec"], one("DaemonSet")["spec"]["template"]["spec"]
    assert spec["hostNetwork"] is True
    assert spec["containers"][0]["image"] == daemonset["containers"][-1]["image"]
    assert spec["tolerations"] == daemonset["tolerations"]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = terms["nodeSelectorTerms"]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}


def test_labels_are_the_releases_and_no_service_or_daemonset_selects_the_pod() -> None:
    labels = job()["spec"]["template"]["metadata"]["labels"]
    for each in manifests():
        if each["kind"] == "Service":
            assert not each["spec"]["selector"].items() <= labels.items()
        if each["kind"] == "DaemonSet":
            assert not each["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert labels["app.kubernetes.io/component"] == "bench"


def test_job_ends_and_goes_by_itself_and_nobody_tries_again() -> None:
    spec = job(hold_s=20.0)["spec"]
    assert spec["activeDeadlineSeconds"] == START_S + 30 + 20
    assert spec["ttlSecondsAfterFinished"] > 0
    assert (spec["backoffLimit"], spec["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == GRACE_S


@pytest.mark.parametrize("name", ["a", "x" * 50])
def test_name_of_a_job_fits_a_label(name: str) -> None:
    named = manifest(Task(release=found({"fullnameOverride": name}), order=order(stage="latency"), number=99))
    assert len(named["metadata"]["name"]) <= 60


def test_order_with_all_its_blobs_fits_an_environment_variable() -> None:
    long = wire.Blob(registry="r" * 60, repository="p" * 150, digest=f"sha256:{'0' * 64}", size_bytes=10**12)
    container = job(blobs=(long,) * BLOBS_MAX)["spec"]["template"]["spec"]["containers"][0]
    assert max(len(each.get("value", "")) for each in container["env"]) < _ARGUMENT_MAX_BYTES


def test_hostport_of_the_pod_network_is_the_cnis_and_else_the_settings_own() -> None:
    assert found({"network": "hostPort"}).hostport == "127.0.0.1:30020"
    assert found().hostport == ""


def test_daemonset_that_is_not_the_charts_is_refused_with_what_to_do() -> None:
    with pytest.raises(ReleaseInvalid, match="no DaemonSet of agents in namespace images") as raised:
        release({"items": []}, "", "images")
    assert "--namespace" in raised.value.hint
    other = json.loads(json.dumps(one("DaemonSet")))
    other["spec"]["template"]["spec"]["volumes"] = []
    with pytest.raises(ReleaseInvalid, match="has no volume config, containerd-certs, containerd-run"):
        release({"items": [other]}, "", "images")
    twin = {**one("DaemonSet"), "metadata": {**one("DaemonSet")["metadata"], "name": "twin"}}
    with pytest.raises(ReleaseInvalid, match="several DaemonSets of agents: shorthaul, twin"):
        release({"items": [one("DaemonSet"), twin]}, "", "images")
    assert release({"items": [one("DaemonSet"), twin]}, "twin", "images").name == "twin"


def test_node_whose_agent_or_self_is_not_ready_takes_no_part() -> None:
    nodes = [node("n1", "a"), node("n2", "a", ready=False), node("n3", "b", pressure=True), node("n4", "b")]
    nodes[3]["spec"]["unschedulable"] = True
    pods = [agent_pod("n1", {}, ready=False), *(agent_pod(f"n{number}", {}) for number in (2, 3, 4))]
    said = {each.name: each.unfit for each in candidates(pods, [*nodes, node("n9", "b")])}
    assert list(said) == ["n1", "n2", "n3", "n4"]  # n9 has no agent
    assert "its agent is not ready" in said["n1"]
    assert said["n2"] == "it is not ready"
    assert "DiskPressure" in said["n3"]
    assert said["n4"] == "it is cordoned"


def test_jobs_of_other_runs_are_told_from_ones_own_and_whether_they_have_ended() -> None:
    mine, other, old = job(), job(run="xyz"), job(run="old")
    old["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    told = earlier({"items": [mine, other, old]}, "abc")
    assert [(each.run, each.active, each.node) for each in told] == [
        ("xyz", True, "n1"),
        ("old", False, "n1"),
    ]
