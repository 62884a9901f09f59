"""A way from here to a port inside a namespace, as ``kubectl port-forward`` makes one to a pod."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Self

from benchmarks.lab.network import inside

_AT_ONCE_BYTES = 1 << 16
_CONNECT_S = 10.0


class Forward:
    """Passes on each connection to ``address:port`` of a namespace. Use as a context manager.

    ``here``: the loopback address to listen at.
    """

    def __init__(
        self, netns: str | None, port: int, *, address: str = "127.0.0.1", here: str = "127.0.0.1"
    ) -> None:
        self._netns, self._there = netns, (address, port)
        self._listener = socket.create_server((here, 0), backlog=128)
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="forward", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._listener)
        self._thread.join()
        with self._lock:
            ends = [*self._ends]
        for each in ends:
            _end(each)

    @property
    def url(self) -> str:
        """The way in."""
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}/"

    def _accept(self) -> None:
        with self._listener:
            while True:
                try:
                    client, _ = self._listener.accept()
                except OSError:
                    return  # it is over
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client:
            try:
                server = inside(self._netns, lambda: socket.create_connection(self._there, _CONNECT_S))
            except OSError:
                return  # nobody listens there: the client's connection ends, as with a pod that is gone
            server.settimeout(None)
            with server, self._known(client, server):
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()

    @contextlib.contextmanager
    def _known(self, *ends: socket.socket) -> Iterator[None]:
        with self._lock:
            self._ends.update(ends)
        try:
            yield
        finally:
            with self._lock:
                self._ends.difference_update(ends)


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Until one of them ends; then both do."""
    with contextlib.suppress(OSError):
        while data := source.recv(_AT_ONCE_BYTES):
            target.sendall(data)
    _end(source)
    _end(target)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
