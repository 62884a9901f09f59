"""A node in namespaces, with what runs on it: containerds, agents, a registry, rules."""

import asyncio
import contextlib
import functools
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Self

import yaml

from agent.config.load import load_settings
from agent.flows.table import Flow
from agent.flows.verdicts import Verdict
from agent.probe.process import watched_ports
from agent.probe.run import make_probe, make_publisher
from agent.probe.sockets import netns_cookie
from benchmarks.lab import kubeproxy
from benchmarks.lab.cgroups import make_cgroup, remove_cgroup, sweep_cgroups
from benchmarks.lab.cluster import REGISTRY
from benchmarks.lab.conntrack import Flow as Way
from benchmarks.lab.conntrack import Translation, Watcher, lookup, turn_on
from benchmarks.lab.containerd import Containerd
from benchmarks.lab.folders import make_folder
from benchmarks.lab.image import Image, build_image
from benchmarks.lab.kubeproxy import Endpoint, Mode, NodeAddresses, Service
from benchmarks.lab.network import inside
from benchmarks.lab.pods import NatNode, Pod, PodNetwork
from benchmarks.lab.process import Process, enter, run
from benchmarks.lab.registry import Registry
from benchmarks.lab.vouching import vouched
from benchmarks.lab.whole import Whole
from bpf.child import ProgramConfig
from bpf.live import LiveSource
from tests.e2e.verdicts.running import (
    ADMIN_PORT,
    AGENT_PORT,
    DIRECT_URL,
    HOST_PORT,
    NODE_PORT,
    VIP,
    VIP6,
    VIP_PORT,
    Judged,
    RunningAgent,
    RunningProbe,
    Tail,
    until,
)
from tests.e2e.verdicts.witness import check, end, plain, told

_PREFIX = "shlab"
_SHORTHAUL = str(Path(sys.executable).parent / "shorthaul")
_IMAGES = 200


class Asker:
    """A client that asks over and over on one connection."""

    def __init__(self, connected: socket.socket) -> None:
        self._connection = http.client.HTTPConnection("localhost")
        self._connection.sock = connected
        self.way = Way.of(connected)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, path: str = "/v2/") -> int:
        """The status of one GET."""
        before = self._connection.sock
        self._connection.request("GET", path)
        reply = self._connection.getresponse()
        reply.read()
        assert self._connection.sock is before, "the connection was closed"
        return reply.status

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


