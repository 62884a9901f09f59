"""What the benchmark's pods take over from the agents' DaemonSet, and the nodes on which agents are. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.cluster.plan import Candidate

AGENT = "agent"
"""The name of the agent's container."""

VOLUMES = ("config", "containerd-run", "containerd-certs")
"""The agents' volumes that the benchmark's pods have too: the settings, containerd's socket, and its
hosts.toml files, in which is the token that containerd shows where the kernel can't tell who asks."""

_ZONE, _REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"


class ReleaseInvalid(Exception):
    """There is no DaemonSet of agents as the chart makes it. ``hint``: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """``selector``: of the agents' pods. ``hostport``: where containerd asks; empty: the settings say it.

    The other fields are parts of manifests, as they are.
    """

    name: str
    namespace: str
    selector: str
    hostport: str
    image: str
    pull_policy: str
    pull_secrets: tuple[Mapping[str, Any], ...]
    account: str
    tolerations: tuple[Mapping[str, Any], ...]
    security: Mapping[str, Any]
    environment: tuple[Mapping[str, Any], ...]
    volumes: tuple[Mapping[str, Any], ...]
    mounts: tuple[Mapping[str, Any], ...]
    labels: Mapping[str, str]


def release(listed: Mapping[str, Any], named: str, namespace: str) -> Release:
    """The agents' DaemonSet of a list. ``named``: by the person. Empty: the only one.

    Raises `ReleaseInvalid`.
    """
    found = [each for each in listed.get("items") or () if _agent(each) is not None]
    if named:
        found = [each for each in found if each["metadata"]["name"] == named]
    if not found:
        what = f"no DaemonSet {named}" if named else "no DaemonSet of agents"
        raise ReleaseInvalid(
            f"{what} in namespace {namespace}",
            "name the release's --namespace; `helm list --all-namespaces` shows it",
        )
    if len(found) > 1:
        names = ", ".join(sorted(each["metadata"]["name"] for each in found))
        raise ReleaseInvalid(f"several DaemonSets of agents: {names}", "name one with --daemonset")
    return _read(found[0], namespace)


def _agent(daemonset: Mapping[str, Any]) -> Mapping[str, Any] | None:
    containers = daemonset["spec"]["template"]["spec"].get("containers") or ()
    return next((each for each in containers if each.get("name") == AGENT), None)


def _read(daemonset: Mapping[str, Any], namespace: str) -> Release:
    spec = daemonset["spec"]["template"]["spec"]
    agent = _agent(daemonset) or {}
    name = daemonset["metadata"]["name"]
    volumes = {each["name"]: each for each in spec.get("volumes") or ()}
    mounts = [each for each in agent.get("volumeMounts") or () if each["name"] in VOLUMES]
    missing = sorted({*VOLUMES} - {*volumes} | {*VOLUMES} - {each["name"] for each in mounts})
    if missing:
        raise ReleaseInvalid(
            f"DaemonSet {name} has no volume {', '.join(missing)}",
            "it is not as this version's chart makes it: upgrade the release, or use its own version",
        )
    labels = daemonset["spec"]["selector"].get("matchLabels") or {}
    return Release(
        name=name,
        namespace=namespace,
        selector=",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        hostport=_hostport(agent),
        image=agent["image"],
        pull_policy=agent.get("imagePullPolicy", "IfNotPresent"),
        pull_secrets=tuple(spec.get("imagePullSecrets") or ()),
        account=spec.get("serviceAccountName", ""),
        tolerations=tuple(spec.get("tolerations") or ()),
        security=spec.get("securityContext") or {},
        environment=tuple(agent.get("env") or ()),
        volumes=tuple(volumes[name] for name in VOLUMES),
        mounts=tuple({**each, "readOnly": True} for each in mounts),
        labels={key: value for key, value in labels.items() if key != "app.kubernetes.io/component"},
    )


def _hostport(agent: Mapping[str, Any]) -> str:
    """On the pod network the HostPort is the CNI's; else the agent listens there itself."""
    for port in agent.get("ports") or ():
        if port.get("hostPort"):
            return f"{port.get('hostIP') or '127.0.0.1'}:{port['hostPort']}"
    return ""


def candidates(pods: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]]) -> list[Candidate]:
    """The nodes that have a pod of an agent, each with what keeps it from taking part."""
    ready: dict[str, bool] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and "deletionTimestamp" not in pod["metadata"]:
            ready[node] = ready.get(node, False) or _condition(pod, "Ready") == "True"
    found = []
    for node in nodes:
        name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
        if name in ready:
            found.append(
                Candidate(
                    name=name,
                    region=labels.get(_REGION, ""),
                    zone=labels.get(_ZONE, ""),
                    unfit=_unfit(node, agent_ready=ready[name]),
                )
            )
    return found


def _unfit(node: Mapping[str, Any], *, agent_ready: bool) -> str:
    if _condition(node, "Ready") != "True":
        return "it is not ready"
    if _condition(node, "DiskPressure") == "True":
        return "its disk is nearly full (DiskPressure)"
    if node["spec"].get("unschedulable"):
        return "it is cordoned"
    if not agent_ready:
        return "its agent is not ready (`shorthaul everywhere ready` says why)"
    return ""


def _condition(thing: Mapping[str, Any], kind: str) -> str:
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return next((each.get("status", "") for each in conditions if each.get("type") == kind), "")
