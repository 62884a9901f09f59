"""A peer that does not keep to the rules: it answers questions about holders, then lies, stalls or dies."""

import contextlib
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from agent.holders.wire import PATH as QUESTION_PATH
from agent.latency.wire import PATH as LATENCY_PATH
from tests.frames import accept_head, frame

from . import secured
from .agents import PEER
from .proofs import proved
from .websocket import Closed, read_frame
from .wire import reset


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that the impostor received. ``at_s``: when, on the monotonic clock."""

    method: str
    path: str
    headers: http.client.HTTPMessage
    body: bytes
    at_s: float


Behaviour = Callable[["Impostor", socket.socket, Asked], None]
"""Answers one request on a connection, which is closed when it returns."""


def response(status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> bytes:
    """A response; ``length`` is what Content-Length claims, -1 for none at all."""
    lines = [f"HTTP/1.1 {status} Whatever", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if length != -1:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def says(*parts: bytes) -> Behaviour:
    """Send these bytes and close."""

    def answer(_: "Impostor", connection: socket.socket, __: Asked) -> None:
        for part in parts:
            connection.sendall(part)

    return answer


def then_silent(*parts: bytes) -> Behaviour:
    """Send these bytes and then nothing, for as long as the test lasts."""

    def answer(impostor: "Impostor", connection: socket.socket, _: Asked) -> None:
        for part in parts:
            connection.sendall(part)
        impostor.closing.wait()

    return answer


def then_reset(*parts: bytes) -> Behaviour:
    """Send these bytes, give them time to arrive, and close with an RST."""

    def answer(impostor: "Impostor", connection: socket.socket, _: Asked) -> None:
        for part in parts:
            connection.sendall(part)
        impostor.closing.wait(0.3)
        reset(connection)

    return answer


def claims_everything(impostor: "Impostor", connection: socket.socket, asked: Asked) -> None:
    """Answer questions about holders: it has all of it."""
    _converse_as_peer(connection, asked, lambda _: True)


def claims(holds: Callable[[str], bool]) -> Behaviour:
    """Answer questions about holders: it has the digests that ``holds`` says."""

    def answer(_: "Impostor", connection: socket.socket, asked: Asked) -> None:
        _converse_as_peer(connection, asked, lambda _: True, holds)

    return answer


def claims_and_dies(impostor: "Impostor", connection: socket.socket, asked: Asked) -> None:
    """Claim everything, and answer nobody from then on."""

    def stop(_: int) -> bool:
        impostor.stop_listening()
        return False

    _converse_as_peer(connection, asked, stop)


def replies(document: str) -> Behaviour:
    """Answer each question about holders with these fields, behind the number it must have."""

    def answer(_: "Impostor", connection: socket.socket, asked: Asked) -> None:
        connection.sendall(accept_head(asked.headers["Sec-WebSocket-Key"], proved(asked.headers)))
        with contextlib.suppress(Closed):
            while True:
                number = json.loads(read_frame(connection))["number"]
                connection.sendall(frame(f'{{"number": {number}, {document}}}'.encode()))

    return answer


def sends(*messages: bytes) -> Behaviour:
    """Answer the first question about holders with these bytes, and then stay silent."""

    def answer(impostor: "Impostor", connection: socket.socket, asked: Asked) -> None:
        connection.sendall(accept_head(asked.headers["Sec-WebSocket-Key"], proved(asked.headers)))
        with contextlib.suppress(Closed):
            read_frame(connection)
            for message in messages:
                connection.sendall(message)
            impostor.closing.wait()

    return answer


def _converse_as_peer(
    connection: socket.socket,
    asked: Asked,
    before: Callable[[int], bool],
    holds: Callable[[str], bool] = lambda _: True,
) -> None:
    """Claim what is asked for; ``before`` each reply, and whether to go on behind it."""
    connection.sendall(accept_head(asked.headers["Sec-WebSocket-Key"], proved(asked.headers)))
    going_on = True
    with contextlib.suppress(Closed):
        while going_on:
            question = json.loads(read_frame(connection))
            held = [place for place, digest in enumerate(question["digests"]) if holds(digest)]
            reply = json.dumps({"number": question["number"], "held": held, "tags": []})
            going_on = before(len(held))
            connection.sendall(frame(reply.encode()))


class Impostor:
    """Listens where members expect a peer. Leaving the context closes every connection.

    ``tls``: it speaks TLS, as all agents of the test do.
    """

    def __init__(
        self,
        address: str,
        fetched: Behaviour,
        *,
        questioned: Behaviour = claims_everything,
        tls: bool = secured.EVERYWHERE,
    ) -> None:
        self._fetched, self._questioned = fetched, questioned
        self._context = secured.server_context() if tls else None
        self.fetches: list[Asked] = []
        self.questions: list[Asked] = []
        self.closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((address, PEER))
        self._listener.listen(64)
        self._acceptor = threading.Thread(target=self._accept, name="impostor")

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.stop_listening()
        self._acceptor.join()
        for connection in list(self._connections):
            _shut(connection)
        for thread in self._threads:
            thread.join()

    def stop_listening(self) -> None:
        """Refuse connections from now on."""
        _shut(self._listener)  # wakes accept
        self._listener.close()

    def vanish(self) -> None:
        """End every connection as a process does that ends, and refuse new ones."""
        self.stop_listening()
        for connection in list(self._connections):
            _shut(connection)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._converse, args=(connection,))
            self._threads.append(thread)
            self._connections.add(connection)
            thread.start()

    def _converse(self, connection: socket.socket) -> None:
        try:
            if self._context is not None:
                plain = connection
                connection = self._context.wrap_socket(plain, server_side=True)
                self._connections.add(connection)
                self._connections.discard(plain)
            with connection, connection.makefile("rb") as reader:
                asked = _read_request(reader)
                if asked is None:
                    return
                if asked.path == "/v2/":  # agents greet their nearest peers when they like
                    connection.sendall(response(200, b"{}"))
                    return
                question = asked.path == QUESTION_PATH
                if asked.path != LATENCY_PATH:  # the prober comes when it likes
                    (self.questions if question else self.fetches).append(asked)
                (self._questioned if question else self._fetched)(self, connection, asked)
                # Close as a server would: what came in is read, so that no RST follows.
        except OSError:
            pass  # the agent gave up on us, or the test is over
        finally:
            self._connections.discard(connection)


def _read_request(reader: io.BufferedReader) -> Asked | None:
    line = reader.readline().decode("latin-1").split()
    if len(line) != 3:
        return None
    headers = http.client.parse_headers(reader)
    body = reader.read(int(headers.get("Content-Length", "0")))
    return Asked(method=line[0], path=line[1], headers=headers, body=body, at_s=time.monotonic())


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # an SSLSocket's own would go on in plain text
