"""The agent that is measured, and what surrounds it: its content, its list of members, all other agents."""

import hashlib
import http.client
import json
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import yaml

from agent.keyring import new_key
from agent.oci.digest import parse_digest
from benchmarks.footprint.filled import fill
from benchmarks.footprint.members import PEER_PORT, Member, peers_file
from benchmarks.lab.apiserver import NODES, Pod, ThreadedApiServer, node_object
from benchmarks.lab.folders import make_folder
from benchmarks.lab.process import Process, die_with_parent
from benchmarks.lab.valkey import ValkeyServer

_MIB = 1 << 20
_HOST = "127.60.0.1"
_HOSTPORT, _PEER, _NODEPORT, _ADMIN = 30020, 30023, 30021, 9090
_LAYERS = 8
_IMAGE_TYPE = "application/vnd.oci.image.manifest.v1+json"
HELD = "sha256:" + "ab" * 32
OWN = "own-node.eu-west-0.compute.internal"


def _put(blobs: Path, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def make_layout(layout: Path, blobs: int) -> None:
    """An OCI image layout with so many blobs: images of eight layers, each with a name."""
    folder = layout / "blobs/sha256"
    folder.mkdir(parents=True)
    manifests = []
    for number in range(blobs // (_LAYERS + 2)):
        layers = [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                **_put(folder, secrets.token_bytes(512)),
            }
            for _ in range(_LAYERS)
        ]
        config = _put(folder, json.dumps({"os": "linux", "number": number}).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": _IMAGE_TYPE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
            "layers": layers,
        }
        name = f"registry.example/team/app-{number}:v1"
        manifests.append(
            {
                "mediaType": _IMAGE_TYPE,
                **_put(folder, json.dumps(manifest).encode()),
                "annotations": {"io.containerd.image.name": name},
            }
        )
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))


