"""The chart as Helm renders it: Helm's own library, without a cluster."""

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import helm_python
import yaml
from helm_python import _native

from tests.unit.twins import REPOSITORY_ROOT

CHART = REPOSITORY_ROOT / "helm" / "shorthaul"
OLDEST, NEWEST = "1.24", "1.36"
VERSIONS = (OLDEST, "1.28", "1.33", NEWEST)

WITH_KEY: dict[str, Any] = {"peering": {"existingSecret": "shorthaul-key"}}
"""What all rendering needs that asks no cluster. The name is that of the chart's own Secret."""

Values = Mapping[str, Any]
Manifest = dict[str, Any]


@cache
def chart() -> helm_python.Chart:
    """The chart, read once."""
    return helm_python.Chart.load(CHART)


def rendered(
    values: Values | None = None, version: str = NEWEST, *, name: str = "shorthaul"
) -> dict[str, str]:
    """The text of each template. Raises `helm_python.HelmError`."""
    return _rendered(_text(values), version, name)


def _text(values: Values | None) -> str:
    return json.dumps(merged(WITH_KEY, values or {}))


@cache
def _rendered(values: str, version: str, name: str) -> dict[str, str]:
    # `Chart.render` has no parameter for the version of Kubernetes, though the library below it takes one.
    options = {"kube_version": version, "name": name, "namespace": "images", "is_install": True}
    text = _native.call_string("helm_render", chart()._raw(), values, json.dumps(options))
    found: dict[str, str] = json.loads(text)
    return found


def manifests(
    values: Values | None = None, version: str = NEWEST, *, name: str = "shorthaul"
) -> list[Manifest]:
    """All objects of a release. They are the same ones each time: don't change them."""
    return [each for each in _manifests(_text(values), version, name) if not hook(each)]


def hooks(values: Values | None = None, version: str = NEWEST, *, name: str = "shorthaul") -> list[Manifest]:
    """The objects that Helm makes for a moment only."""
    return [each for each in _manifests(_text(values), version, name) if hook(each)]


def hook(manifest: Manifest) -> str:
    """When Helm makes it. Empty: it is a part of the release."""
    return str(manifest["metadata"].get("annotations", {}).get("helm.sh/hook", ""))


@cache
def _manifests(values: str, version: str, name: str) -> list[Manifest]:
    return [
        document
        for path, text in _rendered(values, version, name).items()
        if not path.endswith("NOTES.txt")
        for document in yaml.load_all(text, Loader=yaml.CSafeLoader)
        if document is not None
    ]


def notes(values: Values | None = None, version: str = NEWEST) -> str:
    """What Helm prints after an installation."""
    return rendered(values, version)["shorthaul/templates/NOTES.txt"]


def refusal(values: Values, version: str = NEWEST) -> str:
    """Why Helm refuses the values."""
    try:
        rendered(values, version)
    except helm_python.HelmError as error:
        return str(error)
    raise AssertionError(f"{values} were taken")


def one(
    kind: str, values: Values | None = None, version: str = NEWEST, *, name: str | None = None
) -> Manifest:
    """The one object of a kind, or of a kind and a name."""
    found = [
        each
        for each in manifests(values, version)
        if each["kind"] == kind and name in (None, each["metadata"]["name"])
    ]
    assert len(found) == 1, f"{len(found)} {kind} {name or ''}"
    return found[0]


def kinds(values: Values | None = None, version: str = NEWEST) -> list[tuple[str, str]]:
    """The kinds and names of all objects."""
    return sorted((each["kind"], each["metadata"]["name"]) for each in manifests(values, version))


def pod(values: Values | None = None, version: str = NEWEST) -> Manifest:
    """The spec of the agents' pods."""
    found: Manifest = one("DaemonSet", values, version, name="shorthaul")["spec"]["template"]["spec"]
    return found


def containers(values: Values | None = None, version: str = NEWEST) -> dict[str, Manifest]:
    """All containers of the agents' pods by name, init containers too."""
    spec = pod(values, version)
    every = [*spec.get("initContainers", []), *spec["containers"]]
    found = {each["name"]: each for each in every}
    assert len(found) == len(every)
    return found


def configuration(values: Values | None = None, version: str = NEWEST) -> Manifest:
    """The agents' configuration, before each node's own overrides."""
    found: Manifest = yaml.safe_load(one("ConfigMap", values, version)["data"]["agent.yaml"])
    return found


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """The text as the kubelet expands it: ``$(NAME)`` for the names that it knows."""
    for name, value in environment.items():
        text = text.replace(f"$({name})", value)
    return text


SERVICES = {"SHORTHAUL_VALKEY_SERVICE_HOST": "10.96.0.7"}
"""The variables of the pods that say where Services are, where enableServiceLinks is set."""


def environment(
    container: Manifest, node: Mapping[str, str], services: Mapping[str, str] = SERVICES
) -> dict[str, str]:
    """The container's environment on a node. ``node``: the values of the pod's fields by their paths."""
    found = dict(services)
    for each in container.get("env", []):
        if "value" in each:
            found[each["name"]] = expanded(each["value"], found)
        else:
            found[each["name"]] = node[each["valueFrom"]["fieldRef"]["fieldPath"]]
    return found


NODE = {"spec.nodeName": "n1.example", "status.hostIP": "192.0.2.7", "status.podIP": "192.0.2.7"}


def strings(value: object) -> Iterator[str]:
    """All strings within a manifest."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def merged(*values: Values) -> dict[str, Any]:
    """Values of values, the later ones winning."""
    result: dict[str, Any] = {}
    for each in values:
        for key, value in copy.deepcopy(dict(each)).items():
            inner = result.get(key)
            result[key] = (
                merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
            )
    return result
