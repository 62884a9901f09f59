"""A node with an agent of the host network, one in a pod, and another node's pod with one; rules and a probe.

The rules are those that kube-proxy and the CNI plugin portmap write, with other Services beside the agents'
own.
"""

import functools
import hashlib
import http.client
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from agent.flows.verdicts import Verdict
from benchmarks.lab import kubeproxy, portmap
from benchmarks.lab.cgroups import make_cgroup, remove_cgroup, sweep_cgroups
from benchmarks.lab.conntrack import Flow, Translation, lookup, turn_on
from benchmarks.lab.folders import make_folder, sweep_folders
from benchmarks.lab.kubeproxy import Endpoint, Mode, NodeAddresses, Service
from benchmarks.lab.network import inside
from benchmarks.lab.pods import NatNode, Pod, PodNetwork
from benchmarks.lab.portmap import HostPort
from benchmarks.lab.process import Process, enter
from benchmarks.lab.whole import Whole
from benchmarks.path.client import Ask, Told, connect
from benchmarks.path.ways import AGENT_PORT, HOST_PORT, NODE_ADDRESS, NODE_PORT, Cell, Rules, Tools
from benchmarks.path.ways import Path as Way
from benchmarks.probe.testbed import Load
from benchmarks.transfer.spending import cpu_s

_PREFIX = "shlab"
_SHORTHAUL = str(Path(sys.executable).parent / "shorthaul")
_ADMIN_PORT = 9090
_BLOB_BYTES = 64 << 10
_MODES = {Rules.IPTABLES: Mode.IPTABLES, Rules.NFTABLES: Mode.NFTABLES}
_TOLD_S = 20.0
_MAPPED = HostPort(host_port=HOST_PORT, container_port=AGENT_PORT)


def find_tools() -> Tools:
    """What this machine has."""
    return Tools(
        iptables=shutil.which("iptables-restore") is not None,
        nftables=shutil.which("nft") is not None,
        port_map=portmap.is_there(),
    )


