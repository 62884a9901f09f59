"""An agent that is played: the dashboard's real files, and answers that a test makes up.

What a real agent would say only after a day, at 5,000 nodes or when it lies, a played one says at once. Its
page is the product's, with the product's headers.
"""

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from agent.admin.dashboard.assets import asset_paths, read_asset
from agent.admin.dashboard.routes import CONTENT_SECURITY_POLICY
from tests.browser import worlds
from tests.server.agents import fresh_address

SAMPLES = Path(__file__).parent / "samples"

POLICY = CONTENT_SECURITY_POLICY
_FILES = dict(asset_paths())


def sample(name: str) -> Any:
    """A document as an agent would answer it, to be changed at will: ``samples/NAME.json``."""
    return json.loads((SAMPLES / f"{name}.json").read_text())


class PlayedAgent:
    """It listens at ``address``, a loopback address of its own, from `start` to `stop`.

    ``documents``: what ``/api/NAME`` answers, by name; absent ones get 404. ``status``: of all of them.
    ``greeting``: what a new stream is told first, as pairs of event and document.
    ``starts``: how often it was started. ``version``: of the agent.
    ``streams``: whether ``/api/events`` answers with a stream; with 503 otherwise.
    """

    def __init__(self, documents: Mapping[str, Any] | None = None) -> None:
        self.documents = dict(documents if documents is not None else _all_samples())
        self.starts = 1
        self.version = "0.1.0"
        self.greeting = self._greeting()
        self.status = 200
        self.streams = True
        self.asked: list[str] = []
        """The paths of all requests so far."""
        self.address = fresh_address()
        self._told: list[queue.SimpleQueue[bytes | None]] = []
        self._lock = threading.Lock()
        self._number = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        self._connections: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{self.address}:{self._port}/"

    @property
    def tabs(self) -> int:
        """How many streams are open now."""
        with self._lock:
            return len(self._told)

    def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = _Server((self.address, self._port), _handler(self))
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        """Listen no more, and cut all connections, as the kernel does for a process that is killed."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.drop()
        with self._lock:
            connections = [*self._connections]
        for each in connections:
            _cut(each)
        self._server = self._thread = None

    def drop(self) -> None:
        """End all streams."""
        with self._lock:
            for each in self._told:
                each.put(None)

    def begin_anew(self) -> None:
        """Be another instance, as an agent that was started again, whose streams lived on."""
        self.be_another()
        for event, document in self.greeting:
            self.say(event, document)

    def be_another(self) -> None:
        """From now on, new streams hear of another instance."""
        self.starts += 1
        self.greeting = self._greeting()

    def _greeting(self) -> list[tuple[str, Any]]:
        hello = {"node": "a1", "version": self.version, "instance": f"start {self.starts}", "interval_s": 2}
        return [("hello", hello), *self.documents.items()]

    def say(self, event: str, document: Any) -> None:
        """Tell all open streams."""
        with self._lock:
            self._number += 1
            for each in self._told:
                each.put(_frame(event, document, self._number))

    def say_raw(self, frame: bytes) -> None:
        """Tell all open streams these bytes."""
        with self._lock:
            for each in self._told:
                each.put(frame)

    def _open(self) -> "queue.SimpleQueue[bytes | None]":
        """A new stream's frames."""
        told: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        told.put(b"retry: 200\n\n")  # a test has no time for the product's two seconds
        with self._lock:
            for event, document in self.greeting:
                self._number += 1
                told.put(_frame(event, document, self._number))
            self._told.append(told)
        return told

    def _close(self, told: "queue.SimpleQueue[bytes | None]") -> None:
        with self._lock:
            self._told.remove(told)


class _Server(ThreadingHTTPServer):
    """Threads that hold up nothing when the test ends."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves in the middle is nobody's fault."""


def _handler(agent: PlayedAgent) -> type[BaseHTTPRequestHandler]:
    """The class that answers requests for this agent."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with agent._lock:
                agent._connections.add(self.connection)

        def finish(self) -> None:
            with agent._lock:
                agent._connections.discard(self.connection)
            super().finish()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
            pass

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            agent.asked.append(self.path)
            if path == "/api/events":
                self._stream()
            elif path.startswith("/api/"):
                self._document(path.removeprefix("/api/"))
            else:
                self._file(path)

        def _document(self, name: str) -> None:
            known = name in agent.documents
            status = agent.status if known else 404
            error = {
                "code": "PLAYED",
                "message": f"no {name} in this play",
                "hint": "add it to its documents",
            }
            body = json.dumps(agent.documents[name] if status == 200 else error).encode()
            self._answer(status, body, "application/json")

        def _file(self, path: str) -> None:
            file = _FILES.get(path)
            if file is None:
                self._answer(404, b"", "text/plain")
                return
            self._answer(200, file.read_bytes(), f"{read_asset(file).content_type}; charset=utf-8")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self._common()
            self.end_headers()
            self.wfile.write(body)

        def _common(self) -> None:
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")

        def _stream(self) -> None:
            if not agent.streams:
                body = {"code": "TOO_MANY_STREAMS", "message": "64 tabs are open", "hint": "close one"}
                self._answer(503, json.dumps(body).encode(), "application/json")
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.close_connection = True
            self._common()
            self.end_headers()
            told = agent._open()
            try:
                with contextlib.suppress(OSError):  # the tab is gone
                    self._pass_on(told)
            finally:
                agent._close(told)

        def _pass_on(self, told: "queue.SimpleQueue[bytes | None]") -> None:
            while True:
                try:
                    frame = told.get(timeout=1.0)
                except queue.Empty:
                    frame = b": ping\n\n"
                if frame is None:
                    return
                self.wfile.write(frame)

    return Handler


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # its thread was faster
        connection.shutdown(socket.SHUT_RDWR)


def _frame(event: str, document: Any, number: int) -> bytes:
    return f"event: {event}\nid: {number}\ndata: {json.dumps(document)}\n\n".encode()


def _all_samples() -> dict[str, Any]:
    kept = {path.stem: sample(path.stem) for path in sorted(SAMPLES.glob("*.json"))}
    return {**worlds.documents(), **kept}


def main() -> None:
    """Show the page with the samples, until Ctrl-C."""
    with PlayedAgent() as agent, contextlib.suppress(KeyboardInterrupt):
        print(agent.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
