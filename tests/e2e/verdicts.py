"""A node in namespaces whose containerd, agents, registry and probe are real, and an oracle beside them.

All that belongs to the node runs in a cgroup of the scene's own, which is what its probe watches: scenes do
not see each other, and the machine's root cgroup stays as it is. What belongs to other nodes runs outside.
"""

import asyncio
import contextlib
import functools
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal, Self

import yaml

from agent.config import load_settings
from agent.flows.messages import Flows, Health, Hello, Message, decode
from agent.flows.table import Flow
from agent.flows.verdicts import ANY, Verdict
from agent.probe.process import watched_ports
from agent.probe.run import make_probe
from benchmarks.lab import kubeproxy
from benchmarks.lab.cgroups import make_cgroup, remove_cgroup, sweep_cgroups
from benchmarks.lab.cluster import REGISTRY, metric_total
from benchmarks.lab.conntrack import Flow as Way
from benchmarks.lab.conntrack import Kind, Translation, Watcher, turn_on
from benchmarks.lab.containerd import Containerd
from benchmarks.lab.image import Image, build_image
from benchmarks.lab.kubeproxy import Endpoint, Mode, NodeAddresses, Service
from benchmarks.lab.network import inside
from benchmarks.lab.pods import NatNode, Pod, PodNetwork
from benchmarks.lab.process import LabError, Process, enter, run, undisturbed
from benchmarks.lab.registry import Registry
from bpf.child import Wanted
from bpf.events import Address, format_ip
from bpf.libbpf import PREORDER, Hook, LibBpf
from bpf.live import LiveSource

HOST_PORT, NODE_PORT, AGENT_PORT, ADMIN_PORT = 30020, 30021, 30022, 9090
VIP, VIP6, VIP_PORT = "10.96.0.30", "fd00:10:96::30", 30080
DIRECT_URL = f"127.0.0.1:{HOST_PORT}"
_PREFIX = "shlab"
_SHORTHAUL = str(Path(sys.executable).parent / "shorthaul")
_IMAGES = 200
_TRANSLATED = (Verdict.HOSTPORT_NAT, Verdict.KUBE_PROXY, Verdict.KUBE_PROXY_REMOTE)
_ALLOW_MULTI = 2  # BPF_F_ALLOW_MULTI


def until(condition: Callable[[], Any], what: str, at_most_s: float = 10.0) -> Any:
    """Wait for a condition, with a bound that only a failure reaches; what it gave."""
    end_s = time.monotonic() + at_most_s
    while not (found := condition()):
        assert time.monotonic() < end_s, f"not within {at_most_s} s: {what}"
        time.sleep(0.01)
    return found


def shown(flow: Flow) -> str:
    """A flow in words."""
    return f"{flow.client} → {flow.asked} (wire {flow.went}): {flow.verdict.value}, {flow.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A flow as the probe told it, and as conntrack keeps it; ``truth`` None: it has no such connection."""

    flow: Flow
    truth: Translation | None

    @property
    def verdict(self) -> Verdict:
        """The probe's."""
        return self.flow.verdict

    @property
    def went(self) -> str:
        """The destination on the wire by the probe, "" if none was seen."""
        return "" if self.flow.went is None else str(self.flow.went)


