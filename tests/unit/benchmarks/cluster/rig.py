"""A cluster for the benchmark's tests: the API server's double, the chart's DaemonSet, and scripted pods."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.members.kubernetes.client import Access, ApiServer, Limits
from benchmarks.cluster import wire
from benchmarks.cluster.kube import Kube
from benchmarks.cluster.plan import Bounds
from benchmarks.cluster.run import Wishes
from benchmarks.lab.apiserver import FakeApiServer, node_object
from benchmarks.lab.workloads import Document, Say, Workloads
from tests.chart.rendering import Values, one

NAMESPACE = "images"
GB = 1_000_000_000
ZONES = {"n1": "a", "n2": "a", "n3": "b", "n4": "b", "n5": "c"}
ONLY_ON_N1 = wire.Image(
    name="registry.example/app@sha256:" + "a" * 64, digest="sha256:" + "a" * 64, size_bytes=1000
)
EVERYWHERE = wire.Image(
    name="registry.example/base@sha256:" + "b" * 64, digest="sha256:" + "b" * 64, size_bytes=9000
)

Script = Callable[["Pod"], Awaitable[int]]
"""What the pods of a stage do. Returns the exit status."""


@dataclass(slots=True)
class Pod:
    """A scripted pod. ``term``: set when it is to end."""

    order: wire.Order
    manifest: Document
    say_bytes: Say
    term: asyncio.Event
    number: int = 0

    def say(self, document: wire.Document) -> None:
        """Say this, as the real one does."""
        self.number += 1
        self.say_bytes(wire.written(self.number, document).encode() + b"\n")


async def look(pod: Pod) -> int:
    """A node with an image that all have, and on n1 one that only it has."""
    images = (EVERYWHERE, ONLY_ON_N1) if pod.order.node == "n1" else (EVERYWHERE,)
    digest = f"sha256:{pod.order.node:0>64}"
    blob = wire.Blob(registry="registry.example", repository="app", digest=digest, size_bytes=100)
    pod.say(wire.Look(containerd="v1.7.0", images=images, names=tuple(i.name for i in images), blobs=(blob,)))
    return 0


async def latency(pod: Pod) -> int:
    """Some answers, a megabyte of them."""
    measured = wire.Latency(tier="zone", connection="warm", requests=100)
    pod.say(wire.Latencies(measured=(measured,), bytes=1_000_000))
    return 0


async def pull(pod: Pod) -> int:
    """A pull that is held until the pod is to end, and then removed."""
    tiers = (wire.TierBytes(tier="zone", bytes=1000),)
    pod.say(wire.Pulled(image=pod.order.image, seconds=0.5, size_bytes=1000, tiers=tiers))
    await pod.term.wait()
    pod.say(wire.Removed(image=pod.order.image))
    return 0


@dataclass(slots=True)
class Cluster:
    """The double, and what the tests change of it. ``scripts``: by stage, or by stage and node."""

    kube: Kube
    server: FakeApiServer
    workloads: Workloads
    scripts: dict[str | tuple[str, str], Script]
    pods: list[Pod] = field(default_factory=list)

    def stages(self) -> list[tuple[str, str]]:
        """The stages and nodes of all pods that ran."""
        return [(pod.order.stage, pod.order.node) for pod in self.pods]


def agent_pod(node: str, labels: Mapping[str, str], *, ready: bool = True) -> Document:
    """A pod of the DaemonSet."""
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": f"shorthaul-{node}", "labels": dict(labels)},
        "spec": {"nodeName": node},
        "status": {"conditions": conditions},
    }


def node(name: str, zone: str, *, ready: bool = True, pressure: bool = False) -> Document:
    """A node as the API server has it."""
    document = node_object(name, {"topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": "r"})
    document["status"]["conditions"] = [
        {"type": "Ready", "status": "True" if ready else "False"},
        {"type": "DiskPressure", "status": "True" if pressure else "False"},
    ]
    return document


@asynccontextmanager
async def cluster(
    zones: Mapping[str, str] = ZONES,
    *,
    values: Values | None = None,
    patience_s: float = 3.0,
    grace_s: float = 60.0,
) -> AsyncIterator[Cluster]:
    """A cluster whose pods do what the scripts say."""
    made: list[Cluster] = []

    async def container(pod: Document, say: Say, term: asyncio.Event) -> int:
        (own,) = pod["spec"]["containers"]
        variables = {each["name"]: each.get("value", "") for each in own["env"]}
        one_pod = Pod(
            order=wire.order(variables[wire.ORDER_VARIABLE]), manifest=pod, say_bytes=say, term=term
        )
        made[0].pods.append(one_pod)
        stage, name = one_pod.order.stage, one_pod.order.node
        scripts = made[0].scripts
        return await scripts.get((stage, name), scripts[stage])(one_pod)

    workloads = Workloads(container, grace_s=grace_s)
    daemonset = json.loads(json.dumps(one("DaemonSet", values, name="shorthaul")))
    workloads.put("daemonsets", daemonset)
    for name, zone in zones.items():
        workloads.put("nodes", node(name, zone))
        workloads.put("pods", agent_pod(name, daemonset["spec"]["template"]["metadata"]["labels"]))
    async with FakeApiServer(workloads=workloads) as server:
        access = Access(url=server.url, ca_file=None, token_file=None)
        async with ApiServer(access, agent="test", limits=Limits(head_s=5.0), connections=0) as api:
            kube = Kube(api, NAMESPACE, patience_s=patience_s)
            scripts: dict[str | tuple[str, str], Script] = {"look": look, "latency": latency, "pull": pull}
            made.append(Cluster(kube=kube, server=server, workloads=workloads, scripts=scripts))
            yield made[0]


def wishes(*, nodes: int = 6, most_bytes: int = GB, seconds: float = 60.0, **more: Any) -> Wishes:
    """What a person asks for."""
    return Wishes(bounds=Bounds(nodes=nodes, bytes=most_bytes, seconds=seconds), **more)


def silent(_share: float, _what: str) -> None:
    """Progress that nobody sees."""


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, with a bound that only a failure reaches."""
    async with asyncio.timeout(60.0):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)
