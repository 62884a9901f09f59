"""The client, a process of its own in the node's namespace and cgroup: ``python -m benchmarks.path.client``.

It reads a line of JSON (see `Ask`), asks in an open loop, and answers with a line (see `Told`).
"""

import ctypes
import gc
import json
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from benchmarks.latency.openloop import Ask as Request
from benchmarks.latency.openloop import Server, run_open_loop
from benchmarks.latency.schedule import starts
from benchmarks.reporting.histogram import new_histogram, record, to_text

_PR_SET_TIMERSLACK = 29
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """``rate``: requests a second. ``fresh``: a connection for each, and so many bare ones before."""

    host: str
    port: int
    path: str
    rate: float
    seconds: float
    fresh: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of it. ``whole``: from each request's time, fixed in advance, until its answer's last byte.

    ``connecting``: how long connect() took. ``connections``: how many there were. ``late``: how many requests
    this client began a millisecond late or more, because it did not run in time. ``failed``: why, how often.
    """

    whole: str
    connecting: str
    answered: int
    connections: int
    late: int
    failed: dict[str, int]


def offer(ask: Ask, *, clock: Callable[[], float] = time.perf_counter) -> Told:
    """Connect again and again, then ask at this rate. What can't connect counts as failed."""
    connecting, unconnected = new_histogram(), ""
    for _ in range(round(ask.rate * ask.seconds / 2) if ask.fresh else 0):
        began_s = clock()
        try:
            connect(ask.host, ask.port).close()
        except OSError as error:
            unconnected = error.strerror or str(error)
            break
        record(connecting, clock() - began_s)
        time.sleep(1 / ask.rate)
    due = starts(ask.rate, ask.seconds)
    outcome = run_open_loop(
        Server(host=ask.host, port=ask.port), [Request(target=ask.path)] * len(due), due, warm=not ask.fresh
    )
    failed = {**outcome.failed, **({f"connect(): {unconnected}": 1} if unconnected else {})}
    return Told(
        whole=to_text(outcome.whole),
        connecting=to_text(connecting),
        answered=outcome.answered,
        connections=outcome.connections + int(connecting.get_total_count()),
        late=outcome.late,
        failed=failed,
    )


def connect(host: str, port: int) -> socket.socket:
    """A connection. Raises OSError."""
    return socket.create_connection((host, port), timeout=_TIMEOUT_S)


def main() -> int:
    """Do what each line says."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # it sleeps until each request's time
    gc.disable()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(offer(Ask(**json.loads(line))))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
