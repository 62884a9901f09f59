"""One node for a test: a network namespace and a cgroup of its own, and what runs in them.

Everything ends and is removed when its context does. The machine's own namespace gets no socket of it.
"""

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from agent.flows.messages import Canary, Flows, Health, Hello, decode
from agent.flows.table import Flow
from agent.flows.verdicts import EndpointName, Verdict
from agent.keyring import new_key
from benchmarks.lab.cgroups import make_cgroup, remove_cgroup, sweep_cgroups
from benchmarks.lab.cluster import metric_total
from benchmarks.lab.network import inside, sweep
from benchmarks.lab.process import Process, enter, run, undisturbed
from tests.server.agents import ADMIN, LOCAL, Reply, wait_for

HOST, NODE_ADDRESS, METRICS = "127.0.0.1", "127.0.0.2", 9091
NODE = "node-1"
SHORTHAUL = str(Path(sys.executable).parent / "shorthaul")

_PREFIX = "shprobe"
_REPOSITORY = Path(__file__).parents[2]
_HERE = Path(__file__).parent
_numbers = itertools.count(1)


class Place:
    """The node. Without an agent nobody answers its HostPort."""

    def __init__(self) -> None:
        sweep(_PREFIX)
        sweep_cgroups(_PREFIX)
        name = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"
        self._undo = contextlib.ExitStack()
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
            self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.cgroup = make_cgroup(name)
            self._undo.callback(remove_cgroup, self.cgroup)
            run(["ip", "netns", "add", name])
            self._undo.callback(run, ["ip", "netns", "del", name])
            self.netns = name
            run(["ip", "-n", name, "link", "set", "lo", "up"])
            self.socket = self.folder / "probe.sock"
            self.config = self.folder / "node.yaml"
            self.config.write_text(yaml.safe_dump(self._settings()))
        except BaseException:
            self._undo.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with undisturbed():
            self._undo.close()

    def probe(self, *, through: Sequence[str] = (), **settings: object) -> Process:
        """A probe that serves its socket. ``through``: the words of a command that runs it."""
        process = self.start("probe", *self._overrides(settings), through=through)
        process.wait_until(self.is_served, "the probe")
        return process

    def agent(self) -> Process:
        """An agent, with an empty store, that is ready."""
        process = self.start("agent")
        process.wait_until(self.is_agent_ready, "the agent")
        return process

    def start(self, command: str, *arguments: str, through: Sequence[str] = ()) -> Process:
        """A shorthaul command as a process of this node, ended with the node."""
        words = [*through, SHORTHAUL, command, "--config", str(self.config), *arguments]
        log = self.folder / f"{command}-{next(_numbers)}.log"
        process = Process(words, log=log, netns=self.netns, cgroup=self.cgroup)
        self._undo.callback(_end, process)
        return process

    def run(
        self,
        *arguments: str,
        through: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        **settings: object,
    ) -> "subprocess.CompletedProcess[str]":
        """A shorthaul command to its end. ``through``: the words of a command that runs it."""
        command = [*through, SHORTHAUL, *arguments]
        command += ["--config", str(self.config), *self._overrides(settings)]
        return subprocess.run(
            self._inside(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=_REPOSITORY,
            env=None if env is None else {**os.environ, **env},
        )

    def worker(self) -> "Orders":
        """A process in this node that connects as it is told."""
        orders = Orders(self._inside([sys.executable, "-m", "tests.probe.worker", str(self.socket), NODE]))
        self._undo.callback(orders.close)
        return orders

    def other_tool(self, how: str, port: int) -> "OtherTool":
        """Another tool, which counts connections to a port, and all packets and calls of sock_ops."""
        tool = OtherTool(how, self.cgroup, port)
        self._undo.callback(tool.close)
        return tool

    def listener(self) -> "Listener":
        """A reader of this node's probe, now and when it comes back."""
        listener = Listener(self.socket)
        self._undo.callback(listener.close)
        return listener

    def blast(
        self, *, seconds: float = 60.0, most: int = 1 << 40, threads: int = 4, uid: int | None = None
    ) -> tuple[int, float]:
        """Connect to the HostPort as fast as this machine can; how often, and in how many seconds.

        ``uid``: as this user instead of root.
        """
        program = self.folder / "blast"
        if not program.exists():
            run(["gcc", "-O2", "-pthread", "-o", str(program), str(_HERE / "blast.c")])
        words = [str(program), str(LOCAL), str(seconds), str(most), str(threads)]
        if uid is not None:
            self.folder.chmod(0o711)
            words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *words]
        number, took_s = run(self._inside(words)).split()
        return int(number), float(took_s)

    def is_served(self) -> bool:
        """Whether a probe answers at the socket, and at the port of its metrics, which it opens last."""
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(str(self.socket)) != 0:
                return False
        try:
            return self.ask("/metrics", port=METRICS).status == 200
        except OSError:
            return False

    def is_agent_ready(self) -> bool:
        """What its /readyz says."""
        try:
            return self.ask("/readyz", port=ADMIN).status == 200
        except OSError:
            return False

    def ask(self, path: str, *, port: int = ADMIN, accept: str = "*/*") -> Reply:
        """One request to the agent, by a socket that the probe does not watch."""

        def ask() -> Reply:
            connection = http.client.HTTPConnection(HOST, port, timeout=60)
            try:
                connection.request("GET", path, headers={"Accept": accept})
                response = connection.getresponse()
                return Reply(status=response.status, headers=response.headers, body=response.read())
            finally:
                connection.close()

        return inside(self.netns, ask)

    def agent_metric(self, name: str, **labels: str) -> float:
        """A metric of the agent."""
        return metric_total(self.ask("/metrics").body, name, labels)

    def probe_metric(self, name: str, **labels: str) -> float:
        """A metric of the probe."""
        return metric_total(self.ask("/metrics", port=METRICS).body, name, labels)

    def probe_verdicts(self) -> Counter[str]:
        """How many connections the probe judged how."""
        counts = {
            verdict.value: int(self.probe_metric("shorthaul_probe_flows_total", verdict=verdict.value))
            for verdict in Verdict
        }
        return +Counter(counts)

    def sysctl(self, key: str, value: int) -> None:
        """Set one of this network namespace's own."""
        run(["sysctl", "-q", "-w", f"{key}={value}"], netns=self.netns)

    def attached(self) -> dict[int, str]:
        """The programs attached to this node's cgroup, by id: their names."""
        shown = bpftool("cgroup", "show", str(self.cgroup))
        return {program["id"]: program.get("name", "") for program in shown}

    def linked(self) -> list[int]:
        """The programs that links attach to this node's cgroup."""
        own = self.cgroup.stat().st_ino
        return [link["prog_id"] for link in bpftool("link") if link.get("cgroup_id") == own]

    def _inside(self, command: Sequence[str]) -> list[str]:
        join = f'echo $$ >{self.cgroup}/cgroup.procs && exec "$@"'
        return ["sh", "-c", join, "sh", *enter(self.netns), *command]

    def _overrides(self, settings: Mapping[str, object]) -> list[str]:
        return [word for key, value in settings.items() for word in ("--set", f"probe.{key}={value}")]

    def _settings(self) -> dict[str, Any]:
        layout, members = self.folder / "layout", self.folder / "peers.yaml"
        (layout / "blobs/sha256").mkdir(parents=True)
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (layout / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
        members.write_text("[]")
        (self.folder / "cluster.key").write_text(new_key())
        (self.folder / "certs.d").mkdir()
        return {
            "node": {"name": NODE, "address": NODE_ADDRESS},
            "placement": {"region": "r", "zone": "a"},
            "listen": {"admin": f"{HOST}:{ADMIN}"},
            "store": f"oci-layout://{layout}",
            "membership": {"static": str(members)},
            "peering": {"key": str(self.folder / "cluster.key")},
            "probe": {
                "socket": str(self.socket),
                "cgroup": str(self.cgroup),
                "hosts_dir": str(self.folder / "certs.d"),
                "endpoints": [f"{HOST}:30020", f"{NODE_ADDRESS}:30021"],
                "canary_interval_s": 3600,  # one round, at the start
            },
        }


class Orders:
    """A worker (see there) at the other end of two pipes. Each order is a method with its arguments."""

    def __init__(self, command: Sequence[str]) -> None:
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_REPOSITORY
        )
        self.pid = self._child.pid

    def __call__(self, do: str, *arguments: object, **more: object) -> Any:
        """Give an order and wait for its answer."""
        self.begin(do, *arguments, **more)
        return self.answer()

    def begin(self, do: str, *arguments: object, **more: object) -> None:
        """Give an order."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"do": do, "with": arguments, "and": more}) + "\n")
        self._child.stdin.flush()

    def answer(self) -> Any:
        """The answer to the oldest order that has none yet."""
        assert self._child.stdout is not None
        said = json.loads(self._child.stdout.readline())
        assert "failed" not in said, said["failed"]
        return said["answer"]

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.communicate()


class OtherTool:
    """Programs that are not the probe's (see counting.py)."""

    def __init__(self, how: str, cgroup: Path, port: int) -> None:
        command = [sys.executable, str(_HERE / "counting.py"), how, str(cgroup), str(port)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.programs: list[int] = self._line()
        except BaseException:
            self.close()
            raise

    def counts(self) -> tuple[int, int, int]:
        """Packets that left, connections to the port, calls of sock_ops."""
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        packets, connections, calls = self._line()
        return packets, connections, calls

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.communicate()

    def _line(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, "the other tool did not start"
        return json.loads(line)


class Listener:
    """Reads what a probe tells, in a thread; comes back when the probe does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._closed = False
        self._socket: socket.socket | None = None
        self._flows: dict[int, Flow] = {}
        self._verdicts: Counter[tuple[EndpointName, Verdict]] = Counter()
        self.hello: Hello | None = None
        self.health = Health()
        self.healths = 0
        self.rounds: list[tuple[Canary, ...]] = []
        self._thread = threading.Thread(target=self._follow, name="listener")
        self._thread.start()

    @property
    def canaries(self) -> tuple[Canary, ...]:
        """The last round."""
        return self.health.canaries

    def flow(self, cookie: int) -> Flow | None:
        """What was told last of a socket's flow."""
        with self._lock:
            return self._flows.get(cookie)

    def verdict(self, cookie: int) -> Verdict | None:
        """Its verdict."""
        flow = self.flow(cookie)
        return None if flow is None else flow.verdict

    def verdicts(self) -> Counter[tuple[EndpointName, Verdict]]:
        """What was told since the start, each flow with each of its verdicts once."""
        with self._lock:
            return Counter(self._verdicts)

    def wait_for(
        self, verdict: Verdict, cookies: Sequence[int], *, lost_most: int = 0, at_most_s: float = 60.0
    ) -> None:
        """Wait until all of these flows have this verdict, but for ``lost_most``: UNKNOWN, or not told."""
        deadline_s = time.monotonic() + at_most_s
        while (found := Counter(map(self.verdict, cookies)))[verdict] < len(cookies) - lost_most:
            assert time.monotonic() < deadline_s, f"not all {verdict}: {found}"
            time.sleep(0.02)
        assert found.keys() <= {verdict, Verdict.UNKNOWN, None}, found

    def wait_for_healths(self, number: int) -> None:
        """Wait until the probe told that often more how it is: once a second."""
        enough = self.healths + number
        wait_for(lambda: self.healths >= enough, f"the probe told {number} times more", at_most_s=number + 60)

    def close(self) -> None:
        """End."""
        with self._lock:
            self._closed = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def _follow(self) -> None:
        while not self._closed:
            with socket.socket(socket.AF_UNIX) as client:
                with self._lock:
                    self._socket = client
                with contextlib.suppress(OSError):
                    client.connect(str(self._path))
                    with client.makefile("rb") as lines:
                        for line in lines:
                            self._take(line)
                with self._lock:
                    self._socket = None
            time.sleep(0.02)

    def _take(self, line: bytes) -> None:
        if not line.endswith(b"\n"):
            return  # the probe was killed in the middle of it
        message = decode(line)
        with self._lock:
            if isinstance(message, Hello):
                self.hello = message
            elif isinstance(message, Health):
                if message.canaries and message.round_s != self.health.round_s:
                    self.rounds.append(message.canaries)
                self.health = message
                self.healths += 1
            elif isinstance(message, Flows):
                for flow in message.flows:
                    self._flows[flow.cookie] = flow
                    self._verdicts[flow.endpoint, flow.verdict] += flow.verdict_is_new


def bpftool(*words: str) -> list[dict[str, Any]]:
    """What bpftool lists; it says nothing where there is nothing."""
    listed: list[dict[str, Any]] = json.loads(run(["bpftool", "-j", *words]).strip() or "[]")
    return listed


def memory_kib(pid: int, what: str = "VmRSS") -> int:
    """A figure of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def programs_left(ids: Sequence[int]) -> list[int]:
    """Which of these programs the kernel still has."""
    there = {program["id"] for program in bpftool("prog")}
    return [number for number in ids if number in there]


def wait_until_gone(place: Place, ids: Sequence[int]) -> None:
    """Wait until nothing of a probe is left: the kernel removes it a moment after the process."""
    wait_for(
        lambda: not {*place.linked(), *place.attached()} & set(ids) and not programs_left(ids),
        "the probe's programs and links are gone",
    )


def _end(process: Process) -> None:
    process.signal(signal.SIGCONT)
    process.kill()
