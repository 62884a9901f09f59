"""The Jobs of the benchmark, one for each node and stage. Pure.

One Job has one pod, on one node. So a pod that fails takes no other one with it, as it would in one Job for
all, and none is started a second time, which would move the bytes again. Each ends by itself and goes by
itself, also when nobody is left who could end it: `activeDeadlineSeconds` and `ttlSecondsAfterFinished`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.documents.codec import encode
from benchmarks.cluster.release import Release
from benchmarks.cluster.wire import ORDER_VARIABLE, Order

RUN_LABEL, STAGE_LABEL = "shorthaul/bench-run", "shorthaul/bench-stage"
COMPONENT = "app.kubernetes.io/component=bench"
"""What selects the Jobs of all runs."""

CONTAINER = "bench"
GRACE_S = 60
"""How long a pod has, from its SIGTERM, to remove what it pulled."""

START_S = 90
"""How long a pod may take until it runs, and more than the time that its order says."""

TTL_S = 600
"""So long a Job that ended stays, for who wants to read its log, if nobody deletes it."""

_COMMAND = ("python3", "-m", "benchmarks.cluster.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One Job to be made. ``number``: the node's in this run."""

    release: Release
    order: Order
    number: int

    @property
    def name(self) -> str:
        """The Job's name: at most 60 characters, so that it can be a label's value too."""
        return f"{self.release.name[:32]}-bench-{self.order.run}-{self.order.stage}-{self.number}"

    @property
    def deadline_s(self) -> int:
        """After this Kubernetes ends it."""
        return int(START_S + self.order.seconds + self.order.hold_s)


def manifest(task: Task) -> dict[str, Any]:
    """The Job."""
    release, order = task.release, task.order
    labels = {
        **release.labels,
        "app.kubernetes.io/component": "bench",
        RUN_LABEL: order.run,
        STAGE_LABEL: order.stage,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": task.name,
            "namespace": release.namespace,
            "labels": labels,
            "annotations": {"shorthaul/bench-node": order.node},
        },
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 0,
            "activeDeadlineSeconds": task.deadline_s,
            "ttlSecondsAfterFinished": TTL_S,
            "template": {"metadata": {"labels": labels}, "spec": _pod(task)},
        },
    }


def _pod(task: Task) -> dict[str, Any]:
    release = task.release
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        # Where containerd's connections begin: the HostPort is on the node's own loopback.
        "hostNetwork": True,
        "dnsPolicy": "Default",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "affinity": _only_on(task.order.node),
        "securityContext": dict(release.security),
        "containers": [_container(task)],
        "volumes": [*map(dict, release.volumes), {"name": "tmp", "emptyDir": {"sizeLimit": "16Mi"}}],
    }
    if release.account:
        spec["serviceAccountName"] = release.account
    if release.tolerations:
        spec["tolerations"] = [*map(dict, release.tolerations)]
    if release.pull_secrets:
        spec["imagePullSecrets"] = [*map(dict, release.pull_secrets)]
    return spec


def _container(task: Task) -> dict[str, Any]:
    release = task.release
    return {
        "name": CONTAINER,
        "image": release.image,
        "imagePullPolicy": release.pull_policy,
        "command": [*_COMMAND],
        "env": [*map(dict, release.environment), {"name": ORDER_VARIABLE, "value": encode(task.order)}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # First, so that what is below it on a node stays in sight.
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *map(dict, release.mounts)],
    }


def _only_on(node: str) -> dict[str, Any]:
    """By the scheduler, not past it: so a node without room says so, and taints count."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A Job of another run. ``active``: it has not ended. ``node``: where it was to run."""

    name: str
    run: str
    stage: str
    node: str
    active: bool
    began: str


def earlier(listed: Mapping[str, Any], run: str) -> list[Earlier]:
    """The Jobs of other runs in a list."""
    found = []
    for job in listed.get("items") or ():
        metadata, status = job["metadata"], job.get("status") or {}
        labels = metadata.get("labels") or {}
        ended = {each.get("type") for each in status.get("conditions") or () if each.get("status") == "True"}
        if labels.get(RUN_LABEL) != run:
            found.append(
                Earlier(
                    name=metadata["name"],
                    run=labels.get(RUN_LABEL, ""),
                    stage=labels.get(STAGE_LABEL, ""),
                    node=(metadata.get("annotations") or {}).get("shorthaul/bench-node", ""),
                    active=not ended & {"Complete", "Failed"},
                    began=metadata.get("creationTimestamp", ""),
                )
            )
    return found
