"""Agents with probes are upgraded in turn, as the chart does it, while clients pull and ask.

A short version of ``python -m benchmarks.upgrade``, with layouts instead of containerds.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from benchmarks.lab.cgroups import make_cgroup
from benchmarks.lab.cluster import LOCAL_PORT, REGISTRY, Cluster, Node, Place
from benchmarks.lab.image import Image, build_image
from benchmarks.lab.process import Process
from benchmarks.upgrade.contenders import hand_over, outcomes, rebind, reuse_port
from benchmarks.upgrade.load import Load, fetch, proof
from benchmarks.upgrade.pods import Rollout

_REPOSITORY = "test/upgrade"
_KEEPS_ALIVE = """
import http.client, sys, time
while True:
    connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=60)
    while True:
        connection.request("GET", "/v2/", headers={"User-Agent": "containerd/test"})
        reply = connection.getresponse()
        reply.read()
        print(reply.status, flush=True)
        if reply.will_close:
            break
        time.sleep(0.05)
    connection.close()
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    places = [Place(name=name, region="r", zone="z") for name in ("holder", "asker")]
    with Cluster(places, containerd=False) as made:
        yield made


@pytest.fixture
def image(cluster: Cluster) -> Image:
    image = build_image(cluster.folder / "image", layer_bytes=[64 << 10] * 2, seed=1, compression=("none",))
    cluster.registry.push(image, _REPOSITORY, "v1")
    return image


def paths(image: Image) -> list[str]:
    """What a pull by digest asks for, in its order."""
    blobs = [f"/v2/{_REPOSITORY}/blobs/{digest}" for digest in image.blobs if digest != image.manifest]
    return [
        f"/v2/{_REPOSITORY}/manifests/{image.manifest}?ns={REGISTRY}",
        *(f"{one}?ns={REGISTRY}" for one in blobs),
    ]


def is_proved(node: Node) -> bool:
    return node.metric("shorthaul_local_path_proved") == 1


def test_an_upgrade_of_agents_and_probes_is_noticed_by_no_client_and_the_path_stays_proved(
    cluster: Cluster, image: Image
) -> None:
    holder, asker = cluster.node("holder"), cluster.node("asker")
    assert asker.cgroup is not None
    containerd = make_cgroup("containerd.service", below=asker.cgroup)
    with ExitStack() as stack:
        rollout = stack.enter_context(
            Rollout([holder, asker], with_probe=True, prestop_s=0.5, probe={"canary_interval_s": 2.0})
        )
        holder.pull(f"{REGISTRY}/{_REPOSITORY}:v1")
        for pod in rollout.pods.values():
            pod.agent.wait_until(partial(is_proved, pod.node), "the proof")
        asked = len(cluster.registry.served())
        command = [sys.executable, "-c", _KEEPS_ALIVE, asker.loopback, str(LOCAL_PORT)]
        keeper = Process(command, log=cluster.folder / "keeper", netns=asker.netns, cgroup=containerd)
        stack.callback(keeper.kill)
        load = Load()
        load.add("pulls", asker, partial(fetch, asker, paths(image)), every_s=0.25)
        for node in (holder, asker):
            load.add("requests", node, partial(fetch, node, ["/v2/"]), every_s=0.05)
            load.add("proofs", node, partial(proof, node), every_s=0.2)
        with load.running():
            rollout.upgrade("asker")
            # Another port to watch makes other programs of the same source: the two probes know each other.
            rollout.change({"probe": {"canary_interval_s": 2.0, "services": ["10.96.0.10:30999"]}})
            rollout.upgrade("asker")
            rollout.upgrade("holder")
        assert {what: load.failed(what) for what in load.results} == {
            "pulls": {},
            "requests": {},
            "proofs": {},
        }
        assert all(results.total() > 10 for results in load.results.values())
        assert len(cluster.registry.served()) == asked
        said = (cluster.folder / "keeper").read_text().split()
        assert set(said) == {"200"}
        assert keeper.running
        for node in (holder, asker):
            assert node.metric("shorthaul_local_flows_total", verdict="PROXIED") == 0
            assert node.metric("shorthaul_problems") == 0
        logs = [log for node in (holder, asker) for log in node.folder.glob("pod-*/*.log")]
        assert not [log for log in logs if "Traceback" in log.read_text()]


def test_only_a_socket_that_is_handed_over_loses_nobody_who_waits() -> None:
    assert outcomes(hand_over) == {"served": 300}
    assert outcomes(rebind) == {"served": 100, "refused": 100, "reset": 100}
    shared = outcomes(reuse_port)
    assert shared["reset"] > 0
    assert shared.total() == 300
