"""A server and the simulated agents of a cluster around it."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import valkey

from benchmarks.index.crew import Crew, Plan
from benchmarks.index.gauge import Gauge
from benchmarks.index.inventory import Inventory
from benchmarks.index.sampling import Sample
from benchmarks.lab.valkey import ValkeyServer

_LOOK_S = 0.5
_KNOWN = 0.99
_PATIENT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A cluster. ``askers``: how many of its agents look up, in a process of their own."""

    nodes: int
    blobs: int
    digests: int
    askers: int


class Stage:
    """One server and all agents of a cluster. Use `staged`."""

    def __init__(self, size: Size, server: ValkeyServer, crew: Crew, client: valkey.Valkey) -> None:
        self.size = size
        self.server = server
        self.crew = crew
        self._client = client
        inventory = Inventory(digests=size.digests, blobs=size.blobs)
        self._sample = Sample.drawn(size.nodes, inventory.of, prefix="shorthaul")

    def gauge(self) -> Gauge:
        """What the server does while a ``with`` lasts."""
        return Gauge(self.server.port, lambda: self.server.pid)

    def known(self) -> float:
        """The share of what the agents have that the server knows, 0 to 1."""
        numbers: dict[int, int | None] = {}
        for answer in self.crew.do("numbers", nodes=self._sample.nodes):
            numbers |= {int(node): number for node, number in answer.items()}
        return self._sample.known(self._client, numbers)

    def wait_until_known(self, *, at_most_s: float) -> float:
        """Wait until the server knows 99 %. Returns the seconds that it took, or ``at_most_s``."""
        begin_s = time.monotonic()
        while time.monotonic() - begin_s < at_most_s:
            if self.known() >= _KNOWN:
                return time.monotonic() - begin_s
            time.sleep(_LOOK_S)
        return at_most_s


@contextmanager
def running(server: ValkeyServer) -> Iterator[ValkeyServer]:
    """A context that ends the server."""
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def staged(size: Size) -> Iterator[Stage]:
    """A server and a crew: the first process has the askers. No agent has started yet."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(running(ValkeyServer(Path(folder))))
        client = stack.enter_context(valkey.Valkey(host=server.address, port=server.port, socket_timeout=10))
        half = (size.nodes - size.askers) // 2
        # Thousands of agents on one loop are slow themselves, and must not blame the server for that.
        spans = (
            (0, size.askers, 0.15),
            (size.askers, half, _PATIENT_S),
            (size.askers + half, size.nodes - size.askers - half, _PATIENT_S),
        )
        crew = stack.enter_context(
            Crew(
                [
                    Plan(
                        url=server.url(),
                        nodes=size.nodes,
                        first=first,
                        count=count,
                        blobs=size.blobs,
                        digests=size.digests,
                        timeout_s=timeout_s,
                    )
                    for first, count, timeout_s in spans
                ]
            )
        )
        yield Stage(size, server, crew, client)