class Tail:
    """Collects what a probe tells over its socket. ``known``: each flow as told last, by its cookie."""

    def __init__(self, path: Path | None = None) -> None:
        self.known: dict[int, Flow] = {}
        self.told: Counter[tuple[str, str]] = Counter()  # as the agent counts: a verdict that is new
        self.history: list[Flow] = []
        self.health = Health()
        self.hello: Hello | None = None
        self.error: Exception | None = None
        self._changed = threading.Condition()
        self._socket: socket.socket | None = None
        if path is not None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(str(path))
            self._thread = threading.Thread(target=self._read, name=f"tail of {path}", daemon=True)
            self._thread.start()

    def take(self, message: Message) -> None:
        """A sink for a probe in this process."""
        with self._changed:
            if isinstance(message, Hello):
                self.hello = message
            elif isinstance(message, Health):
                self.health = message
            else:
                self._take_flows(message)
            self._changed.notify_all()

    def _take_flows(self, message: Flows) -> None:
        for flow in message.flows:
            before = self.known.get(flow.cookie)
            if before is None or before.verdict is not flow.verdict:
                self.told[flow.endpoint.value, flow.verdict.value] += 1
            self.known[flow.cookie] = flow
            self.history.append(flow)

    def wait(self, condition: Callable[[], Any], what: str, at_most_s: float = 10.0) -> Any:
        """Wait until something is told; what the condition gave."""
        with self._changed:
            found = self._changed.wait_for(condition, at_most_s)
            last = "\n".join(shown(flow) for flow in list(self.known.values())[-8:])
            assert found, f"not within {at_most_s} s: {what}; told last:\n{last}"
            return found

    def all(self) -> list[Flow]:
        """Every flow, as told last."""
        with self._changed:
            return list(self.known.values())

    def of_client(self, way: Way) -> list[Flow]:
        """The flows from the address and port of a connection's client; waits for one."""
        source = f"{way.src}:{way.src_port}"

        def found() -> list[Flow]:
            return [flow for flow in self.all() if str(flow.client) == source]

        until(found, f"a flow from {source}")
        return found()

    def cookies(self) -> frozenset[int]:
        """Of the flows told so far."""
        with self._changed:
            return frozenset(self.known)

    def close(self) -> None:
        """Stop reading."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._socket.close()

    def _read(self) -> None:
        assert self._socket is not None
        with self._socket.makefile("rb") as lines:
            try:
                for line in lines:
                    self.take(decode(line))
            except (OSError, ValueError) as error:
                self.error = error


class RunningProbe:
    """A ``shorthaul probe``, and a tail of what it tells."""

    def __init__(self, process: Process, tail: Tail, config: Path, netns: str) -> None:
        settings = yaml.safe_load(config.read_text())["probe"]
        self.process = process
        self.tail = tail
        self.config = config
        self.socket = Path(settings["socket"])
        self._port = int(settings["metrics"].rpartition(":")[2])
        self._netns = netns

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the probe's own metric's samples that have these labels."""
        return metric_total(get(self._netns, "127.0.0.1", self._port, "/metrics"), name, labels)

    def close(self) -> None:
        """End it."""
        self.tail.close()
        self.process.stop()


class RunningAgent:
    """A ``shorthaul agent`` in some namespace."""

    def __init__(
        self, name: str, netns: str, settings: dict[str, Any], launch: Callable[[], Process]
    ) -> None:
        self.name = name
        self.netns = netns
        self.service = str(settings["listen"]["service"])
        self._admin_port = int(str(settings["listen"]["admin"]).rpartition(":")[2])
        self._launch = launch
        self.process = launch()

    def wait(self) -> Self:
        """Wait until it is ready."""
        self.process.wait_until(self.is_ready, f"the agent {self.name} in {self.netns}")
        return self

    def kill(self) -> None:
        """End it: it has nothing to lose."""
        self.process.kill()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """It does not run for a while."""
        follows = self.follows_a_probe()
        self.kill()
        try:
            yield
        finally:
            self.process = self._launch()
            self.wait()
            if follows:
                until(self.follows_a_probe, "the agent follows the probe")

    def api(self, path: str) -> Any:
        """A page of its API."""
        return json.loads(get(self.netns, "127.0.0.1", self._admin_port, path))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return metric_total(get(self.netns, "127.0.0.1", self._admin_port, "/metrics"), name, labels)

    def counted(self, name: str) -> Counter[tuple[str, str]]:
        """The samples of a metric with the labels ``endpoint`` and ``verdict``."""
        exposed = get(self.netns, "127.0.0.1", self._admin_port, "/metrics").decode()
        found = re.findall(rf'^{name}{{endpoint="(\w+)",verdict="(\w+)"}} (\S+)$', exposed, re.MULTILINE)
        return Counter({(endpoint, verdict): int(float(value)) for endpoint, verdict, value in found})

    def is_ready(self) -> bool:
        """What /readyz says."""
        try:
            return get(self.netns, "127.0.0.1", self._admin_port, "/readyz").startswith(b"ok")
        except (OSError, http.client.HTTPException):
            return False

    def requests(self, reference: str) -> list[dict[str, Any]]:
        """The requests for an image that it remembers."""
        repository = reference.rpartition(":")[0]
        return [entry for entry in self.api("/api/requests") if repository in entry["target"]]

    def follows_a_probe(self) -> bool:
        """Whether it hears of a probe's flows."""
        return bool(self.api("/api/flows")["probe"])


