"""How fast the machine itself is, before and after a benchmark: work that no change of this project changes.

A machine shared with others is now faster, now slower. A comparison that did not know that would blame the
project for its neighbours.
"""

import hashlib
import socket
import time
from collections.abc import Callable
from contextlib import closing

from benchmarks.reporting.compare import YARDSTICK
from benchmarks.reporting.format import Better, Figure, Section, Series

_REPEATS = 5
_HASHED = bytes(4 << 20)
_MESSAGE = bytes(200)


class Yardstick:
    """Times three kinds of work. Call `measure` before and after the benchmark, about half a second each."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {name: [] for name in _KINDS}

    def measure(self) -> None:
        """Time each kind five times, in turn."""
        for _ in range(_REPEATS):
            for name, work in _KINDS.items():
                began_s = time.perf_counter()
                work()
                self._values[name].append((time.perf_counter() - began_s) * 1e3)

    def section(self) -> Section:
        """What was timed so far."""
        figures = (
            Figure(what=name, unit="ms", better=Better.LOWER, series=(Series(values=tuple(values)),))
            for name, values in self._values.items()
        )
        return Section(
            name=YARDSTICK,
            question="How fast is the machine itself, and does it stay so?",
            method="Fixed work without this project, timed before the benchmark and after it.",
            figures=tuple(figures),
        )


def _compute() -> None:
    found = 0
    for each in range(300_000):
        found += each * each % 7


def _hash() -> None:
    hashlib.sha256(_HASHED).digest()


def _exchange() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
        closing(server.accept()[0]) as other,
    ):
        for _ in range(1000):
            one.sendall(_MESSAGE)
            other.recv(4096)
            other.sendall(_MESSAGE)
            one.recv(4096)


_KINDS: dict[str, Callable[[], None]] = {
    "300,000 steps of Python": _compute,
    "SHA-256 of 4 MiB": _hash,
    "1,000 exchanges over loopback": _exchange,
}
