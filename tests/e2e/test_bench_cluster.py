"""`shorthaul bench --cluster` on real containerds and agents: the pods' own command, on each node's network.

The API server is the double. Its kubelet starts the command that the Job's manifest has, with its variables,
in the node's namespace; what the image adds is in tests/image.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.cli.commands import run
from agent.members.kubernetes.client import Access, ApiServer
from benchmarks.cluster import wire
from benchmarks.cluster.crew import Patience
from benchmarks.cluster.kube import Kube
from benchmarks.cluster.plan import Bounds
from benchmarks.cluster.run import Outcome, Wishes, measure, prepare
from benchmarks.lab.apiserver import FakeApiServer, ThreadedApiServer
from benchmarks.lab.cluster import REGISTRY, Cluster, Node, Place
from benchmarks.lab.process import run as command
from benchmarks.lab.workloads import Document, Say, Workloads
from benchmarks.reporting.format import Report, from_json
from tests.chart.rendering import one
from tests.e2e.conftest import Push
from tests.server.agents import PATIENT
from tests.unit.benchmarks.cluster.rig import agent_pod, node

pytestmark = pytest.mark.e2e

_PLACES = [
    Place(name="a1", region="r1", zone="a"),
    Place(name="a2", region="r1", zone="a"),
    Place(name="b1", region="r1", zone="b"),
]
_LAYERS = [200_000, 3_000_000]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes in two zones, each with another containerd."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with Cluster(_PLACES, versions=("1.6", "1.7", "2.1"), settings=PATIENT) as made:
        made.start_agents()
        yield made


def names(of: Node) -> set[str]:
    """All images that a node's containerd has."""
    assert of.containerd is not None
    return set(of.containerd.ctr("images", "list", "--quiet").split())


def notes(of: Node) -> list[str]:
    """What runs noted in a node's containerd."""
    assert of.containerd is not None
    return [line for line in of.containerd.ctr("leases", "list", "--quiet").split() if "shorthaul" in line]