class Scene(Whole):
    """The node and what runs on it. Use as a context manager: leaving ends and removes everything."""

    def __init__(
        self, name: str, *, bridge_first: bool = False, remotes: int = 2, images: int = _IMAGES
    ) -> None:
        super().__init__()
        self._name = name
        self._images = images
        self._numbers = iter(range(10_000))
        self._agents: list[RunningAgent] = []
        self.network = PodNetwork(
            remotes=remotes, dual_stack=True, bridge_first=bridge_first, name=f"vd-{name}"
        )

    def _make(self) -> None:
        sweep_cgroups(_PREFIX)
        self.folder = make_folder(_PREFIX, f"{self._name}-")
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._stack.enter_context(self.network)
        self.node, self.remotes = self.network.node, self.network.remotes
        self.cgroup = make_cgroup(f"{_PREFIX}-{os.getpid()}-{self._name}")
        self._stack.callback(remove_cgroup, self.cgroup)
        for name in ("containerd", "agents", "probe", "clients"):
            make_cgroup(name, below=self.cgroup)
        turn_on(self.node.netns)
        self.watcher = self._stack.enter_context(Watcher(self.node.netns, buffer_bytes=64 << 20))
        self.layout = self.folder / "layout"
        self._unused = iter(self._build_images())

    # What runs here

    def start_registry(self) -> Registry:
        """The origin, on the first of the other nodes."""
        remote = self.remotes[0]
        self.registry = Registry(
            self.folder / "registry", name=REGISTRY, address=remote.address, port=5000, netns=remote.netns
        )
        self._stack.callback(self.registry.stop)
        return self.registry

    def start_containerd(self, version: str = "1.6", *, cgroup: str = "containerd") -> Containerd:
        """The node's client, in a cgroup of its own."""
        containerd = Containerd(
            self.folder / f"containerd-{version}",
            netns=self.node.netns,
            version=version,
            cgroup=self.cgroup / cgroup,
        )
        self._stack.callback(containerd.stop)
        return containerd

    @contextlib.contextmanager
    def containerd_of_group(self, group: int) -> Iterator[Containerd]:
        """Another client for a while, in the usual one's cgroup, whose processes have this group."""
        containerd = Containerd(
            self.folder / f"containerd-{group}",
            netns=self.node.netns,
            cgroup=self.cgroup / "containerd",
            group=group,
        )
        try:
            yield containerd
        finally:
            containerd.stop()

    def start_agents(self, *agents: tuple[str, NatNode | Pod]) -> list[RunningAgent]:
        """Agents at once, each by its node's name and where it runs; of other nodes outside of the cgroup."""
        started = [self._start_agent(name, where) for name, where in agents]
        return [agent.wait() for agent in started]

    @contextlib.contextmanager
    def agent(
        self,
        name: str,
        where: NatNode | Pod,
        *,
        follow: "RunningProbe | None" = None,
        interval_s: int = 1,
        **listen: str,
    ) -> Iterator[RunningAgent]:
        """An agent for a while. ``listen``: other listeners than usual. ``follow``: another probe's flows."""
        agent = self._start_agent(name, where, follow=follow, interval_s=interval_s, **listen)
        try:
            yield agent.wait()
        finally:
            agent.kill()

    def start_probe(self, **settings: Any) -> RunningProbe:
        """A probe of this node, with these settings below ``probe``; it ends with the scene."""
        probe = self._start_probe(**settings)
        self._stack.callback(probe.close)
        return probe

    @contextlib.contextmanager
    def probe(self, **settings: Any) -> Iterator[RunningProbe]:
        """A probe for a while."""
        probe = self._start_probe(**settings)
        try:
            with self.vouched(probe.socket):
                yield probe
        finally:
            probe.close()

    @contextlib.contextmanager
    def probe_alone(self, **settings: Any) -> Iterator[RunningProbe]:
        """A probe for a while that no agent knows."""
        probe = self._start_probe(**settings)
        try:
            yield probe
        finally:
            probe.close()

    @contextlib.contextmanager
    def vouched(self, path: Path) -> Iterator[None]:
        """The agents that run on this node now, and follow another probe, are known to this one as well."""
        with contextlib.ExitStack() as stack:
            for agent in self._agents:
                if agent.name == self.node.name and agent.process.running:
                    stack.enter_context(vouched(path, node=agent.name, pid=agent.process.pid))
            yield

    def config(self, *, listen: dict[str, str] | None = None, **settings: Any) -> Path:
        """A file of settings for a probe or for ``verify``."""
        number = next(self._numbers)
        probe = {
            "socket": str(self.folder / f"probe-{number}.sock"),
            "cgroup": str(self.cgroup),
            "containerd_cgroup": str(self.cgroup / "containerd"),
            "node_port": NODE_PORT,
            "services": [f"{VIP}:{VIP_PORT}", f"[{VIP6}]:{VIP_PORT}"],
            "endpoints": [DIRECT_URL, f"{self.node.address}:{NODE_PORT}"],
            "metrics": f"127.0.0.1:{9100 + number}",
            **settings,
        }
        path = self.folder / f"probe-{number}.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "node": {"name": self.node.name, "address": self.node.address},
                    "listen": {"hostport": DIRECT_URL, "nodeport": f"{self.node.address}:{AGENT_PORT}"}
                    | (listen or {}),
                    "probe": probe,
                }
            )
        )
        return path

    def verify(
        self, *, config: Path | None = None, netns: str | None = None, **settings: Any
    ) -> tuple[int, dict[str, Any]]:
        """``shorthaul verify --json`` on this node: its exit status and what it found. It asks the probe of
        the scene, or one with these settings. ``netns``: from another network namespace.
        """
        if settings:
            with self.probe(**settings) as probe:
                return self.verify(config=probe.config, netns=netns)
        command = [*enter(netns or self.node.netns), _SHORTHAUL, "verify", "--json", "--config"]
        command.append(str(config or self.config(socket=str(self.folder / "probe.sock"))))
        with self.seated("probe"):
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            said, complained = child.communicate(timeout=60)
        finally:
            child.kill()
        assert said, f"verify said nothing but: {complained}"
        return child.returncode, json.loads(said)

    @contextlib.contextmanager
    def seated(self, cgroup: str = "clients") -> Iterator[None]:
        """Sockets and processes that are made meanwhile belong to a cgroup of the node."""
        root = next(parent for parent in self.cgroup.parents if parent.is_mount())
        here = next(
            line[4:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::/")
        )
        (self.cgroup / cgroup / "cgroup.procs").write_text("0")
        try:
            yield
        finally:
            (root / here / "cgroup.procs").write_text("0")

    @contextlib.contextmanager
    def probe_of_older_kernels(self) -> Iterator[Tail]:
        """A probe in this process that can't put its programs in front, as before Linux 6.15."""
        settings = load_settings(self.config(canary_interval_s=3600), [])
        tail, ready = Tail(), threading.Event()
        stop: list[Callable[[], object]] = []
        errors: list[BaseException] = []

        async def follow(source: LiveSource) -> None:
            probe, task = make_probe(settings, source), asyncio.current_task()
            probe.sinks.append(tail.take)
            assert task is not None
            stop.append(functools.partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel))
            with contextlib.suppress(asyncio.CancelledError):
                async with make_publisher(settings, probe):
                    ready.set()
                    await probe.run()

        def work() -> None:
            near = settings.probe.containerd_cgroup
            try:
                wanted = ProgramConfig(ports=watched_ports(settings), netns=netns_cookie())
                with LiveSource(wanted, root=self.cgroup, containerd=near, preorder=False) as source:
                    asyncio.run(follow(source))
            except BaseException as error:  # noqa: BLE001 - told to the one who waits
                errors.append(error)
                ready.set()

        with self.seated("probe"):  # for its canaries
            thread = threading.Thread(target=inside, args=(self.node.netns, work))
            thread.start()
            ready.wait(60)
            try:
                assert not errors, errors
                with self.vouched(settings.probe.socket):
                    tail.wait(lambda: tail.health.canaries, "its canaries")
                    yield tail
            finally:
                for each in stop:
                    each()
                thread.join()

    def run(
        self, command: Sequence[str], what: str, *, ready: Callable[[], bool], netns: str | None = None
    ) -> Process:
        """Some other process on this node; the caller ends it."""
        process = Process(
            command,
            log=self.folder / f"other-{next(self._numbers)}.log",
            netns=netns or self.node.netns,
            cgroup=self.cgroup / "clients",
        )
        try:
            process.wait_until(ready, what)
        except BaseException:
            process.kill()
            raise
        return process

    # Rules

    def service(self, *endpoints: RunningAgent | Endpoint, vip: str = VIP, **policies: Any) -> Service:
        """The agents' Service."""
        return Service(
            namespace="shorthaul",
            name="shorthaul",
            port_name="http",
            cluster_ip=vip,
            port=VIP_PORT,
            node_port=NODE_PORT,
            endpoints=tuple(one if isinstance(one, Endpoint) else self.endpoint(one) for one in endpoints),
            **policies,
        )

    def endpoint(self, agent: RunningAgent) -> Endpoint:
        """An agent as kube-proxy's rules name it."""
        host, _, port = agent.service.rpartition(":")
        host = host.strip("[]")
        return Endpoint(ip=host, port=int(port), local=self.is_here(host))

    def install(self, mode: Mode, *services: Service) -> None:
        """Put Services' rules into the node, in place of those of before."""
        node = NodeAddresses(addresses=self.node.addresses, pod_cidrs=self.network.pod_cidrs)
        kubeproxy.install(self.node.netns, kubeproxy.rules(mode, services, node))

    @contextlib.contextmanager
    def rules(self, mode: Mode, *services: Service) -> Iterator[None]:
        """The rules, for a while."""
        kubeproxy.remove(self.node.netns)
        self.install(mode, *services)
        try:
            yield
        finally:
            kubeproxy.remove(self.node.netns)

    def is_here(self, ip: str) -> bool:
        """Whether an address is this node's or one of its pods'."""
        pods = [self.node.pod_cidr, *([self.node.pod_cidr6] if self.node.pod_cidr6 else [])]
        return self.is_own(ip) or any(ip_address(ip) in ip_network(cidr) for cidr in pods)

    def is_own(self, ip: str) -> bool:
        """Whether an address is the node's own."""
        own = (*self.node.addresses, self.node.pod_address(1), self.node.pod_address6(1))
        return ip in own or ip_address(ip).is_loopback

    # Clients

    def image(self, *, pushed: bool = False) -> str:
        """The reference of an image that nobody pulled yet; all agents have it, the registry if pushed."""
        image = next(self._unused)
        if pushed:
            repository = image.tag.removeprefix(f"{REGISTRY}/").partition(":")[0]
            self.registry.push(image, repository, "v1")
        return image.tag

    def pull(
        self, containerd: Containerd, mirror: str, probe: "RunningProbe | Tail", *, reference: str = ""
    ) -> list[Judged]:
        """Pull an image by way of this mirror; its connections to it, checked against conntrack."""
        containerd.use_mirrors(REGISTRY, self.registry.endpoint, [mirror])
        with self.judging(probe, mirror) as judged:
            containerd.pull(reference or self.image())
        return judged

    @contextlib.contextmanager
    def judging(
        self, probe: "RunningProbe | Tail", asked: str, *, comm: str = "containerd", some: bool = True
    ) -> Iterator[list[Judged]]:
        """Fills the list with the flows to ``asked`` of the processes named ``comm`` that come meanwhile.

        Waits until each connection that conntrack saw has been told, and compares the two. ``some``: there
        is at least one.
        """
        tail = probe if isinstance(probe, Tail) else probe.tail
        before, seen = tail.cookies(), {found.original for found in self.watcher.all()}
        judged: list[Judged] = []
        yield judged

        def new() -> list[Flow]:
            return [
                flow
                for flow in tail.all()
                if flow.cookie not in before and str(flow.asked) == asked and flow.comm.startswith(comm)
            ]

        def untold() -> list[Translation]:
            host, _, port = asked.rpartition(":")
            wanted = plain(host.strip("[]")), int(port)
            return [
                found
                for found in self.watcher.all()
                if found.original not in seen
                and (found.original.dst, found.original.dst_port) == wanted
                and self.is_own(found.original.src)
                and not any(told(flow, found) for flow in tail.all())
            ]

        def all_told() -> bool:
            left = {(one.original.src, one.original.src_port) for one in untold()}
            return not left or left <= self._silent()

        until(all_told, f"the probe tells what conntrack saw of {asked}")
        if some:
            until(new, f"a flow to {asked}")
        judged += [self.compare(flow) for flow in new()]

    def compare_all(self, probe: "RunningProbe | Tail", *, since: Collection[Way] = ()) -> Counter[Verdict]:
        """Every connection of the node to an endpoint with its flow; fails where one is missing, or differs.

        ``since``: what conntrack knew before. The verdicts, counted.
        """
        tail = probe if isinstance(probe, Tail) else probe.tail
        known, found = frozenset(since), Counter[Verdict]()
        with contextlib.suppress(AssertionError):  # what is missing is said below
            until(lambda: not self._missed(tail, known), "the probe tells of every connection")
        assert not (missed := self._missed(tail, known)), f"missed connections: {missed}"
        for truth, flow in self._local_legs(tail, known):
            if flow is not None:
                check(flow, truth, is_here=self.is_here)
                found[flow.verdict] += 1
        return found

    def _missed(self, tail: Tail, known: Collection[Way]) -> list[Translation]:
        """The connections that the probe has not told of, although their clients said something."""
        untold = [truth for truth, flow in self._local_legs(tail, known) if flow is None]
        silent = self._silent() if untold else set()
        return [one for one in untold if (one.original.src, one.original.src_port) not in silent]

    def _local_legs(self, tail: Tail, known: Collection[Way]) -> list[tuple[Translation, Flow | None]]:
        """Every connection of the node to an endpoint, with its flow."""
        flows: dict[tuple[str, int], list[Flow]] = {}
        for flow in tail.all():
            flows.setdefault(end(flow.client), []).append(flow)
        return [
            (truth, next((flow for flow in flows.get(truth.wire_source, ()) if told(flow, truth)), None))
            for truth in self.watcher.all()
            if truth.original not in known and self._is_local_leg(truth.original)
        ]

    def _silent(self) -> set[tuple[str, int]]:
        """Clients that never said anything, such as a pool's spare connections: told of at their end."""
        states = ["state", "established"]
        found = set()
        for line in run(["ss", "-HtinO", *states], netns=self.node.netns).splitlines():
            if "bytes_sent:" not in line:
                host, _, port = line.split()[2].rpartition(":")
                found.add((host.strip("[]").removeprefix("::ffff:"), int(port)))
        return found

    def _is_local_leg(self, original: Way) -> bool:
        if not self.is_own(original.src):
            return False
        if original.dst in (VIP, VIP6):
            return original.dst_port == VIP_PORT
        return self.is_own(original.dst) and original.dst_port in (HOST_PORT, NODE_PORT)

    def compare(self, flow: Flow) -> Judged:
        """The flow with what conntrack has of it; fails when they don't agree."""

        def truth() -> Translation | None:
            seen = next((found for found in self.watcher.all() if told(flow, found)), None)
            return seen or self._asked_of_conntrack(flow)

        if flow.went is not None and flow.verdict is not Verdict.UNKNOWN:
            with contextlib.suppress(AssertionError):  # `check` says what is missing
                until(truth, "conntrack's word, which the probe may be ahead of", at_most_s=20.0)
        found = truth()
        check(flow, found, is_here=self.is_here)
        return Judged(flow=flow, truth=found)

    def _asked_of_conntrack(self, flow: Flow) -> Translation | None:
        """What conntrack answers about a flow. In a flood its events come late, or are lost."""
        (src, src_port), (dst, dst_port) = end(flow.client), end(flow.asked)
        found = lookup(
            self.node.netns, Way(src=plain(src), src_port=src_port, dst=plain(dst), dst_port=dst_port)
        )
        return found if found is not None and told(flow, found) else None

    def dial(
        self,
        host: str,
        port: int,
        *,
        netns: str | None = None,
        mapped: bool = False,
        at_most_s: float = 60.0,
        source: tuple[str, int] | None = None,
    ) -> socket.socket:
        """A connection by a plain client of this node, or of a pod of it. ``mapped``: by an IPv6 socket.

        ``source``: the address and port that it comes from.
        """
        family = socket.AF_INET6 if mapped or ":" in host else socket.AF_INET
        target = f"::ffff:{host}" if mapped else host

        def connect() -> socket.socket:
            client = socket.socket(family, socket.SOCK_STREAM)
            client.settimeout(at_most_s)
            try:
                if source is not None:
                    client.bind(source)
                client.connect((target, port))
            except BaseException:
                client.close()
                raise
            return client

        with self.seated():
            return inside(netns or self.node.netns, connect)

    def asker(self, host: str, port: int, **options: Any) -> Asker:
        """A client that speaks HTTP."""
        return Asker(self.dial(host, port, **options))

    def told_of(self, probe: "RunningProbe | Tail", way: Way) -> Flow | None:
        """The flow of a plain client's connection, by what conntrack has of it."""
        tail = probe if isinstance(probe, Tail) else probe.tail
        found = next((one for one in self.watcher.all() if one.original == way), None)
        return None if found is None else next((flow for flow in tail.all() if told(flow, found)), None)

    def flow(self, probe: "RunningProbe | Tail", way: Way) -> Flow:
        """The flow of a plain client's connection; waits for it."""
        found: Flow = until(lambda: self.told_of(probe, way), f"the flow of {way}")
        return found

    def _build_images(self) -> list[Image]:
        images, entries = [], []
        for number in range(self._images):
            tag = f"{REGISTRY}/{self._name}/app{number:03}:v1"
            images.append(build_image(self.layout, layer_bytes=[4000], seed=number, tag=tag))
            entries += json.loads((self.layout / "index.json").read_text())["manifests"]
        if images:
            index = {"schemaVersion": 2, "manifests": entries}
            (self.layout / "index.json").write_text(json.dumps(index))
        return images

    def _start_agent(
        self,
        name: str,
        where: NatNode | Pod,
        *,
        follow: RunningProbe | None = None,
        interval_s: int = 1,
        **listen: str,
    ) -> RunningAgent:
        address = where.address
        heard = self.folder / "probe.sock" if follow is None else follow.socket
        settings = {
            "node": {"name": name, "address": address},
            "listen": {
                "hostport": DIRECT_URL,
                "peer": f"{address}:{HOST_PORT}",
                "nodeport": f"{address}:{AGENT_PORT}",
                "admin": f"127.0.0.1:{ADMIN_PORT}",
                "local_callers": "any",  # in pods, too: what is asked here is which way a connection takes
                **listen,
            },
            "peering": {"open": True},
            "store": f"oci-layout://{self.layout}",
            "tags": {"share_imported": True},  # no registry had these images
            "latency": {"measure": False},
            "probe": {"socket": str(heard), "canary_interval_s": interval_s if follow else 3600},
        }
        number = next(self._numbers)
        config = self.folder / f"agent-{number}.yaml"
        config.write_text(yaml.safe_dump(settings))
        launch = functools.partial(
            Process,
            [_SHORTHAUL, "agent", "--config", str(config), "--log-format", "json"],
            log=self.folder / f"agent-{number}.log",
            netns=where.netns,
            cgroup=self.cgroup / "agents" if self.is_here(address) else None,
        )
        agent = RunningAgent(name, where.netns, settings, launch)
        self._stack.callback(agent.kill)
        self._agents.append(agent)
        return agent

    def _start_probe(self, **settings: Any) -> RunningProbe:
        config = self.config(**{"canary_interval_s": 3600, **settings})
        path = Path(yaml.safe_load(config.read_text())["probe"]["socket"])
        process = Process(
            [_SHORTHAUL, "probe", "--config", str(config)],
            log=config.with_suffix(".log"),
            netns=self.node.netns,
            cgroup=self.cgroup / "probe",
        )
        try:
            process.wait_until(path.is_socket, "the probe")
            tail = until(lambda: _tail(path), "the probe's socket")
        except BaseException:
            process.kill()
            raise
        return RunningProbe(process, tail, config, self.node.netns)


def _tail(path: Path) -> Tail | None:
    try:
        return Tail(path)
    except OSError:  # bound, but it does not listen yet
        return None
