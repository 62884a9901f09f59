"""Three ways to replace the process behind a listening socket, and what each costs its clients.

Clients connect and wait in the queue, which nobody empties, while the process is replaced. So every loss
shows, and none depends on the machine's speed.
"""

import socket
from collections import Counter
from collections.abc import Callable

from benchmarks.reporting.recorder import Recorder

_BACKLOG = 1024
_CLIENTS = 100  # at each of three moments: before the newer process, beside the older one, and after it


class Clients:
    """Clients of one address, and what became of them."""

    def __init__(self) -> None:
        self._waiting: list[socket.socket] = []
        self.results: Counter[str] = Counter()

    def come(self, address: tuple[str, int]) -> None:
        """Some more connect."""
        for _ in range(_CLIENTS):
            client = socket.socket()
            client.settimeout(10)
            try:
                client.connect(address)
                self._waiting.append(client)
            except ConnectionRefusedError:
                self.results["refused"] += 1
                client.close()

    def serve(self, listener: socket.socket) -> None:
        """Answer all that wait, and see which of them get the answer."""
        listener.setblocking(False)
        while True:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                break
            with connection:
                connection.sendall(b".")
        for client in self._waiting:
            with client:
                try:
                    self.results["served" if client.recv(1) else "closed"] += 1
                except ConnectionResetError:
                    self.results["reset"] += 1


def _listening(address: tuple[str, int], *, shared: bool = False) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(address)
    listener.listen(_BACKLOG)
    return listener


def rebind(clients: Clients) -> None:
    """The older one closes, and the newer one binds: one pod after the other."""
    older = _listening(("127.0.0.1", 0))
    address = older.getsockname()
    clients.come(address)
    older.close()
    clients.come(address)
    with _listening(address) as newer:
        clients.come(address)
        clients.serve(newer)


def reuse_port(clients: Clients) -> None:
    """Both bind with SO_REUSEPORT, and the older one closes."""
    older = _listening(("127.0.0.1", 0), shared=True)
    address = older.getsockname()
    clients.come(address)
    with _listening(address, shared=True) as newer:
        clients.come(address)
        older.close()
        clients.come(address)
        clients.serve(newer)


def hand_over(clients: Clients) -> None:
    """The newer one gets the very socket (SCM_RIGHTS), and the older one lets go of it."""
    older = _listening(("127.0.0.1", 0))
    address = older.getsockname()
    clients.come(address)
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        socket.send_fds(one, [b"."], [older.fileno()])
        _, (descriptor,), _, _ = socket.recv_fds(other, 1, 1)
    with socket.socket(fileno=descriptor) as newer:
        clients.come(address)
        older.close()
        clients.come(address)
        clients.serve(newer)


WAYS: dict[str, Callable[[Clients], None]] = {
    "close, then bind": rebind,
    "SO_REUSEPORT": reuse_port,
    "hand the socket over": hand_over,
}


def outcomes(way: Callable[[Clients], None]) -> Counter[str]:
    """What became of the clients of a listener that is replaced this way."""
    clients = Clients()
    way(clients)
    return clients.results


def report_contenders(report: Recorder) -> None:
    """Report how many of 300 clients are lost by each way."""
    report.begin(f"{3 * _CLIENTS} clients wait to be accepted while the process is replaced")
    for name, way in WAYS.items():
        results = outcomes(way)
        target = 0 if way is hand_over else None
        for result in ("refused", "reset"):
            report.single(f"{name}: {result}", "", results[result], target)
