"""Clients of the HostPorts while agents are upgraded: requests, pulls, and a look at the proof."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from benchmarks.lab.cluster import ADMIN_PORT, LOCAL_PORT, Node, metric_total
from benchmarks.lab.network import inside
from benchmarks.lab.process import LabError

GOOD = "good"
_REQUEST_S = 30.0


class Load:
    """Work that runs in threads, each in its node's namespace. ``results``: how each kind of work ended."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.results: dict[str, Counter[str]] = {}
        self.seconds: dict[str, list[float]] = {}

    def add(self, what: str, node: Node, work: Callable[[], str], *, every_s: float) -> None:
        """Do this again and again in the node's namespace. ``work`` returns `GOOD`, or what went wrong."""
        self.results.setdefault(what, Counter())
        self.seconds.setdefault(what, [])

        def loop() -> None:
            next_s = time.monotonic()
            while not self._stop.wait(max(0.0, next_s - time.monotonic())):
                next_s = max(next_s + every_s, time.monotonic() - every_s)
                began_s = time.monotonic()
                result = work()
                with self._lock:
                    self.results[what][result] += 1
                    self.seconds[what].append(time.monotonic() - began_s)

        thread = threading.Thread(target=inside, args=(node.netns, loop), name=f"{what} at {node.name}")
        self._threads.append(thread)

    @contextmanager
    def running(self) -> Iterator[None]:
        """A context during which all of it runs."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def failed(self, what: str) -> dict[str, int]:
        """What went wrong, and how often."""
        return {result: number for result, number in self.results[what].items() if result != GOOD}


def fetch(node: Node, paths: Sequence[str], *, expect: int = 200) -> str:
    """GET these one after another over a new connection, as a client does that keeps it alive."""
    connection = http.client.HTTPConnection(node.loopback, LOCAL_PORT, timeout=_REQUEST_S)
    try:
        for path in paths:
            connection.request("GET", path)
            reply = connection.getresponse()
            reply.read()
            if reply.status != expect:
                return f"status {reply.status}"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()
    return GOOD


def proof(node: Node) -> str:
    """Whether the agent that has the admin port says that the path is proved."""
    connection = http.client.HTTPConnection(node.loopback, ADMIN_PORT, timeout=_REQUEST_S)
    try:
        connection.request("GET", "/metrics")
        exposed = connection.getresponse().read()
        if metric_total(exposed, "shorthaul_local_path_proved", {}) == 1:
            return GOOD
        connection.request("GET", "/api/flows?limit=1")
        return f"not proved: {connection.getresponse().read()[:200]!r}"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def pull(node: Node, reference: str) -> str:
    """Pull an image with the node's containerd, and remove it again."""
    assert node.containerd is not None
    try:
        node.containerd.pull(reference)
        node.containerd.remove(reference)
    except LabError as error:
        return str(error)[:300]
    return GOOD
