"""The cluster's key: made once, by the first installation, and from then on the operator's."""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from agent.keyring import parse_keys
from tests.chart.cluster import Objects, changing_cluster, cluster
from tests.chart.rendering import chart, configuration, containers, manifests, notes, pod, refusal
from tests.chart.samples import SAMPLES

_NAMESPACE: dict[str, Any] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "images"}}
_HERE = {"/api/v1/namespaces/images": _NAMESPACE}
_SECRET = "/api/v1/namespaces/images/secrets/shorthaul-key"
_OFFLINE = {"peering": {"existingSecret": ""}}


@pytest.fixture(scope="module", autouse=True)
def helms_own_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Helm keeps caches where the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CACHE", "CONFIG", "DATA"):
            patch.setenv(f"HELM_{name}_HOME", str(tmp_path_factory.mktemp(name)))
        yield


def _secret(**entries: str) -> dict[str, Any]:
    data = {name: base64.b64encode(text.encode()).decode() for name, text in entries.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shorthaul-key"}, "data": data}


def _render(
    objects: dict[str, Any], values: dict[str, Any] | None = None, *, upgrade: bool = False
) -> list[dict[str, Any]]:
    with cluster(objects) as kubeconfig, helm_python.Config(kubeconfig_content=kubeconfig) as config:
        texts = config.render(chart(), values or {}, name="shorthaul", namespace="images", is_upgrade=upgrade)
    return [
        each
        for path, text in texts.items()
        if not path.endswith("NOTES.txt")
        for each in yaml.safe_load_all(text)
        if each is not None
    ]


def _keys(objects: Objects) -> str:
    return base64.b64decode(objects.all[_SECRET]["data"]["keys"]).decode()


@contextmanager
def _helm() -> Iterator[tuple[helm_python.Config, Objects]]:
    with (
        changing_cluster(_HERE) as (kubeconfig, objects),
        helm_python.Config(
            kubeconfig_content=kubeconfig, namespace="images", storage_driver="memory"
        ) as config,
    ):
        yield config, objects


def test_installation_makes_a_key_and_nothing_that_helm_does_later_touches_it() -> None:
    """Not an upgrade, a roll-back to when another key was valid, an uninstallation and the next one."""
    with _helm() as (helm, objects):
        helm.install(chart(), "shorthaul", {}, namespace="images")
        assert len(parse_keys(_keys(objects)).keys) == 1
        made = [path for method, path in objects.writes if method != "DELETE"]
        assert made[0] == _SECRET, "it is there before the pods that mount it"
        objects.all[_SECRET] = rotated = _secret(
            keys=_keys(objects) + "\n" + "a-new-key-0123456789-0123456789-ABC"
        )
        since = len(objects.writes)
        helm.upgrade(chart(), "shorthaul", {"probe": {"enabled": False}}, namespace="images")
        helm.rollback("shorthaul", version=1)
        helm.uninstall("shorthaul")
        assert [path for path in objects.all if "daemonsets" in path] == []
        helm.install(chart(), "shorthaul", {}, namespace="images")
        assert objects.all[_SECRET] is rotated
        assert _SECRET not in [path for _, path in objects.writes[since:]]


def test_upgrade_from_a_release_without_a_key_makes_one() -> None:
    (secret,) = (each for each in _render(_HERE, upgrade=True) if each["kind"] == "Secret")
    assert "pre-upgrade" in secret["metadata"]["annotations"]["helm.sh/hook"]


def test_keys_of_two_installations_differ() -> None:
    secrets = [each["data"]["keys"] for _ in range(2) for each in _render(_HERE) if each["kind"] == "Secret"]
    assert len(set(secrets)) == 2


def test_secret_is_mounted_by_the_name_that_it_is_made_with() -> None:
    rendered = _render(_HERE)
    (secret,) = (each for each in rendered if each["kind"] == "Secret")
    (daemonset,) = (each for each in rendered if each["kind"] == "DaemonSet")
    assert secret["metadata"]["annotations"] == {"helm.sh/hook": "pre-install,pre-upgrade"}
    (volume,) = (each for each in daemonset["spec"]["template"]["spec"]["volumes"] if each["name"] == "key")
    assert volume["secret"] == {
        "secretName": secret["metadata"]["name"],
        "defaultMode": 0o400,
        "items": [{"key": "keys", "path": "keys"}],
    }


def test_secret_that_is_there_is_not_made_again() -> None:
    """Whoever made it: also one that an operator put there before the installation."""
    rendered = _render({**_HERE, _SECRET: _secret(keys="x" * 40)})
    assert [each for each in rendered if each["kind"] == "Secret"] == []


def test_secret_of_ones_own_is_looked_at_and_never_made() -> None:
    values = {"peering": {"existingSecret": "shorthaul-key"}}
    rendered = _render({**_HERE, _SECRET: _secret(keys="x" * 40)}, values)
    assert [each for each in rendered if each["kind"] == "Secret"] == []
    with pytest.raises(helm_python.HelmError, match=r"has no Secret shorthaul-key.*create secret generic"):
        _render(_HERE, values)
    with pytest.raises(helm_python.HelmError, match="no entry `keys`"):
        _render({**_HERE, _SECRET: _secret(key="x" * 40)}, values)


def test_rendering_without_a_cluster_is_refused_because_each_would_make_another_key() -> None:
    said = refusal(_OFFLINE)
    assert "helm template, Argo CD" in said
    assert "kubectl --namespace images create secret generic shorthaul-key --from-file=keys" in said
    assert "set peering.existingSecret=shorthaul-key" in said


@pytest.mark.parametrize("sample", SAMPLES)
def test_no_rendering_has_a_key_in_it_and_only_who_needs_the_key_gets_it(sample: str) -> None:
    """The probe, which may load programs into the kernel, is not among them."""
    values = SAMPLES[sample]
    own = [each for each in manifests(values) if each["kind"] == "Secret"]
    assert [each["metadata"]["name"] for each in own if "extraObjects" not in values] == []
    mounted = {
        name: mount
        for name, each in containers(values).items()
        for mount in each["volumeMounts"]
        if mount["name"] == "key" and mount["mountPath"] == "/etc/shorthaul-key"
    }
    told = {name for name, each in containers(values).items() if "--key-file" in str(each.get("args"))}
    has_key = "key" in configuration(values)["peering"]
    assert set(mounted) == told | ({"agent"} if has_key else set())
    assert told <= {"configure", "hosts"}
    assert all(mount["readOnly"] and "subPath" not in mount for mount in mounted.values())
    volumes = [
        each for each in pod(values)["volumes"] if "keys" in str(each.get("secret", {}).get("items", ""))
    ]
    assert len(volumes) == has_key


def test_containers_that_show_nobody_a_token_have_no_key() -> None:
    """A HostPort on the host's network knows its callers by the kernel."""
    for values in ({"nodePort": {"enabled": False}}, {"configure": {"endpoints": ["hostport"]}}):
        assert "--key-file" not in str([containers(values)[name]["args"] for name in ("configure", "hosts")])
    others: list[dict[str, Any]] = [{}, SAMPLES["clusterip"]]
    for asked in (*others, {"network": "hostPort", "nodePort": {"enabled": False}}):
        assert "--key-file /etc/shorthaul-key/keys" in str(containers(asked)["hosts"]["args"])


def test_hostport_of_the_pod_network_is_told_a_token_because_the_kernel_knows_nobody_there() -> None:
    assert "--pod-network" in str(containers({"network": "hostPort"})["hosts"]["args"])
    assert "--pod-network" not in str(containers()["hosts"]["args"])


def test_lab_that_is_open_needs_no_key_and_says_so() -> None:
    values = {"peering": {"open": True, "existingSecret": ""}}
    assert configuration(values)["peering"] == {"open": True}
    assert "key" not in [each["name"] for each in pod(values)["volumes"]]
    assert "WARNING" in notes(values)
    assert "WARNING" not in notes()


def test_open_cluster_still_has_a_key_so_that_it_can_be_closed_step_by_step() -> None:
    rendered = _render(_HERE, {"peering": {"open": True}})
    (config,) = (each for each in rendered if each["kind"] == "ConfigMap")
    peering = yaml.safe_load(config["data"]["agent.yaml"])["peering"]
    assert peering == {"open": True, "key": "/etc/shorthaul-key/keys"}
    assert [each["kind"] for each in rendered].count("Secret") == 1


def test_certificates_are_where_the_agent_is_told_and_nobody_else_has_them() -> None:
    for sample, name in (
        ("certificates in a Secret", "shorthaul-peers.images.svc"),
        ("certificates from a driver", "shorthaul.internal"),
    ):
        every = containers(SAMPLES[sample])
        (mount,) = (each for each in every["agent"]["volumeMounts"] if each["name"] == "tls")
        told = configuration(SAMPLES[sample])["peering"]["tls"]
        assert told.pop("name") == name
        assert {Path(each).parent for each in told.values()} == {Path(mount["mountPath"])}
        assert {key: Path(each).name for key, each in told.items()} == {
            "certificate": "tls.crt",
            "key": "tls.key",
            "ca": "ca.crt",
        }
        assert mount["readOnly"] is True
        assert "subPath" not in mount
        others = [name for name, each in every.items() if "tls" in [m["name"] for m in each["volumeMounts"]]]
        assert others == ["agent"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"peering": {"tls": {"secretName": "a", "volume": {"csi": {}}}}}, "secretName and volume both"),
        ({"peering": {"tls": {"name": "a.example"}}}, "there is none: set peering.tls.secretName"),
        ({"peering": {"key": "x" * 40}}, "existingSecret"),
        ({"config": {"peering": {"key": "/etc/k"}}}, "set the value `peering.existingSecret`"),
        ({"config": {"peering": {"open": True}}}, "set the value `peering.open`"),
        ({"listen": {"localCallers": "nobody"}}, "'root', 'any', 'containerd'"),
        ({"peering": {"existingSecret": "not a name"}}, "write the name of a Secret"),
    ],
)
def test_wrong_values_are_refused_with_what_to_write(values: dict[str, Any], said: str) -> None:
    assert re.search(re.escape(said), refusal(values))


def test_notes_say_which_registries_are_open_and_how_to_close_them() -> None:
    assert "any image that a node of the cluster has, also one that it has no pull secret for" in notes()
    assert "config.registries.authorize=" in notes()
    rules = [{"match": "registry.example.com", "by": "registry"}, {"match": "docker.io", "by": "mirror"}]
    said = notes({"config": {"registries": {"authorize": rules}}})
    assert "but of registry.example.com: who gets" in said
    assert "docker.io" not in said.split("the registry decides")[0].split("Open:")[1]