class Crowd:
    """All other agents: a process of `benchmarks.footprint.crowd`, which is told what to do line by line."""

    def __init__(self, members: Sequence[Member], key: Path, log: Path) -> None:
        told = {
            "members": [(member.name, member.address, member.region, member.zone) for member in members],
            "port": PEER_PORT,
            "key": str(key),
            "agent": {"name": OWN, "address": _HOST, "port": _PEER},
        }
        with log.open("wb") as errors:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.footprint.crowd"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=die_with_parent,
            )
        self._say(told)

    def do(self, what: str, **more: object) -> dict[str, Any]:
        """Do this. Returns what came of it."""
        return self._say({"do": what, **more})

    def _say(self, told: dict[str, Any]) -> dict[str, Any]:
        tell, answers = self._child.stdin, self._child.stdout
        assert tell is not None, "it has pipes"
        assert answers is not None, "it has pipes"
        tell.write(json.dumps(told) + "\n")
        tell.flush()
        answer: dict[str, Any] = json.loads(answers.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        self._child.kill()
        self._child.communicate()


@dataclass(slots=True, kw_only=True)
class Stage:
    """The agent, and how its list of members is changed.

    ``ready_s``, ``first_s``: from the start of its process until it was ready, and until its first look-up
    was answered. ``list_members``: has it list these members from now on.
    """

    agent: Process
    crowd: Crowd
    members: list[Member]
    list_members: Callable[[Sequence[Member]], None]
    config: Path
    ready_s: float = 0.0
    first_s: float = 0.0
    started_s: float = field(default_factory=time.monotonic)

    @property
    def url(self) -> str:
        """Where its admin port is."""
        return f"http://{_HOST}:{_ADMIN}"

    @property
    def rss_mib(self) -> float:
        """The agent's resident set."""
        return float(psutil.Process(self.agent.pid).memory_info().rss) / _MIB

    @property
    def peak_mib(self) -> float:
        """The largest that it ever was."""
        lines = Path(f"/proc/{self.agent.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

    @property
    def cpu_s(self) -> float:
        """The agent's CPU time so far."""
        times = psutil.Process(self.agent.pid).cpu_times()
        return float(times.user + times.system)

    def get(self, path: str, *, timeout_s: float = 60.0) -> tuple[int, bytes]:
        """A page of the admin port: its status (0: nothing answers) and its body."""
        return _get(_ADMIN, path, timeout_s)

    @contextmanager
    def looked_at(self, count: int) -> Iterator[Callable[[], int]]:
        """So many pages are open at the admin port. Yields how many bytes they were sent so far."""
        pages = [socket.create_connection((_HOST, _ADMIN)) for _ in range(count)]
        read_bytes = [0] * count

        def read(number: int) -> None:
            with suppress(OSError):
                while part := pages[number].recv(1 << 16):
                    read_bytes[number] += len(part)

        readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(count)]
        for page, reader in zip(pages, readers, strict=True):
            page.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            reader.start()
        try:
            yield lambda: sum(read_bytes)
        finally:
            for page, reader in zip(pages, readers, strict=True):
                page.shutdown(socket.SHUT_RDWR)
                reader.join()
                page.close()

    def pull(self, digest: str) -> int:
        """The status with which the agent answers its containerd that asks for this."""
        return _get(_HOSTPORT, f"/v2/team/app/blobs/{digest}?ns=registry.example", 60.0)[0]

    @property
    def came(self) -> int:
        """How many members came since the first list, by the agent's log."""
        return sum(map(int, re.findall(r'"came": (\d+)', self.agent.log.read_text())))

    def knows(self, number: int) -> bool:
        """Whether the agent has used a list of so many members."""
        _, text = self.get("/readyz?verbose")
        return f"the membership: {number} peers" in text.decode()

    def until(self, condition: Callable[[], bool], what: str, at_most_s: float = 60.0) -> float:
        """Wait for a condition. Returns the seconds that it took."""
        began_s = time.monotonic()
        self.agent.wait_until(condition, what, at_most_s=at_most_s)
        return time.monotonic() - began_s


def _get(port: int, path: str, timeout_s: float) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(_HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


class Lateness:
    """How long ``/livez`` takes at most while something happens: it waits for whatever has the loop."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.worst_ms = 0.0

    def __enter__(self) -> "Lateness":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(_HOST, _ADMIN, timeout=60)
        while not self._ended.is_set():
            began_s = time.perf_counter()
            connection.request("GET", "/livez")
            connection.getresponse().read()
            self.worst_ms = max(self.worst_ms, (time.perf_counter() - began_s) * 1000)
            time.sleep(0.002)
        connection.close()


class _Slices:
    """The members in the API server's EndpointSlices."""

    def __init__(self, api: ThreadedApiServer, own: Member) -> None:
        self._api = api
        self._own = own
        self._listed: list[Pod] = []

    def put(self, members: Sequence[Member]) -> None:
        """List these members. Those who are listed no more are said to stop before, as in a scale-down."""
        before, self._listed = self._listed, [member.pod() for member in (self._own, *members)]
        names = {pod.node for pod in self._listed}
        stopping = [replace(pod, ready=False, terminating=True) for pod in before if pod.node not in names]
        for pods in ([*self._listed, *stopping], self._listed) if stopping else (self._listed,):
            self._api.do(lambda server, pods=pods: server.put_slices(pods, port=PEER_PORT))  # type: ignore[misc]


@contextmanager
def raised(
    members: Sequence[Member],
    *,
    everybody: Sequence[Member],
    blobs: int,
    kubernetes: bool,
    held: str = HELD,
    by_server: bool = False,
    more: Mapping[str, object] | None = None,
) -> Iterator[Stage]:
    """The agent with these members and blobs, as it starts. ``everybody``: who ever will be a member.

    ``held``: a digest that all of them have. ``by_server``: its index is in a server. ``more``: further
    settings.
    """
    folder = make_folder("shlab", "footprint-")
    key = folder / "cluster.key"
    key.touch(0o600)
    key.write_text(new_key())
    make_layout(folder / "layout", blobs)
    crowd = Crowd(everybody, key, folder / "crowd.log")
    crowd.do("hold", digest=held)
    agent: Process | None = None
    server = ValkeyServer(folder / "valkey") if by_server else None
    if server is not None:
        fill(server, members, parse_digest(held))
    api = ThreadedApiServer()
    with api:
        try:
            own = Member(name=OWN, address=_HOST, region="eu-west-0", zone="eu-west-0a", rack="r0")

            def in_file(now: Sequence[Member]) -> None:
                text = peers_file(now) + f"- {json.dumps({**own.entry(), 'port': _PEER})}\n"
                new = folder / "peers.new"
                new.write_text(text)
                new.rename(folder / "peers.yaml")

            list_members = _Slices(api, own).put if kubernetes else in_file
            list_members(members)
            api.do(
                lambda server: server.put(NODES, node_object(OWN, {"topology.kubernetes.io/zone": own.zone}))
            )
            membership = (
                {"kubernetes": {"api": api.url}} if kubernetes else {"static": str(folder / "peers.yaml")}
            )
            config = folder / "agent.yaml"
            settings: dict[str, Any] = {
                "node": {"name": OWN, "address": _HOST},
                "placement": {"region": own.region, "zone": own.zone, "rack": own.rack},
                "listen": {
                    "hostport": f"{_HOST}:{_HOSTPORT}",
                    "peer": f"{_HOST}:{_PEER}",
                    "nodeport": f"{_HOST}:{_NODEPORT}",
                    "admin": f"{_HOST}:{_ADMIN}",
                },
                "store": f"oci-layout://{folder / 'layout'}",
                "membership": membership,
                "peering": {"key": str(key)},
                "index": "scatter" if server is None else server.url(),
                **(more or {}),
            }
            config.write_text(yaml.safe_dump(settings))
            shorthaul = str(Path(sys.executable).parent / "shorthaul")
            began_s = time.monotonic()
            agent = Process(
                [shorthaul, "agent", "--config", str(config), "--log-format", "json"],
                log=folder / "agent.log",
            )
            stage = Stage(
                agent=agent, crowd=crowd, members=[*members], list_members=list_members, config=config
            )
            agent.wait_until(lambda: stage.get("/readyz")[0] == 200, "the agent")
            stage.ready_s = time.monotonic() - began_s
            stage.pull(f"sha256:{secrets.token_hex(32)}")
            stage.first_s = time.monotonic() - began_s
            yield stage
        finally:
            crowd.close()
            if agent is not None:
                agent.kill()
            if server is not None:
                server.stop()
            shutil.rmtree(folder, ignore_errors=True)
