"""One attacker, a process of its own: ``python -m benchmarks.floods.attacker JSON``.

It floods one listener as fast as one core can, from one source address, until it is ended. It opens a
connection that was closed again. What it did is printed at the end.
"""

import json
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from benchmarks.floods.kinds import FLOODS, Flood, Head

_OPENED_AT_ONCE = 64
_READ_BYTES = 1 << 16
_CLOSED_PAUSE_S = 0.001


@dataclass(slots=True, kw_only=True)
class _Connection:
    """``left``: what is still to be sent."""

    sock: socket.socket
    left: memoryview
    wakes_s: float = 0.0


class Attacker:
    """Floods ``address``. ``source``: where from."""

    def __init__(self, flood: Flood, address: tuple[str, int], source: str, head: Head) -> None:
        self._flood, self._address, self._source = flood, address, source
        self._head = head
        self._then = memoryview(flood.then(head))
        self._open: dict[int, _Connection] = {}
        self._poll = select.epoll()
        self.connects = self.closed = self.sent_bytes = 0

    def run(self, until: Callable[[], bool]) -> None:
        """Flood."""
        while not until():
            for _ in range(min(_OPENED_AT_ONCE, self._flood.connections - len(self._open))):
                self._connect()
            for number, events in self._poll.poll(0.05, 256):
                self._serve(number, events)
            if self._flood.every_s:
                self._wake()

    def _connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if not self._flood.reads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            sock.bind((self._source, 0))
            sock.connect(self._address)
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            time.sleep(_CLOSED_PAUSE_S)
            return
        self.connects += 1
        first = memoryview(self._flood.first(self._head))
        self._open[sock.fileno()] = _Connection(sock=sock, left=first)
        self._poll.register(sock.fileno(), select.EPOLLOUT | select.EPOLLIN)

    def _serve(self, number: int, events: int) -> None:
        connection = self._open[number]
        try:
            if events & select.EPOLLIN and self._flood.reads and not connection.sock.recv(_READ_BYTES):
                return self._close(number)
            if events & (select.EPOLLHUP | select.EPOLLERR):
                return self._close(number)
            if events & select.EPOLLOUT:
                self._send(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._close(number)

    def _send(self, connection: _Connection) -> None:
        number = connection.sock.fileno()
        if not connection.left:
            if not self._flood.lasts:
                return self._close(number)
            now_s = time.monotonic()
            if not self._then or now_s < connection.wakes_s:
                wanted = select.EPOLLIN if self._flood.reads else 0
                self._poll.modify(number, wanted)
                return None
            connection.left, connection.wakes_s = self._then, now_s + self._flood.every_s
        sent = connection.sock.send(connection.left)
        self.sent_bytes += sent
        connection.left = connection.left[sent:]
        return None

    def _wake(self) -> None:
        now_s = time.monotonic()
        for number, connection in self._open.items():
            if connection.wakes_s <= now_s:
                self._poll.modify(number, select.EPOLLIN | select.EPOLLOUT)

    def _close(self, number: int) -> None:
        self._poll.unregister(number)
        self._open.pop(number).sock.close()
        self.closed += 1


def main() -> None:
    """Flood until SIGTERM."""
    told = json.loads(sys.argv[1])
    flood = next(each for each in FLOODS if each.name == told["flood"])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ended = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    attacker = Attacker(flood, (told["address"], told["port"]), told["source"], _head_of(told))
    attacker.run(lambda: ended)
    print(
        json.dumps(
            {"connects": attacker.connects, "closed": attacker.closed, "sent_bytes": attacker.sent_bytes}
        )
    )


def _head_of(told: dict[str, str]) -> Head:
    def head(method: str, path: str, fields: dict[str, str]) -> bytes:
        path = told["large"] if path == "LARGE" else path
        who = {"User-Agent": "shorthaul"} if told["member"] else {"User-Agent": "curl/8"}
        lines = [f"{name}: {value}" for name, value in {"Host": told["address"], **who, **fields}.items()]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()

    return head


if __name__ == "__main__":
    main()