class Stage(Whole):
    """The lab. A context manager that removes everything at its end. Raises `LabError`.

    ``services``: how many other Services there are, of three pods each. ``blob``: the URL path of what is
    asked for. ``cgroup``: what the client and this node's agents belong to. ``name``: distinguishes the labs
    of one process.
    """

    def __init__(self, *, services: int, name: str = "path") -> None:
        self._name = name
        super().__init__()
        self._services = services
        self._standing = Rules.NONE
        self._far = False  # whether the NodePort leads to the other node

    def _make(self) -> None:
        sweep_cgroups(_PREFIX)
        sweep_folders(_PREFIX)
        self.folder = make_folder(_PREFIX, f"{self._name}-")
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        network = self._stack.enter_context(PodNetwork(remotes=1, name=self._name))
        self._node, self._remote = network.node, network.remotes[0]
        self._pod_cidrs = network.pod_cidrs
        self.cgroup, self._far_cgroup = self._make_cgroup("here"), self._make_cgroup("far")
        for name in ("containerd", "agents", "probe"):
            make_cgroup(name, below=self.cgroup)
        if find_tools().nftables:
            turn_on(self._node.netns)  # a real node has rules that need it in any case
        self._local_pod, self._far_pod = self._node.add_pod(), self._remote.add_pod()
        self._layout = self.folder / "layout"
        self.blob = f"/v2/bench/blobs/{_make_layout(self._layout)}?ns=registry.demo"
        self._agents = {
            "host": self._start_agent("host", self._node, self.cgroup / "agents"),
            "pod": self._start_agent("pod", self._local_pod, self.cgroup / "agents"),
            "far": self._start_agent("far", self._far_pod, self._far_cgroup),
        }
        self._client = Load(
            [*enter(self._node.netns), sys.executable, "-m", "benchmarks.path.client"],
            self.cgroup / "containerd",
        )
        self._stack.callback(self._client.close)

    def start_probe(self) -> None:
        """Start the probe, and wait until the host's agent hears of it. Raises `LabError`."""
        command = [_SHORTHAUL, "probe", "--config", str(self.folder / "host.yaml")]
        probe = Process(
            command, log=self.folder / "probe.log", netns=self._node.netns, cgroup=self.cgroup / "probe"
        )
        self._stack.callback(probe.stop)
        probe.wait_until(lambda: bool(self._api("/api/flows")["probe"]), "the probe")

    @contextmanager
    def standing(self, cell: Cell) -> Iterator[None]:
        """The rules of a cell, while it is measured. kube-proxy's stay for the next one that has the same."""
        far = cell.path is Way.REMOTE
        if cell.rules is not self._standing or (far is not self._far and cell.rules is not Rules.NONE):
            self._install(cell.rules, far=far)
        if cell.path is not Way.PORT_MAP:
            yield
            return
        portmap.add(self._node, self._local_pod, _MAPPED)
        try:
            yield
        finally:
            portmap.remove(self._node, self._local_pod, _MAPPED)

    def offer(self, cell: Cell, *, rate: float, seconds: float, fresh: bool) -> Told:
        """Let the client ask by this way. Raises `LabError` if it ended."""
        host, port = cell.path.asked
        ask = Ask(host=host, port=port, path=self.blob, rate=rate, seconds=seconds, fresh=fresh)
        return Told(**json.loads(self._client.ask(json.dumps(asdict(ask)))))

    def spent_s(self) -> float:
        """CPU seconds of the client and of all agents so far, and what the kernel did for them."""
        here = cpu_s(self.cgroup) - cpu_s(self.cgroup / "probe")
        return here + cpu_s(self._far_cgroup)

    def verdicts(self, cell: Cell) -> Counter[Verdict]:
        """What the probe has said so far of connections to what this cell asks for, by the host's agent."""
        endpoint = "nodeport" if cell.path in (Way.NODE_PORT, Way.REMOTE) else "hostport"
        exposed = self._get("/metrics").decode()
        found = re.findall(
            rf'^shorthaul_local_flows_total{{endpoint="{endpoint}",verdict="(\w+)"}} (\S+)$',
            exposed,
            re.MULTILINE,
        )
        return Counter({Verdict(verdict): int(float(value)) for verdict, value in found})

    def verdicts_since(self, before: Counter[Verdict], cell: Cell, connections: int) -> Counter[Verdict]:
        """The verdicts of so many connections, as soon as all are told; what was told after some seconds."""
        until_s = time.monotonic() + _TOLD_S
        while (found := self.verdicts(cell) - before).total() < connections and time.monotonic() < until_s:
            time.sleep(0.05)
        return found

    def translated(self, cell: Cell) -> Translation | None:
        """What conntrack says of one connection by this way. None: it does not say."""

        def ask() -> Flow:
            with connect(*cell.path.asked) as connection:
                return Flow.of(connection)

        return lookup(self._node.netns, inside(self._node.netns, ask))

    def ended(self) -> list[str]:
        """Whose agent has ended."""
        return [name for name, agent in self._agents.items() if not agent.running]

    def mend(self) -> None:
        """Start agents again that have ended. Raises `LabError`."""
        where: dict[str, NatNode | Pod] = {"host": self._node, "pod": self._local_pod, "far": self._far_pod}
        for name in self.ended():
            cgroup = self._far_cgroup if name == "far" else self.cgroup / "agents"
            self._agents[name] = self._start_agent(name, where[name], cgroup)

    @property
    def agents(self) -> dict[str, Process]:
        """The agents' processes: host, pod, far."""
        return self._agents

    def _install(self, wanted: Rules, *, far: bool) -> None:
        if wanted is not self._standing and self._standing is not Rules.NONE:
            kubeproxy.remove(self._node.netns)
        self._standing, self._far = wanted, far
        if wanted is Rules.NONE:
            return
        pod = self._far_pod if far else self._local_pod
        own = Service(
            namespace="shorthaul",
            name="shorthaul",
            port_name="http",
            cluster_ip="10.96.0.30",
            port=30080,
            node_port=NODE_PORT,
            endpoints=(Endpoint(ip=pod.address, port=AGENT_PORT, local=not far),),
        )
        node = NodeAddresses(addresses=self._node.addresses, pod_cidrs=self._pod_cidrs)
        services = [own, *map(_other_service, range(self._services))]
        kubeproxy.install(self._node.netns, kubeproxy.rules(_MODES[wanted], services, node))

    def _make_cgroup(self, name: str) -> Path:
        cgroup = make_cgroup(f"{_PREFIX}-{os.getpid()}-{self._name}-{name}")
        self._stack.callback(remove_cgroup, cgroup)
        return cgroup

    def _start_agent(self, name: str, where: NatNode | Pod, cgroup: Path) -> Process:
        settings = {
            "node": {"name": name, "address": where.address},
            "listen": {
                "hostport": f"127.0.0.1:{HOST_PORT}",
                "peer": f"{where.address}:{HOST_PORT}",
                "nodeport": f"{where.address}:{AGENT_PORT}",
                "admin": f"127.0.0.1:{_ADMIN_PORT}",
                "local_callers": "any",  # the client is not containerd
            },
            "peering": {"open": True},
            "store": f"oci-layout://{self._layout}",
            "tags": {"share_imported": True},
            "latency": {"measure": False},
            "scrub": {"bytes_per_s": 0},
            "probe": {
                "socket": str(self.folder / f"{name}-probe.sock"),
                "cgroup": str(self.cgroup),
                "containerd_cgroup": str(self.cgroup / "containerd"),
                "node_port": NODE_PORT,
                "endpoints": [f"127.0.0.1:{HOST_PORT}", f"{NODE_ADDRESS}:{NODE_PORT}"],
                "canary_interval_s": 3600,
            },
        }
        config = self.folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(settings))
        agent = Process(
            [_SHORTHAUL, "agent", "--config", str(config), "--log-level", "error"],
            log=self.folder / f"{name}.log",
            netns=where.netns,
            cgroup=cgroup,
        )
        self._stack.callback(agent.kill)
        agent.wait_until(functools.partial(_is_ready, where.netns), f"the agent {name}")
        return agent

    def _get(self, path: str) -> bytes:
        return _get(self._node.netns, path)[1]

    def _api(self, path: str) -> Any:
        return json.loads(self._get(path))


def _other_service(number: int) -> Service:
    """One of the cluster's other Services: three pods elsewhere."""
    endpoints = (
        Endpoint(ip=f"10.244.{2 + number // 80}.{3 * (number % 80) + each}", port=8080, local=False)
        for each in (10, 11, 12)
    )
    return Service(
        namespace="other",
        name=f"service-{number}",
        port_name="http",
        cluster_ip=f"10.97.{number // 250}.{number % 250 + 1}",
        port=80,
        endpoints=tuple(endpoints),
    )


def _make_layout(layout: Path) -> str:
    """A store with one blob. Returns its digest."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    content = os.urandom(_BLOB_BYTES)
    name = hashlib.sha256(content).hexdigest()
    (blobs / name).write_bytes(content)
    return f"sha256:{name}"


def _get(netns: str, path: str) -> tuple[int, bytes]:
    def ask() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", _ADMIN_PORT, timeout=30)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    return inside(netns, ask)


def _is_ready(netns: str) -> bool:
    try:
        return _get(netns, "/readyz")[0] == 200
    except OSError:
        return False
