"""Nodes with real containerds, a registry, and a host for a caching nginx, all on links with limits.

The agents and the nginx run only while it is their turn, so neither takes processor time from the other.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.coldstart.fleet import Fleet, Outcome, Release
from benchmarks.coldstart.rows import Way as Pulling
from benchmarks.lab.cluster import Cluster, Node, Place, places
from benchmarks.lab.nginx import Nginx
from benchmarks.lab.process import LabError
from benchmarks.pull.plan import Phase, Size, Way, at_once
from benchmarks.transfer.spending import cpu_s
from benchmarks.transfer.testbed import QUIET, new_cgroup

_MIRROR_ADDRESS, _MIRROR_PORT = "10.9.0.200", 5000
_SETTLED_S = 0.5
_PULLING = {Way.SHORTHAUL: Pulling.ZONE, Way.CLUSTER: Pulling.CLUSTER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The links' rates in both directions, in Mbit/s (10**6). None: no limit."""

    registry_mbit_s: float | None
    node_mbit_s: float | None

    def __str__(self) -> str:
        return f"the registry's link {_rate(self.registry_mbit_s)}, each node's {_rate(self.node_mbit_s)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulls:
    """What the pulls of all nodes came to. ``mirror_cpu_s``: of all agents, or of nginx.

    ``all_cpu_s``: of these, the containerds and the registry. ``dead``: whose agent or containerd ended.
    """

    outcome: Outcome
    mirror_cpu_s: float
    all_cpu_s: float
    dead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _MirrorHost:
    """Where nginx runs."""

    place: Place
    address: str
    netns: str | None
    folder: Path


class Stage:
    """The lab of one run. Raises `LabError` where it can't be made."""

    def __init__(
        self, cluster: Cluster, links: Links, *, pull_s: float, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.cluster = cluster
        assert cluster.network is not None, "containerds need namespaces"
        folder = cluster.folder / "mirror"
        folder.mkdir()
        self._host = _MirrorHost(
            place=_mirror_place(list(cluster.nodes.values())),
            address=_MIRROR_ADDRESS,
            netns=cluster.network.add_host("mirror", _MIRROR_ADDRESS),
            folder=folder,
        )
        self._cgroup = new_cgroup(cluster, "mirror")
        self._nginx: Nginx | None = None
        self._tried = 0
        cluster.shape("registry", links.registry_mbit_s)
        for name in ("mirror", *cluster.nodes):
            cluster.shape(name, links.node_mbit_s)
        self.fleet = Fleet(
            cluster,
            {**QUIET, **(settings or {})},
            pull_s=pull_s,
            settled_s=_SETTLED_S,
            others=[self._host],
            watch=self._spent,
        )

    @property
    def nodes(self) -> list[Node]:
        """All nodes."""
        return self.fleet.nodes

    def release(self, size: Size, number: int) -> Release:
        """Build and push an image. Every number gives other bytes."""
        made = self.fleet.release(f"{size.name}-v{number}", size.layer_bytes, seed=number)
        shutil.rmtree(made.image.layout)  # the registry has it
        return made

    @contextmanager
    def ready(self, way: Way) -> Iterator[None]:
        """Nodes that have nothing and pull by this way. In the end they have nothing."""
        with ExitStack() as stack:
            mirror = ""
            if way is Way.NGINX:
                self._nginx = self._start_nginx()
                stack.callback(self._stop_nginx)
                mirror = f"{_MIRROR_ADDRESS}:{_MIRROR_PORT}"
            stack.enter_context(self.fleet.ready(_PULLING.get(way, Pulling.DIRECT), mirror=mirror))
            yield

    def pull(self, way: Way, phase: Phase, release: Release, names: Sequence[str] | None = None) -> Pulls:
        """Let the nodes pull, and wait until they have. ``names``: only these."""
        outcome = self.fleet.pull_all(release, names=names, at_once=at_once(phase, len(self.nodes)))
        return Pulls(
            outcome=outcome,
            mirror_cpu_s=outcome.spent["agents" if way.has_agents else "nginx"],
            all_cpu_s=sum(outcome.spent.values()),
            dead=tuple(self._dead(way)),
        )

    def _start_nginx(self) -> Nginx:
        address, _, port = self.cluster.registry.endpoint.rpartition(":")
        self._tried += 1
        return Nginx.cache(
            self._host.folder / f"nginx-{self._tried}",
            (address, int(port)),
            (_MIRROR_ADDRESS, _MIRROR_PORT),
            netns=self._host.netns,
            cgroup=self._cgroup,
        )

    def _stop_nginx(self) -> None:
        if self._nginx is not None:
            self._nginx.remove()
            self._nginx = None

    def _spent(self) -> dict[str, float]:
        """CPU seconds so far, by who spent them."""
        nodes = [_node_spent(node) for node in self.nodes]
        return {
            "agents": sum(agent for agent, _ in nodes),
            "containerds": sum(containerd for _, containerd in nodes),
            "nginx": cpu_s(self._cgroup),
            "registry": self._registry_s(),
        }

    def _registry_s(self) -> float:
        try:
            times = psutil.Process(self.cluster.registry.pid).cpu_times()
        except psutil.NoSuchProcess as error:
            raise LabError("the registry ended") from error
        return float(times.user + times.system)

    def _dead(self, way: Way) -> Iterator[str]:
        for node in self.nodes:
            if way.has_agents and not node.runs_agent:
                yield f"the agent of {node.name}"
            if node.containerd is not None and not node.containerd.running:
                yield f"the containerd of {node.name}"
        if self._nginx is not None and not self._nginx.running:
            yield "nginx"


@contextmanager
def stage(
    links: Links,
    *,
    zones: int,
    per_zone: int,
    versions: Sequence[str],
    pull_s: float = 900.0,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Stage]:
    """A lab with so many nodes in each zone of one region. Everything is removed at its end."""
    names = [chr(ord("a") + number) for number in range(zones)]
    with Cluster(places({"r1": names}, per_zone), versions=versions) as cluster:
        made = Stage(cluster, links, pull_s=pull_s, settings=settings)
        try:
            yield made
        finally:
            made._stop_nginx()


def _mirror_place(nodes: Sequence[Node]) -> Place:
    first = nodes[0].place
    return Place(name="mirror", region=first.region, zone=first.zone)


def _node_spent(node: Node) -> tuple[float, float]:
    """CPU seconds of the node's agent, and of its containerd. Both are in the node's cgroup."""
    assert node.cgroup is not None, "nodes in namespaces have cgroups"
    containerd = cpu_s(node.cgroup / "containerd.service")
    return cpu_s(node.cgroup) - containerd, containerd


def _rate(mbit_s: float | None) -> str:
    return "without a limit" if mbit_s is None else f"{mbit_s:g} Mbit/s"
