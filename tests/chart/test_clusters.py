"""What the chart refuses because of what the cluster has already."""

from typing import Any

import helm_python
import pytest

from tests.chart.cluster import cluster
from tests.chart.rendering import chart

_ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/shorthaul-nodes"
_NAMESPACE = "/api/v1/namespaces/images"


def _role(release: str, namespace: str) -> dict[str, Any]:
    annotations = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "shorthaul-nodes", "annotations": annotations},
    }


def _namespace(**labels: str) -> dict[str, Any]:
    named = {f"pod-security.kubernetes.io/{mode}": level for mode, level in labels.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "images", "labels": named}}


def _install(objects: dict[str, dict[str, Any]]) -> dict[str, str]:
    with cluster(objects) as kubeconfig, helm_python.Config(kubeconfig_content=kubeconfig) as config:
        return config.render(chart(), name="shorthaul", namespace="images")


def test_second_release_on_a_cluster_is_refused_and_the_first_one_named() -> None:
    with pytest.raises(
        helm_python.HelmError, match="has shorthaul already: the release mirror in the namespace old"
    ):
        _install({_ROLE: _role("mirror", "old")})


def test_release_of_the_same_name_in_another_namespace_is_a_second_one() -> None:
    with pytest.raises(helm_python.HelmError, match="has shorthaul already"):
        _install({_ROLE: _role("shorthaul", "old")})


def test_role_of_another_origin_is_named_too() -> None:
    role = {**_role("", ""), "metadata": {"name": "shorthaul-nodes"}}
    with pytest.raises(helm_python.HelmError, match="kubectl delete clusterrole shorthaul-nodes"):
        _install({_ROLE: role})


def test_release_that_is_there_can_be_upgraded() -> None:
    assert _install({_ROLE: _role("shorthaul", "images"), _NAMESPACE: _namespace()})


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_namespace_that_would_refuse_the_pods_is_refused_first(level: str) -> None:
    with pytest.raises(helm_python.HelmError, match="kubectl label --overwrite namespace images"):
        _install({_NAMESPACE: _namespace(enforce=level)})


def test_namespace_that_only_warns_is_taken() -> None:
    assert _install({_NAMESPACE: _namespace(enforce="privileged", warn="restricted", audit="restricted")})


def test_cluster_without_any_of_it_is_taken() -> None:
    assert _install({})