class Kubelet:
    """Starts containers as processes on the nodes of the lab."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.deaf = False
        self.on_start: Callable[[wire.Order], None] = lambda _: None

    async def __call__(self, pod: Document, say: Say, term: asyncio.Event) -> int:
        (container,) = pod["spec"]["containers"]
        variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        order = wire.order(variables[wire.ORDER_VARIABLE])
        place = self._cluster.node(order.node)
        assert place.netns is not None
        program, *arguments = container["command"]
        assert program == "python3"
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", place.netns, sys.executable, *arguments),
            env={
                **os.environ,
                "SHORTHAUL_CONFIG": str(place.folder / "agent.yaml"),
                wire.ORDER_VARIABLE: variables[wire.ORDER_VARIABLE],
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self.on_start(order)
        ending = asyncio.create_task(self._terminate(process, term))
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                say(line)
            return await process.wait()
        finally:
            ending.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _terminate(self, process: asyncio.subprocess.Process, term: asyncio.Event) -> None:
        await term.wait()
        if self.deaf:
            process.kill()
        elif process.returncode is None:
            process.terminate()


def workloads_of(cluster: Cluster, kubelet: Kubelet) -> Workloads:
    """A cluster of the API's double whose nodes are the lab's."""
    workloads = Workloads(kubelet)
    daemonset = json.loads(json.dumps(one("DaemonSet", name="shorthaul")))
    workloads.put("daemonsets", daemonset)
    for each in cluster.nodes.values():
        workloads.put("nodes", node(each.name, each.place.zone or ""))
        workloads.put("pods", agent_pod(each.name, daemonset["spec"]["template"]["metadata"]["labels"]))
    return workloads


def bench(cluster: Cluster, kubelet: Kubelet, folder: Path, *words: str) -> tuple[int, Report]:
    """The command, as a person types it. Its exit status, and the report that it wrote."""
    file = folder / "report.json"
    workloads = workloads_of(cluster, kubelet)
    with ThreadedApiServer(workloads=workloads) as server:
        fixed = [
            "bench",
            "--cluster",
            "--yes",
            "--api",
            server.url,
            "--namespace",
            "images",
            "--json",
            str(file),
        ]
        status = run([*fixed, *words])
        assert workloads.of("jobs") == []
    return status, from_json(file.read_bytes(), "report.json")


def short_run(
    cluster: Cluster, kubelet: Kubelet, image: str = "", *, most_bytes: int = 100_000_000, only: str = "pull"
) -> Outcome:
    """A run of some seconds."""

    async def now() -> Outcome:
        async with FakeApiServer(workloads=workloads_of(cluster, kubelet)) as server:
            access = Access(url=server.url, ca_file=None, token_file=None)
            async with ApiServer(access, agent="test", connections=0) as api:
                kube = Kube(api, "images")
                bounds = Bounds(nodes=3, bytes=most_bytes, seconds=240.0, latency_s=3.0)
                prepared = await prepare(kube, Wishes(bounds=bounds, image=image, only=only))
                assert server.workloads is not None
                outcome = await measure(kube, prepared, patience=Patience(look_s=0.2, least_s=0.5))
                assert server.workloads.of("jobs") == []
                return outcome

    return asyncio.run(now())


@contextmanager
def as_before(cluster: Cluster) -> Iterator[None]:
    """No node has an image or a note more, or less, than before."""

    def all_of_it() -> dict[str, tuple[set[str], list[str]]]:
        return {each.name: (names(each), notes(each)) for each in cluster.nodes.values()}

    before = all_of_it()
    yield
    assert all_of_it() == before


def test_latencies_are_told_by_locality(cluster: Cluster, push: Push, tmp_path: Path) -> None:
    near, far = push("lab/near", layer_bytes=_LAYERS), push("lab/far", layer_bytes=_LAYERS)
    cluster.node("a1").pull(near)
    cluster.node("b1").pull(far)
    words = ("--only", "latency", "--seconds", "60", "--bytes", "60MB")
    with as_before(cluster):
        status, report = bench(cluster, Kubelet(cluster), tmp_path, *words)
    assert (status, report.problems) == (0, ())
    latency, rest = report.section("latency by locality"), report.section("the run")
    assert latency is not None
    for place in ("the node itself", "the same zone", "another zone"):
        figure = latency.figure(f"first byte, from {place}")
        assert figure is not None, place
        assert {series.way for series in figure.series} == {"warm connection", "cold connection"}
    assert latency.figure("first byte, what no node has (404)") is not None
    moved = None if rest is None else rest.figure("moved in all")
    assert moved is not None
    assert moved.series[0].measured[0] <= 60


def test_pulls_come_from_peers_and_exactly_what_was_pulled_is_removed(cluster: Cluster, push: Push) -> None:
    image = push("lab/cold", layer_bytes=_LAYERS)
    with as_before(cluster):
        outcome = short_run(cluster, Kubelet(cluster), image)
    assert outcome.problems == []
    assert [pull.wave for pull in outcome.pulls] == ["first", "at once", "at once"]
    assert outcome.removed == 3
    first, *others = [pull.pulled for pull in outcome.pulls]
    assert first.size_bytes >= sum(_LAYERS)
    assert first.tiers is not None
    assert sum(each.bytes for each in first.tiers) < first.size_bytes / 2  # nobody had it
    for pulled in others:
        tiers = {each.tier: each.bytes for each in pulled.tiers or ()}
        assert tiers.get("zone", 0) + tiers.get("region", 0) >= sum(_LAYERS)


def test_agent_that_dies_on_the_way_is_told_and_the_others_are_measured(cluster: Cluster, push: Push) -> None:
    def kill(order: wire.Order) -> None:
        if (order.stage, order.node) == ("latency", "a2"):
            cluster.node("a2").agent.kill()

    cluster.node("a1").pull(push("lab/dying", layer_bytes=_LAYERS))
    kubelet = Kubelet(cluster)
    kubelet.on_start = kill
    try:
        with as_before(cluster):
            outcome = short_run(cluster, kubelet, only="latency")
    finally:
        cluster.node("a2").start_agent()
    assert {"a1", "b1"} <= set(outcome.latencies)
    measured = outcome.latencies["a2"].measured if "a2" in outcome.latencies else ()
    told = [*outcome.problems, *(word for each in measured for word in each.failures)]
    assert any("nothing answers at 127.0.0.1:30020" in each or "refused" in each for each in told)


def test_image_that_does_not_exist_is_told_in_the_registrys_words(cluster: Cluster) -> None:
    with as_before(cluster):
        outcome = short_run(cluster, Kubelet(cluster), f"{REGISTRY}/lab/none:v1")
    (problem,) = outcome.problems
    assert f"the pull of {REGISTRY}/lab/none:v1 failed" in problem
    assert "is the image's name right?" in problem


def test_image_that_is_larger_than_the_bytes_is_stopped_and_leaves_nothing(
    cluster: Cluster, push: Push
) -> None:
    image = push("lab/large", layer_bytes=[3_000_000])
    cluster.shape("registry", 8)
    try:
        with as_before(cluster):
            outcome = short_run(cluster, Kubelet(cluster), image, most_bytes=1_000_000)
    finally:
        cluster.shape("registry", None)
    assert "allow more --bytes" in outcome.problems[0]


def test_full_disk_is_told_and_leaves_nothing(cluster: Cluster, push: Push) -> None:
    """The disk of every node's containerd has 8 MB left."""
    image = push("lab/heavy", layer_bytes=[20_000_000])
    with small_disks(cluster, "8m"), as_before(cluster):
        outcome = short_run(cluster, Kubelet(cluster), image)
    (problem,) = outcome.problems
    assert "no space left on device" in problem
    assert "the node's disk is full" in problem


