"""A client that fetches a blob as containerd does with ``concurrent_layer_fetch_buffer``, in every detail.

Twin of ``open`` in containerd's core/remotes/docker/fetcher.go and of ``Read`` in httpreadseeker.go (2.1 to
2.3): several workers request ``bytes=K-``, each reads its chunk and closes. A reader puts the chunks in
order. The first error of any chunk cancels the others. If the reader meets an unexpected end of a body it
opens the blob again where it is, at the first host that has it. It forgives nothing else.
"""

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .agents import SERVICE, service_proof
from .wire import request_bytes

_RETRIES_MAX = 3  # openings without a byte in between
_USER_AGENT = "containerd/2.1.9"


class _UnexpectedEnd(Exception):
    """The body ended before its Content-Length: io.ErrUnexpectedEOF."""


class PullFailed(Exception):
    """What containerd reports as the pull's error."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and the status that it got. ``status`` 0: no head came."""

    host: tuple[str, int]
    first: int | None
    status: int


@dataclass
class ChunkedClient:
    """Fetches one blob. ``hosts``: the mirror, then the registry. ``header_s``: 30 in containerd 2.3.

    ``body``: what it has already, to be resumed.
    """

    hosts: Sequence[tuple[str, int]]
    path: str
    size_bytes: int
    chunk_bytes: int
    at_once: int
    header_s: float = 30.0
    silent_s: float = 60.0
    asked: list[Asked] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    on_progress: "threading.Event" = field(default_factory=threading.Event)
    progress_bytes: int = 1  # sets ``on_progress`` once it has so many bytes in order

    def pull(self) -> bytes:
        """The whole blob. Raises `PullFailed`."""
        without_progress = 0
        while len(self.body) < self.size_bytes:
            before = len(self.body)
            try:
                self._read(self._open(before))
            except _UnexpectedEnd:
                without_progress = 0 if len(self.body) > before else without_progress + 1
                if without_progress > _RETRIES_MAX:
                    raise PullFailed("too many openings without a byte") from None
        return bytes(self.body)

    def statuses(self, host: tuple[str, int]) -> list[int]:
        """The statuses of the answers of one host, in the order of the requests."""
        return [asked.status for asked in self.asked if asked.host == host]

    def _open(self, offset: int) -> "_Opening":
        errors: list[str] = []
        for host in self.hosts:
            try:
                first = _Response(self, host, offset if offset or self.at_once > 1 else None)
            except OSError as error:
                errors.append(f"{host}: {error}")
                continue
            if first.status == 200:
                return _Opening(self, host, offset, first, at_once=1)
            if first.status == 206:
                return _Opening(self, host, offset, first, at_once=self.at_once)
            errors.append(f"{host}: status {first.status}")
            first.close()
        raise PullFailed("; ".join(errors))

    def _read(self, opening: "_Opening") -> None:
        try:
            for piece in opening.pieces():
                self.body += piece
                if len(self.body) >= self.progress_bytes:
                    self.on_progress.set()
        finally:
            opening.cancel()


class _Response:
    def __init__(self, client: ChunkedClient, host: tuple[str, int], first: int | None) -> None:
        self.sock = socket.create_connection(host, timeout=client.header_s)
        self._client, self._host, self._first = client, host, first
        self.status, self.left, self._buffer = 0, 0, b""
        try:
            headers = {} if first is None else {"Range": f"bytes={first}-"}
            headers |= service_proof() if host[1] == SERVICE else {}
            self.sock.sendall(request_bytes(client.path, User_Agent=_USER_AGENT, **headers))
            self._read_head()
        except OSError:
            self.sock.close()
            raise
        finally:
            client.asked.append(Asked(host, first, self.status))
        self.sock.settimeout(client.silent_s)

    def _read_head(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            received = self.sock.recv(65536)
            if not received:
                raise ConnectionError("closed without an answer")
            head += received
        lines, _, self._buffer = head.partition(b"\r\n\r\n")
        self.status = int(lines.split()[1])
        for line in lines.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                self.left = int(value)

    def read(self, most: int) -> bytes:
        if not self.left:
            return b""
        received, self._buffer = (self._buffer, b"") if self._buffer else (self.sock.recv(1 << 16), b"")
        if not received:
            raise _UnexpectedEnd
        received, self._buffer = received[:most], received[most:] + self._buffer
        self.left -= len(received)
        return received

    def close(self) -> None:
        self.sock.close()


class _Opening:
    """The chunks from ``offset`` on, fetched by workers; `pieces` has them in order."""

    def __init__(
        self, client: ChunkedClient, host: tuple[str, int], offset: int, first: _Response, *, at_once: int
    ) -> None:
        self._client, self._host, self._offset, self._first = client, host, offset, first
        self._change = threading.Condition()
        self._cancelled = False
        self._open: set[_Response] = {first}
        length = client.size_bytes - offset
        chunk = client.chunk_bytes if at_once > 1 and first.left > client.chunk_bytes else length
        self._chunk = chunk
        count = -(-length // chunk)
        self._queue = deque(range(count))
        self._data: list[deque[bytes]] = [deque() for _ in range(count)]
        self._ends: list[Exception | None] = [None] * count
        self._done = [False] * count
        self._workers = [threading.Thread(target=self._work) for _ in range(min(at_once, count))]
        for worker in self._workers:
            worker.start()

    def pieces(self) -> Iterator[bytes]:
        """The bytes in order. Raises what ended the chunk that they end in."""
        for index in range(len(self._data)):
            while True:
                with self._change:
                    while not (self._data[index] or self._done[index]):
                        self._change.wait()
                    if not self._data[index]:
                        break
                    piece = self._data[index].popleft()
                yield piece
            error = self._ends[index]
            if isinstance(error, _UnexpectedEnd):
                raise error
            if error is not None:
                raise PullFailed(f"chunk at {self._offset + index * self._chunk}: {error!r}")

    def cancel(self) -> None:
        with self._change:
            self._cancelled = True
            for response in self._open:
                _end(response.sock)
        for worker in self._workers:
            worker.join()

    def _work(self) -> None:
        while True:
            with self._change:
                if self._cancelled or not self._queue:
                    return
                index = self._queue.popleft()
            error: Exception | None = None
            try:
                self._fetch(index)
            except Exception as raised:  # noqa: BLE001 - any error is what the reader meets
                error = raised
            with self._change:
                if self._cancelled and error is not None:
                    error = ConnectionError("cancelled")
                self._ends[index], self._done[index] = error, True
                self._change.notify_all()
                if error is not None and not self._cancelled:
                    self._cancelled = True
                    for response in self._open:
                        _end(response.sock)

    def _fetch(self, index: int) -> None:
        at = self._offset + index * self._chunk
        response = self._first if index == 0 else _Response(self._client, self._host, at)
        with self._change:
            self._open.add(response)
        try:
            if response.status not in (200, 206):
                raise PullFailed(f"status {response.status}")
            left = min(self._chunk, self._client.size_bytes - at)
            while left:
                piece = response.read(left)
                left -= len(piece)
                with self._change:
                    self._data[index].append(piece)
                    self._change.notify_all()
        finally:
            with self._change:
                self._open.discard(response)
            response.close()


def _end(sock: socket.socket) -> None:
    """Wake whoever reads from it."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