def get(netns: str, host: str, port: int, path: str) -> bytes:
    """The body of one HTTP reply. Raises OSError."""

    def ask() -> bytes:
        connection = http.client.HTTPConnection(host, port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    return inside(netns, ask)


class Asker:
    """A client that asks over and over on one connection."""

    def __init__(self, connected: socket.socket) -> None:
        self._connection = http.client.HTTPConnection("shorthaul")
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


class Scene:
    """The node and what runs on it. Use as a context manager: leaving ends and removes everything."""

    def __init__(
        self, name: str, *, bridge_first: bool = False, remotes: int = 2, images: int = _IMAGES
    ) -> None:
        self._name = name
        self._images = images
        self._numbers = iter(range(10_000))
        self._stack = contextlib.ExitStack()
        self.network = PodNetwork(
            remotes=remotes, dual_stack=True, bridge_first=bridge_first, name=f"vd-{name}"
        )

    def __enter__(self) -> Self:
        sweep_cgroups(_PREFIX)
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process, and remove the namespaces, cgroups and files. Can't be interrupted."""
        with undisturbed():
            self._stack.close()

    def _make(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{os.getpid()}-{self._name}-"))
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

    def start_agents(self, *agents: tuple[str, NatNode | Pod]) -> list[RunningAgent]:
        """Agents at once, each by its node's name and where it runs; of other nodes outside of the cgroup."""
        started = [self._start_agent(name, where) for name, where in agents]
        return [agent.wait() for agent in started]

    @contextlib.contextmanager
    def agent(
        self, name: str, where: NatNode | Pod, *, follow: "RunningProbe | None" = None, **listen: str
    ) -> Iterator[RunningAgent]:
        """An agent for a while. ``listen``: other listeners than usual. ``follow``: another probe's flows."""
        agent = self._start_agent(name, where, follow=follow, **listen)
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
            yield probe
        finally:
            probe.close()

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
                    "listen": {"local": DIRECT_URL, "service": f"{self.node.address}:{AGENT_PORT}"}
                    | (listen or {}),
                    "probe": probe,
                }
            )
        )
        return path

    def verify(self, *, config: Path | None = None, **settings: Any) -> tuple[int, dict[str, Any]]:
        """``shorthaul verify --json`` on this node: its exit status and what it found."""
        command = [*enter(self.node.netns), _SHORTHAUL, "verify", "--json", "--config"]
        command.append(str(config or self.config(**settings)))
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
            ready.set()
            with contextlib.suppress(asyncio.CancelledError):
                await probe.run()

        def work() -> None:
            near = settings.probe.containerd_cgroup
            try:
                wanted = Wanted(ports=watched_ports(settings))
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
        known, found, silent = frozenset(since), Counter[Verdict](), self._silent()
        flows: dict[tuple[str, int], list[Flow]] = {}
        for flow in tail.all():
            flows.setdefault(end(flow.client), []).append(flow)
        for truth in self.watcher.all():
            original = truth.original
            if original in known or not self._is_local_leg(original):
                continue
            told_flow = next((flow for flow in flows.get(truth.wire_source, ()) if told(flow, truth)), None)
            if told_flow is None:
                assert (original.src, original.src_port) in silent, f"a missed connection: {truth}"
                continue
            check(told_flow, truth, is_here=self.is_here)
            found[told_flow.verdict] += 1
        return found

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
        truth = next((found for found in self.watcher.all() if told(flow, found)), None)
        check(flow, truth, is_here=self.is_here)
        return Judged(flow=flow, truth=truth)

    def dial(
        self, host: str, port: int, *, netns: str | None = None, mapped: bool = False, at_most_s: float = 10.0
    ) -> socket.socket:
        """A connection by a plain client of this node, or of a pod of it. ``mapped``: by an IPv6 socket."""
        family = socket.AF_INET6 if mapped or ":" in host else socket.AF_INET
        target = f"::ffff:{host}" if mapped else host

        def connect() -> socket.socket:
            client = socket.socket(family, socket.SOCK_STREAM)
            client.settimeout(at_most_s)
            try:
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
        self, name: str, where: NatNode | Pod, *, follow: RunningProbe | None = None, **listen: str
    ) -> RunningAgent:
        address = where.address
        heard = self.folder / "probe.sock" if follow is None else follow.socket
        settings = {
            "node": {"name": name, "address": address},
            "listen": {
                "local": DIRECT_URL,
                "peer": f"{address}:{HOST_PORT}",
                "service": f"{address}:{AGENT_PORT}",
                "admin": f"127.0.0.1:{ADMIN_PORT}",
                **listen,
            },
            "store": f"oci-layout://{self.layout}",
            "latency": {"probe": False},
            "probe": {"socket": str(heard), "canary_interval_s": 1 if follow else 3600},
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


def plain(host: str) -> str:
    """An address as conntrack has it: connect() takes any address for loopback."""
    ip = ip_address(host)
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(ip), str(ip))


