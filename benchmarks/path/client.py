"""Requests at a fixed rate, a process of its own: ``python -m benchmarks.path.client``.

Each request has its time, fixed in advance, and its latency counts from then: a request that has to wait for
a slow one before it counts as slow too (no coordinated omission). It reads a line of JSON (see `Ask`), and
answers with one (see `Told`).
"""

import ctypes
import gc
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

from benchmarks.reporting.histogram import new_histogram, record, to_text

_PR_SET_TIMERSLACK = 29
_LATE_S = 0.001
_TIMEOUT_S = 10.0
_BUFFER_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """``fresh``: a connection for each request. Otherwise one for all."""

    host: str
    port: int
    path: str
    rate: float
    seconds: float
    fresh: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of it. ``histogram``: until each answer's last byte. ``connecting``: how long connect() took.

    ``late``: requests that began a millisecond late or more, because this process was not done with the one
    before, or did not run. ``failed``: why, and how often.
    """

    histogram: str
    connecting: str
    count: int
    late: int
    failed: dict[str, int]


def offer(ask: Ask, *, clock: Callable[[], float] = time.perf_counter) -> Told:
    """Ask at this rate, and wait for each answer's last byte."""
    histogram, failed, late = new_histogram(), Counter[str](), 0
    number = max(1, round(ask.rate * ask.seconds))
    connection = _Connection(ask, clock)
    began_s = clock() + 0.01
    for each in range(number):
        due_s = began_s + each / ask.rate
        while (left_s := due_s - clock()) > 0:
            time.sleep(left_s)
        late += clock() - due_s > _LATE_S
        try:
            connection.get()
        except (OSError, ValueError) as error:
            failed[str(error) or type(error).__name__] += 1
            connection.close()
            continue
        record(histogram, clock() - due_s)
    connection.close()
    return Told(
        histogram=to_text(histogram),
        connecting=to_text(connection.connecting),
        count=int(histogram.get_total_count()),
        late=late,
        failed=dict(failed.most_common(8)),
    )


def connect(host: str, port: int) -> socket.socket:
    """A connection as this client makes them. Raises OSError."""
    connection = socket.create_connection((host, port), timeout=_TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class _Connection:
    """The client's connection, made anew for each request if that is asked for."""

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        self._target = (ask.host, ask.port)
        self._fresh = ask.fresh
        end = "Connection: close\r\n" if ask.fresh else ""
        head = f"GET {ask.path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: containerd/2.1\r\n{end}\r\n"
        self._request = head.encode()
        self._buffer = bytearray(_BUFFER_BYTES)
        self._socket: socket.socket | None = None
        self._clock = clock
        self.connecting = new_histogram()

    def get(self) -> None:
        """One request and its whole answer. Raises OSError, or ValueError of an answer that is no content."""
        if self._socket is None:
            began_s = self._clock()
            self._socket = connect(*self._target)
            record(self.connecting, self._clock() - began_s)
        self._socket.sendall(self._request)
        self._read(self._socket)
        if self._fresh:
            self.close()

    def close(self) -> None:
        """Close it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            piece = connection.recv(65536)
            if not piece:
                raise ValueError("the connection was closed before an answer")
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        if int(head[9:12]) != 200:
            raise ValueError(f"status {int(head[9:12])}")
        lengths = [
            int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        ]
        left = lengths[0] - len(body)
        while left > 0:
            read = connection.recv_into(self._buffer, min(left, len(self._buffer)))
            if not read:
                raise ValueError("the connection was closed before the end")
            left -= read


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
