"""Whatever the values and the version: Helm lints the chart, and Kubernetes would take what it renders."""

import json
from functools import cache

import helm_python
import kubernetes_validate
import pytest

from tests.chart.rendering import CHART, OLDEST, VERSIONS, Manifest, hooks, manifests, notes, strings
from tests.chart.samples import SAMPLES

_NO_SCHEMA = {
    "monitoring.coreos.com/v1": ("ServiceMonitor", "PodMonitor"),
    "cilium.io/v2": ("CiliumClusterwideNetworkPolicy", "CiliumNetworkPolicy"),
}
"""Kinds of operators, which Kubernetes has no schema of."""
_CLUSTER_SCOPED = ("ClusterRole", "ClusterRoleBinding", "CiliumClusterwideNetworkPolicy")
_OLDEST_SCHEMA = "1.25"  # kubernetes-validate has none of 1.24


@pytest.fixture(params=SAMPLES, ids=str)
def sample(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@cache
def _validate(manifest: str, version: str) -> None:
    kubernetes_validate.validate(json.loads(manifest), version, strict=True)


def _check(manifest: Manifest, version: str) -> None:
    kinds = _NO_SCHEMA.get(manifest["apiVersion"])
    if kinds is not None:
        assert manifest["kind"] in kinds
    else:
        _validate(json.dumps(manifest, sort_keys=True), _OLDEST_SCHEMA if version == OLDEST else version)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_one_that_the_version_takes(sample: str, version: str) -> None:
    for manifest in [*manifests(SAMPLES[sample], version), *hooks(SAMPLES[sample], version)]:
        _check(manifest, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_helm_finds_nothing_to_complain_of(sample: str, version: str) -> None:
    report = helm_python.lint(CHART, SAMPLES[sample], strict=True, kube_version=f"v{version}.0")
    assert report["errors"] == []
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


def test_objects_have_names_of_their_own_and_say_their_namespace(sample: str) -> None:
    for version in VERSIONS:
        found = [*manifests(SAMPLES[sample], version), *hooks(SAMPLES[sample], version)]
        names = [(each["kind"], each["metadata"]["name"]) for each in found]
        assert len(set(names)) == len(names)
        for each in found:
            namespace = each["metadata"].get("namespace")
            assert namespace == (None if each["kind"] in _CLUSTER_SCOPED else "images"), each["kind"]


def test_texts_have_no_rests_of_templates(sample: str) -> None:
    texts = [notes(SAMPLES[sample]), *strings(manifests(SAMPLES[sample]))]
    assert not [text for text in texts if "<no value>" in text or "%!" in text or "{{" in text]


@pytest.mark.parametrize("name", ["a", "prod-shorthaul", "x" * 53, "true"])
def test_release_of_any_name_renders(name: str) -> None:
    found = manifests({"metrics": {"enabled": True}}, name=name)
    for each in found:
        assert len(each["metadata"]["name"]) <= 63
        _check(each, VERSIONS[-1])
    selectors = [each["spec"]["selector"] for each in found if each["kind"] == "Service"]
    labels = next(each for each in found if each["kind"] == "DaemonSet")["spec"]["template"]["metadata"][
        "labels"
    ]
    assert selectors
    assert all(selector.items() <= labels.items() for selector in selectors)
