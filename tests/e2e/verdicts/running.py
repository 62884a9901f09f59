"""Processes of the product in a scene, what they tell, and the ports and addresses of every scene."""

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from agent.flows.messages import Flows, Health, Hello, Message, decode
from agent.flows.table import Flow
from agent.flows.verdicts import Verdict
from benchmarks.lab.cluster import metric_total
from benchmarks.lab.conntrack import Flow as Way
from benchmarks.lab.conntrack import Translation
from benchmarks.lab.network import inside
from benchmarks.lab.process import Process

HOST_PORT, NODE_PORT, AGENT_PORT, ADMIN_PORT = 30020, 30021, 30022, 9090
VIP, VIP6, VIP_PORT = "10.96.0.30", "fd00:10:96::30", 30080
DIRECT_URL = f"127.0.0.1:{HOST_PORT}"


def until(condition: Callable[[], Any], what: str, at_most_s: float = 60.0) -> Any:
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
        self.ended = False  # the probe ended, or cut this reader off
        self._changed = threading.Condition()
        self._socket: socket.socket | None = None
        if path is not None:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(str(path))
            except OSError:
                self._socket.close()
                raise
            self._thread = threading.Thread(target=self._read, name=f"tail of {path}", daemon=True)
            self._thread.start()

    def take(self, message: Message) -> None:
        """A sink for a probe in this process."""
        with self._changed:
            if isinstance(message, Hello):
                self.hello = message
            elif isinstance(message, Health):
                self.health = message
            elif isinstance(message, Flows):
                self._take_flows(message)
            self._changed.notify_all()

    def _take_flows(self, message: Flows) -> None:
        for flow in message.flows:
            before = self.known.get(flow.cookie)
            if before is None or before.verdict is not flow.verdict:
                self.told[flow.endpoint.value, flow.verdict.value] += 1
            self.known[flow.cookie] = flow
            self.history.append(flow)

    def wait(self, condition: Callable[[], Any], what: str, at_most_s: float = 60.0) -> Any:
        """Wait until something is told; what the condition gave."""
        with self._changed:
            found = self._changed.wait_for(condition, at_most_s)
            last = "\n".join(shown(flow) for flow in list(self.known.values())[-8:])
            so_far = f"{len(self.known)} flows told, ended {self.ended} {self.error or ''}, {self.health}"
            assert found, f"not within {at_most_s} s: {what}; {so_far}; told last:\n{last}"
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
            self.ended = True


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
        self.service = str(settings["listen"]["nodeport"])
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
        connection = http.client.HTTPConnection(host, port, timeout=60)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    return inside(netns, ask)
