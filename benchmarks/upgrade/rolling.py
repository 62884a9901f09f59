"""A rolling upgrade of all agents of a cluster, as the chart does it, under load.

Real containerds pull images over their HostPorts, four times a second in all, and remove them again. Other
clients send 50 requests a second to the HostPorts, each over a new connection. Node after node gets a newer
pod, which takes over, and then loses its older one; again and again until the time is over.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.lab.cluster import REGISTRY, Cluster, Node, Place
from benchmarks.lab.image import build_image
from benchmarks.reporting.recorder import Recorder
from benchmarks.upgrade.load import Load, fetch, proof, pull
from benchmarks.upgrade.pods import Rollout

_ZONES = ("a", "b", "c")
_HOLDERS = ("a1", "b1")
_IMAGES, _LAYERS = 8, [64 << 10] * 3
_REPOSITORY = "bench/upgrade"
PRESTOP_S = 3.0


def report_rolling(report: Recorder, *, seconds: float, pulls_per_s: float, requests_per_s: float) -> None:
    """Upgrade under load for so long, and report what its clients noticed."""
    places = [Place(name=f"{zone}{number}", region="r", zone=zone) for zone in _ZONES for number in (1, 2)]
    report.begin(f"six agents are upgraded in turn for {seconds:.0f} s, under load")
    with Cluster(places, versions=("2.1",)) as cluster, ExitStack() as stack:
        references = push_images(cluster)
        nodes = list(cluster.nodes.values())
        rollout = stack.enter_context(
            Rollout(nodes, with_probe=True, prestop_s=PRESTOP_S, probe={"canary_interval_s": 30.0})
        )
        for name, reference in itertools.product(_HOLDERS, references):
            cluster.node(name).pull(reference)
        _wait_for_proof(nodes)
        load = Load()
        pullers = [node for node in nodes if node.name not in _HOLDERS]
        for node in pullers:
            load.add(
                "pulls",
                node,
                partial(_pull_next, node, itertools.cycle(references)),
                every_s=len(pullers) / pulls_per_s,
            )
        for node in nodes:
            load.add("requests", node, partial(fetch, node, ["/v2/"]), every_s=len(nodes) / requests_per_s)
            load.add("proofs", node, partial(proof, node), every_s=0.5)
        served = len(cluster.registry.served())
        with load.running():
            until_s = time.monotonic() + seconds
            for node in itertools.cycle(nodes):
                rollout.upgrade(node.name)
                if time.monotonic() > until_s:
                    break
        report_load(report, load)
        asked = len(cluster.registry.served()) - served
        report.single("requests that went to the registry instead", "", asked, 0)
        report.single("upgrades of a node", "", len(rollout.took_s))
        report.spread("an upgrade of a node", "s", rollout.took_s)
        report.spread("memory of both agents meanwhile", "MiB", rollout.two_rss_bytes, scale=1 / (1 << 20))


def report_load(report: Recorder, load: Load, *, requests: bool = True) -> None:
    """Report how each kind of work ended. ``requests``: there were some."""
    for what, results in load.results.items():
        report.single(f"{what} in all", "", results.total())
        failed = load.failed(what)
        report.single(f"{what} that failed", "", sum(failed.values()), 0)
        for result, number in failed.items():
            report.console.print(f"  {number} {what}: {result}", highlight=False)
    report.spread("a pull", "ms", load.seconds["pulls"], scale=1e3)
    if requests:
        report.spread("a request", "ms", load.seconds["requests"], scale=1e3)


def _pull_next(node: Node, references: Iterator[str]) -> str:
    return pull(node, next(references))


def push_images(cluster: Cluster) -> list[str]:
    """Push some small images. Returns their references."""
    references = []
    for number in range(_IMAGES):
        layout = cluster.folder / f"image-{number}"
        image = build_image(layout, layer_bytes=_LAYERS, seed=number, compression=("none",))
        cluster.registry.push(image, _REPOSITORY, f"v{number}")
        references.append(f"{REGISTRY}/{_REPOSITORY}:v{number}")
    return references


def _wait_for_proof(nodes: Sequence[Node]) -> None:
    until_s = time.monotonic() + 60.0
    for node in nodes:
        while node.metric("shorthaul_local_path_proved") != 1:
            if time.monotonic() > until_s:
                raise TimeoutError(f"{node.name} is not proved")
            time.sleep(0.2)
