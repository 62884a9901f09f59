"""A cluster in the lab: a registry, and nodes that each have a containerd (or a layout) and an agent."""

import http.client
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from agent.keyring import new_key, read_keys
from benchmarks.lab.accounts import Account
from benchmarks.lab.cgroups import make_cgroup, remove_cgroup, sweep_cgroups
from benchmarks.lab.containerd import Containerd
from benchmarks.lab.folders import make_folder, sweep_folders
from benchmarks.lab.late import LateRelay
from benchmarks.lab.network import Network, inside, sent_bytes, sweep
from benchmarks.lab.process import LabError, Process, run, undisturbed
from benchmarks.lab.registry import Registry
from benchmarks.lab.switch import DelayNetwork
from benchmarks.lab.valkey import ValkeyServer

REGISTRY = "registry.demo"
_INDEX_ADDRESS = "10.9.0.250"
_PREFIX = "shlab"
LOCAL_PORT, SERVICE_PORT, ADMIN_PORT = 30020, 30022, 9090


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a node sits. None: the node does not have that label."""

    name: str
    region: str | None = None
    zone: str | None = None
    rack: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        """The node's labels, in the form for settings and members files."""
        levels = {"region": self.region, "zone": self.zone, "rack": self.rack}
        return {level: label for level, label in levels.items() if label is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP reply."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The server that the agents keep their index on. ``relay``: what they reach it through."""

    server: ValkeyServer
    relay: LateRelay

    @property
    def url(self) -> str:
        """What `index` in the settings says to use it."""
        return f"valkey://{self.relay.endpoint}"

    def close(self) -> None:
        """End both."""
        self.relay.close()
        self.server.stop()


def metric_total(exposition: bytes, name: str, labels: Mapping[str, str]) -> float:
    """The sum of a metric's samples that have these labels, from Prometheus' text format."""
    total = 0.0
    for line in exposition.decode().splitlines():
        head, _, value = line.rpartition(" ")
        if head.partition("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
            total += float(value)
    return total


def places(layout: Mapping[str, Sequence[str]], per_zone: int) -> list[Place]:
    """``per_zone`` nodes in each zone of each region: a1, a2, b1, …"""
    return [
        Place(name=f"{zone}{number}", region=region, zone=zone)
        for region, zones in layout.items()
        for zone in zones
        for number in range(1, per_zone + 1)
    ]


class Node:
    """One node: its namespace, its store, its agent."""

    def __init__(self, cluster: "Cluster", place: Place, number: int, version: str) -> None:
        self.place = place
        self.name = place.name
        self.folder = cluster.folder / place.name
        self.folder.mkdir()
        self._cluster = cluster
        self.netns: str | None = None
        self.containerd: Containerd | None = None
        if cluster.network is not None:
            self.address = f"10.9.{number}.1"
            self.netns = cluster.network.add_host(place.name, self.address)
            self.loopback = "127.0.0.1"
            self.peer_port = LOCAL_PORT
        else:
            self.address = self.loopback = f"127.9.{number}.1"
            self.peer_port = 30023
        self.cgroup: Path | None = None
        if cluster.real:
            self.cgroup = make_cgroup(f"{cluster.folder.name}-{place.name}")
            cluster.cgroups.append(self.cgroup)
        tags: dict[str, Any] = {}
        if cluster.containerd:
            assert self.cgroup is not None
            self.containerd = Containerd(
                self.folder / "containerd",
                netns=self.netns,
                version=version,
                cgroup=make_cgroup("containerd.service", below=self.cgroup),
            )
            store = f"containerd://{self.containerd.socket}?namespace=k8s.io&root={self.containerd.root}"
        else:
            self.layout = self.folder / "layout"
            _empty_layout(self.layout)
            store = f"oci-layout://{self.layout}"
            tags = {"share_imported": True}  # skopeo does not say where an image came from
        self.settings: dict[str, Any] = {
            "node": {"name": self.name, "address": self.address},
            "placement": place.labels,
            "listen": {
                "hostport": f"{self.loopback}:{LOCAL_PORT}",
                "peer": f"{self.address}:{self.peer_port}",
                "nodeport": f"{self.address}:{SERVICE_PORT}",
                "admin": f"{self.loopback}:{ADMIN_PORT}",
            },
            "store": store,
            "tags": tags,
            "membership": {"static": str(cluster.members)},
            "peering": {"key": str(cluster.key)},
            "doctor": {"interval_s": 0},  # it asks the agent and its peers, and tests count requests
            "probe": {"socket": str(self.folder / "probe.sock"), "canary_interval_s": 2.0},
        }
        self.settings |= cluster.settings
        if self.cgroup is not None:
            self.settings["probe"]["cgroup"] = str(self.cgroup)
        if self.containerd is not None:
            self.settings["probe"]["hosts_dir"] = str(self.containerd.certs)
        self._process: Process | None = None
        self._probe: Process | None = None
        self.log = self.folder / "agent.log"

    def start_agent(self, *, before: Sequence[str] = (), **overrides: Any) -> None:
        """Start the agent, and wait until it is ready. ``overrides``: top-level settings.

        ``before``: words to put before the command.
        """
        path = self.folder / "agent.yaml"
        peering = {**self.settings["peering"], **overrides.get("peering", {})}
        path.write_text(yaml.safe_dump({**self.settings, **overrides, "peering": peering}))
        command = [str(Path(sys.executable).parent / "shorthaul"), "agent", "--config", str(path)]
        self._process = Process(
            [*before, *command, "--log-format", "json"], log=self.log, netns=self.netns, cgroup=self.cgroup
        )
        self._process.wait_until(self.is_ready, f"the agent of {self.name}")

    def reload(self, **overrides: Any) -> None:
        """Let the running agent read other settings, and wait until it has."""

        def reloads() -> float:
            return self.metric("shorthaul_reloads_total", what="settings")

        before = reloads()
        path = self.folder / "agent.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **overrides}))
        self.agent.signal(signal.SIGHUP)
        self.agent.wait_until(lambda: reloads() > before, f"the new settings of {self.name}")

    def start_probe(self) -> None:
        """Start the eBPF probe, and wait until the agent is connected to it. Needs a real cluster."""
        command = [str(Path(sys.executable).parent / "shorthaul"), "probe"]
        command += ["--config", str(self.folder / "agent.yaml")]
        self._probe = Process(command, log=self.folder / "probe.log", netns=self.netns, cgroup=self.cgroup)
        self._probe.wait_until(
            lambda: self.metric("shorthaul_probe_connected") == 1, f"the probe of {self.name}"
        )

    def stop_agent(self) -> None:
        """Stop the agent, if there is one."""
        if self._process is not None:
            self._process.stop()

    @property
    def runs_agent(self) -> bool:
        """Whether the node has an agent that has not ended."""
        return self._process is not None and self._process.running

    @property
    def agent(self) -> Process:
        """The agent's process."""
        if self._process is None:
            raise LabError(f"{self.name} has no agent yet")
        return self._process

    def is_ready(self) -> bool:
        """Whether /readyz says that the agent is ready."""
        try:
            return self.get("/readyz", port=ADMIN_PORT).status == 200
        except OSError:
            return False

    def get(self, path: str, *, method: str = "GET", port: int = LOCAL_PORT, **headers: str) -> Reply:
        """One HTTP request to the agent from the node itself. Raises OSError if nobody answers."""
        host = self.address if port == SERVICE_PORT else self.loopback
        if port == SERVICE_PORT:
            headers = {"Authorization": f"Bearer {self._cluster.service_token}", **headers}

        def ask() -> Reply:
            connection = http.client.HTTPConnection(host, port, timeout=30)
            try:
                connection.request(method, path, headers=headers)
                reply = connection.getresponse()
                return Reply(status=reply.status, headers=dict(reply.getheaders()), body=reply.read())
            finally:
                connection.close()

        return inside(self.netns, ask)

    def pull(self, reference: str, *, at_most_s: float = 120.0) -> None:
        """Pull an image with the node's own client: containerd over CRI, or skopeo into the layout."""
        if self.containerd is not None:
            self.containerd.pull(reference, at_most_s=at_most_s)
            return
        registries = self.folder / "registries.conf"
        registries.write_text(
            f'[[registry]]\nprefix = "{REGISTRY}"\nlocation = "{self._cluster.registry.endpoint}"\n'
            f"insecure = true\n[[registry.mirror]]\n"
            f'location = "{self.loopback}:{LOCAL_PORT}"\ninsecure = true\n'
        )
        command = ["skopeo", "--insecure-policy", "--registries-conf", str(registries), "copy"]
        target = f"oci:{self.layout}:{reference}"
        command += ["--preserve-digests", f"docker://{reference}", target]
        run(command, netns=self.netns, at_most_s=at_most_s)

    def shorthaul(self, *arguments: str) -> str:
        """The output of a command that asks the node's agent, such as ``topology``. Raises `LabError`."""
        command = [str(Path(sys.executable).parent / "shorthaul"), *arguments]
        return run([*command, "--url", f"http://{self.loopback}:{ADMIN_PORT}"], netns=self.netns)

    def requests(self) -> Iterator[dict[str, Any]]:
        """The agent's log entries of the requests that it answered."""
        written = self.log.read_text(errors="replace").rpartition("\n")[
            0
        ]  # the last line may be half written
        for line in written.splitlines():
            if line.startswith("{") and '"message": "request"' in line:
                yield json.loads(line)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return metric_total(self.get("/metrics", port=ADMIN_PORT).body, name, labels)

    def sent_bytes(self) -> int:
        """How many bytes the node has sent so far, see `benchmarks.lab.network.sent_bytes`."""
        return sent_bytes(self.netns)

    def stop(self) -> None:
        """Stop the agent, the probe and containerd."""
        for process in (self._probe, self._process):
            if process is not None:
                process.stop()
        if self.containerd is not None:
            self.containerd.stop()


class Cluster:
    """The whole lab. A context manager that removes everything at its end.

    ``real``: use namespaces and containerds, which needs root. Otherwise it uses loopback addresses and OCI
    layouts. ``containerd=False``: use OCI layouts in namespaces too, so that only agents have to start.
    ``delays``: frames between the namespaces take time, see `Cluster.delays`. This needs ``real``.
    ``settings``: top-level settings of every agent.
    """

    def __init__(
        self,
        nodes: Sequence[Place],
        *,
        real: bool = True,
        versions: Sequence[str] = ("1.6",),
        delays: bool = False,
        containerd: bool = True,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if delays and not real:
            raise LabError("delays need namespaces (real=True)")
        self._places = nodes
        self._versions = versions
        self.real = real
        self.settings = dict(settings or {})
        self.containerd = real and containerd
        self.network: Network | DelayNetwork | None = None
        self.cgroups: list[Path] = []
        self._delays = delays
        self.nodes: dict[str, Node] = {}
        self._registry: Registry | None = None
        self._more_registries: list[Registry] = []
        self._index: Index | None = None

    def __enter__(self) -> Self:
        sweep_folders(_PREFIX)
        self.folder = make_folder(_PREFIX)
        self.members = self.folder / "peers.yaml"
        self.members.write_text("[]")
        self.key = self.folder / "cluster.key"
        self.key.write_text(new_key())
        self.key.chmod(0o600)
        self.service_token = read_keys(self.key).service_tokens[0]
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def registry(self) -> Registry:
        """The registry."""
        assert self._registry is not None
        return self._registry

    @property
    def index(self) -> Index | None:
        """The server of the agents' index. None: there is none."""
        return self._index

    @property
    def delays(self) -> DelayNetwork:
        """The network, to set delays between nodes by name. The registry's name is ``registry``."""
        if not isinstance(self.network, DelayNetwork):
            raise LabError("this cluster has no delays (delays=True)")
        return self.network

    def add_registry(self, name: str, accounts: Sequence[Account] = (), *, tokens: bool = False) -> Registry:
        """One more registry, see `Registry`. Every node pulls from it through its agent. Needs ``real``."""
        if self.network is None:
            raise LabError("more registries need namespaces (real=True)")
        number = 3 + len(self._more_registries)
        address = f"10.9.0.{number}"
        made = Registry(
            self.folder / f"registry-{number}",
            name=name,
            address=address,
            port=5000,
            netns=self.network.add_host(f"registry-{number}", address),
            accounts=accounts,
            tokens=tokens,
        )
        self._more_registries.append(made)
        for node in self.nodes.values():
            if node.containerd is not None:
                node.containerd.use_mirrors(name, made.endpoint, [f"127.0.0.1:{LOCAL_PORT}"])
        return made

    def add_index(self) -> Index:
        """A server for the agents' index, which all agents use that start from now on. Needs ``real``."""
        if self.network is None:
            raise LabError("a server for the index needs namespaces (real=True)")
        netns = self.network.add_host("index", _INDEX_ADDRESS)
        server = ValkeyServer(
            self.folder / "index",
            address=_INDEX_ADDRESS,
            port=6379,
            netns=netns,
            settings={"protected-mode": "no"},  # nobody else is in that network
        )
        relay = LateRelay(_INDEX_ADDRESS, server.port, address=_INDEX_ADDRESS, netns=netns)
        self._index = Index(server=server, relay=relay)
        for node in self.nodes.values():
            node.settings["index"] = self._index.url
        return self._index

    def node(self, name: str) -> Node:
        """The node with this name."""
        return self.nodes[name]

    def shape(self, name: str, mbit_s: float | None) -> None:
        """Limit a node's link in both directions, in megabits per second. None: no limit."""
        if not isinstance(self.network, Network):
            raise LabError("only links between namespaces can be shaped (real=True, delays=False)")
        self.network.shape(name, mbit_s)

    def spread_zones(self, *, inside_us: float, zones_us: float, regions_us: float) -> None:
        """Set the round trip of every pair of nodes by their places, in microseconds."""
        for one, other in itertools.combinations(self.nodes.values(), 2):
            same_region = one.place.region == other.place.region
            same_zone = same_region and one.place.zone == other.place.zone
            rtt_us = inside_us if same_zone else zones_us if same_region else regions_us
            self.delays.set_delay(one.name, other.name, rtt_us)

    def start_agents(self, names: Sequence[str] | None = None, **overrides: Any) -> None:
        """Start the agents of these nodes. None given: of all nodes."""
        for name in names if names is not None else list(self.nodes):
            self.nodes[name].start_agent(**overrides)

    def write_members(self, names: Sequence[str] | None = None) -> None:
        """Write these nodes into every agent's members file. None given: all nodes."""
        listed = [self.nodes[name] for name in (names if names is not None else self.nodes)]
        entries = [
            {
                "name": node.name,
                "address": node.address,
                "port": node.peer_port,
                **node.place.labels,
            }
            for node in listed
        ]
        new = self.members.with_suffix(".new")
        new.write_text(yaml.safe_dump(entries))
        new.rename(self.members)

    def close(self) -> None:
        """Stop every process, and remove every namespace, mount and file. Can't be interrupted."""
        with undisturbed():
            self._remove_everything()

    def _remove_everything(self) -> None:
        for node in self.nodes.values():
            node.stop()
        while self._more_registries:
            self._more_registries.pop().close()
        if self._index is not None:
            self._index.close()
            self._index = None
        if self._registry is not None:
            self._registry.stop()
        if self.network is not None:
            self.network.close()
        while self.cgroups:
            remove_cgroup(self.cgroups.pop())
        self.nodes.clear()
        self._registry = self.network = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self) -> None:
        address, netns = "127.9.0.1", None
        if self.real:
            sweep(_PREFIX)
            sweep_cgroups(_PREFIX)
            make = DelayNetwork if self._delays else Network
            self.network = make(f"{_PREFIX}-{os.getpid()}")
            address = "10.9.0.2"
            netns = self.network.add_host("registry", address)
        self._registry = Registry(
            self.folder / "registry", name=REGISTRY, address=address, port=5000, netns=netns
        )
        for number, place in enumerate(self._places, start=1):
            version = self._versions[(number - 1) % len(self._versions)]
            node = self.nodes[place.name] = Node(self, place, number, version)
            if node.containerd is not None:
                mirrors = [f"127.0.0.1:{LOCAL_PORT}"]
                node.containerd.use_mirrors(REGISTRY, self._registry.endpoint, mirrors)
        self.write_members()


def _empty_layout(layout: Path) -> None:
    (layout / "blobs/sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