def end(address: Address) -> tuple[str, int]:
    """An address and port in words."""
    return format_ip(address.ip), address.port


def told(flow: Flow, found: Translation) -> bool:
    """Whether a flow of the probe is this connection of conntrack's."""
    asked = format_ip(flow.asked.ip) if flow.asked.ip not in ANY else plain(format_ip(flow.asked.ip))
    original = (found.original.dst, found.original.dst_port)
    if flow.went is None:
        return end(flow.client) == (found.original.src, found.original.src_port) and original == (
            asked,
            flow.asked.port,
        )
    if (end(flow.client), end(flow.went)) != (found.wire_source, found.wire):
        return False
    return original == (asked, flow.asked.port) or flow.verdict in (Verdict.SOCKET_LB, Verdict.UNKNOWN)


def check(flow: Flow, truth: Translation | None, *, is_here: Callable[[str], bool]) -> None:
    """Fail where the probe's verdict and conntrack's entry can't both be right."""
    translated = truth is not None and (truth.kind is Kind.DNAT or truth.snat)
    said = f"{shown(flow)}; conntrack: {truth}"
    if flow.verdict is Verdict.DIRECT:
        assert truth is not None, said
        assert not translated, said
    elif flow.verdict in _TRANSLATED:
        assert truth is not None, said
        assert truth.kind is Kind.DNAT, said
        assert is_here(truth.wire[0]) is (flow.verdict is not Verdict.KUBE_PROXY_REMOTE), said
    elif flow.verdict is Verdict.SOCKET_LB:
        assert truth is not None, said
        assert flow.went is not None, said
        assert truth.original.dst_port != flow.asked.port or truth.original.dst != format_ip(flow.asked.ip), (
            said
        )
    elif flow.verdict is Verdict.FAILED:
        assert flow.went is None or truth is not None, said
    if truth is not None and flow.went is not None:
        assert end(flow.went) == truth.wire, said


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A scene and what runs in it; ``host``, ``pod``: this node's agents; ``far``: those of two others."""

    scene: Scene
    containerds: dict[str, Containerd]
    probe: RunningProbe
    host: RunningAgent
    pod: RunningAgent
    far: tuple[RunningAgent, RunningAgent]
    local_pod: Pod
    client_pod: Pod
    seen: frozenset[Way]  # by conntrack before there was a probe

    @property
    def containerd(self) -> Containerd:
        """The usual one."""
        return self.containerds["1.6"]

    def pull(
        self,
        mirror: str,
        *,
        by: RunningAgent | None = None,
        instead: RunningAgent | None = None,
        falls_back: bool = False,
        containerd: Containerd | None = None,
    ) -> list[Judged]:
        """Pull a new image by way of this mirror; the connections to it, which conntrack and agents confirm.

        ``by``: the agent that answers all. ``instead``: of ``host``, to confirm. ``falls_back``: the
        mirror does not answer and the pull goes on to the registry, which else is asked nothing.
        """
        witness = instead or self.host
        before = witness.counted("shorthaul_local_flows_total")
        reference = self.scene.image(pushed=falls_back)
        judged = self.scene.pull(containerd or self.containerd, mirror, self.probe, reference=reference)
        repository = reference.partition("/")[2].partition(":")[0]
        asked = [
            uri for _, method, uri, _ in self.scene.registry.served() if method == "GET" and repository in uri
        ]
        assert bool(asked) is falls_back, f"the registry was asked for {asked}"
        self._confirmed(witness, judged, before)
        if by is not None:
            (verdict,) = verdicts(judged)

            def all_judged() -> list[dict[str, Any]] | None:
                found = by.requests(reference)  # a verdict may come a moment after its request
                return found if len(found) > 3 and all(entry["verdict"] for entry in found) else None

            answered = until(all_judged, "the verdicts of a manifest's HEAD and GET, a config and a layer")
            assert {entry["verdict"] for entry in answered} == {verdict.value}, answered
        return judged

    @staticmethod
    def _confirmed(witness: RunningAgent, judged: list[Judged], before: Counter[tuple[str, str]]) -> None:
        wanted = Counter((one.flow.endpoint.value, one.verdict.value) for one in judged)
        until(
            lambda: wanted <= witness.counted("shorthaul_local_flows_total") - before,
            f"the agent counts {wanted}",
        )
        listed = {flow["cookie"]: flow["verdict"] for flow in witness.api("/api/flows")["flows"]}
        assert {one.flow.cookie: one.verdict.value for one in judged}.items() <= listed.items()