@contextmanager
def small_disks(cluster: Cluster, size: str) -> Iterator[None]:
    """Each node's containerd has a disk of this size. What it had is there again afterwards."""
    every = [each.containerd for each in cluster.nodes.values() if each.containerd is not None]
    for each in every:
        each.stop()
        command(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(each.root)])
        each.start()
    try:
        yield
    finally:
        for each in every:
            each.stop()  # takes the mounts away, too
            each.start()


def test_what_a_killed_pod_left_is_removed_by_the_next_run(cluster: Cluster, push: Push) -> None:
    kubelet = Kubelet(cluster)
    kubelet.deaf = True  # SIGTERM does not reach its pods, so they are killed
    left, other = push("lab/left", layer_bytes=_LAYERS), push("lab/other", layer_bytes=_LAYERS)
    with as_before(cluster):
        first = short_run(cluster, kubelet, left)
        assert left in names(cluster.node("a1"))
        second = short_run(cluster, Kubelet(cluster), other)
    assert any("nobody said that" in each for each in first.problems)
    assert sum("which a run that was killed had left" in each for each in second.notes) == len(first.pulls)
    assert second.problems == []


def test_ctrl_c_ends_it_with_a_report_of_what_was_measured(
    cluster: Cluster, push: Push, tmp_path: Path
) -> None:
    def interrupt(order: wire.Order) -> None:
        if (order.stage, order.node) == ("latency", "a1"):
            os.kill(os.getpid(), signal.SIGINT)

    kubelet = Kubelet(cluster)
    kubelet.on_start = interrupt
    with as_before(cluster):
        status, report = bench(cluster, kubelet, tmp_path, "--seconds", "60")
    assert status == 128 + signal.SIGINT
    assert not report.complete
    assert any("it was ended after" in each for each in report.problems)
    assert report.section("the run") is not None