@contextlib.contextmanager
def make_node(name: str, *, versions: Sequence[str] = ("1.6",)) -> Iterator[Node]:
    """A node with containerds, a probe, an agent of the host network and one in a pod; two other nodes."""
    with Scene(name) as scene:
        local_pod, client_pod = scene.node.add_pod(), scene.node.add_pod()
        scene.start_registry()
        containerds = {version: scene.start_containerd(version) for version in versions}
        host, pod, *far = scene.start_agents(
            (scene.node.name, scene.node),
            (scene.node.name, local_pod),
            *((remote.name, remote.add_pod()) for remote in scene.remotes),
        )
        probe = scene.start_probe(socket=str(scene.folder / "probe.sock"))
        probe.tail.wait(lambda: probe.tail.health.canaries, "the first canaries")
        seen = frozenset(found.original for found in scene.watcher.all())
        until(lambda: host.follows_a_probe() and pod.follows_a_probe(), "the agents follow the probe")
        yield Node(
            scene=scene,
            containerds=containerds,
            probe=probe,
            host=host,
            pod=pod,
            far=(far[0], far[1]),
            local_pod=local_pod,
            client_pod=client_pod,
            seen=seen,
        )


def verdicts(judged: list[Judged]) -> set[Verdict]:
    """Those there are."""
    return {one.verdict for one in judged}


def went(judged: list[Judged]) -> set[str]:
    """Where they went on the wire."""
    return {one.went for one in judged}


_LOADER = """
import json, os, socket, sys
fd, headers, source, flags = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
os.environ["BCC_KERNEL_SOURCE"] = headers
import bcc
module = bcc.BPF(text=open(source, "rb").read(), cflags=flags)
names = ["to_loopback", "to_node"]
fds = [module.load_func(name.encode(), bcc.BPF.CGROUP_SOCK_ADDR, attach_type=10).fd for name in names]
with socket.socket(fileno=fd) as parent:
    socket.send_fds(parent, [json.dumps(names).encode()], fds)
"""

How = Literal["link", "multi", "preorder", "front"]
_LINK_FLAGS = {"link": 0, "preorder": PREORDER, "front": PREORDER | 1 << 3}  # BPF_F_BEFORE, Linux 6.17


class Rewriter:
    """Programs that rewrite connect() to an address, the Service's. Use as a context manager."""

    def __init__(self, node_address: str, *, asked: tuple[str, int] = (VIP, VIP_PORT)) -> None:
        here = Path(__file__).resolve()
        flags = [
            f"-DVIP={int(IPv4Address(asked[0]))}u",
            f"-DNODE={int(IPv4Address(node_address))}u",
            f"-DVIP_PORT={asked[1]}",
            f"-DHOST_PORT={HOST_PORT}",
            f"-DAGENT_PORT={AGENT_PORT}",
        ]
        headers = here.parents[2] / "bpf/headers"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                source = str(here.with_name("rewriter.c"))
                command = [sys.executable, "-c", _LOADER, str(theirs.fileno()), str(headers), source, *flags]
                done = subprocess.run(
                    command, pass_fds=[theirs.fileno()], capture_output=True, timeout=60, check=False
                )
            said, fds, _, _ = socket.recv_fds(ours, 4096, 2)
        if not said:
            raise LabError(f"the rewriter was not loaded: {done.stderr.decode()[-1500:]}")
        self._programs = dict(zip(json.loads(said), fds, strict=True))
        self._lib = LibBpf()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._programs:
            os.close(self._programs.popitem()[1])

    @contextlib.contextmanager
    def attached(self, cgroup: Path, program: str = "to_loopback", how: How = "link") -> Iterator[None]:
        """At work in a cgroup and all below. Last in its row; with "preorder" before those of other cgroups;
        with "front" before those that are before others.
        """
        number = self._programs[program]
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if how == "multi":
                result = self._lib.lib.bpf_prog_attach(number, fd, int(Hook.CONNECT4), _ALLOW_MULTI)
                assert result == 0, os.strerror(-result)
                try:
                    yield
                finally:
                    self._lib.lib.bpf_prog_detach2(number, fd, int(Hook.CONNECT4))
            else:
                link = self._lib.link(number, fd, Hook.CONNECT4, _LINK_FLAGS[how])
                try:
                    yield
                finally:
                    os.close(link)
        finally:
            os.close(fd)
