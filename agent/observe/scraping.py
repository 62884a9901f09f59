"""Serves ``/metrics`` from a thread, with the standard library alone.

For the probe: aiohttp would need more memory than the rest of it.
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread

from agent.observe.exposition import Exposed
from agent.oci.browser import BrowserGuard

Connection = socket.socket | tuple[bytes, socket.socket]  # as socketserver has it

_PATH = "/metrics"
_IDLE_S = 30.0  # for a client that sends nothing

AT_ONCE_MAX = 16
"""Connections, each of which has a thread. One more ends the oldest: a scrape takes milliseconds, and whoever
holds a connection without one is no scraper."""


class MetricsServer(ThreadingMixIn, TCPServer):
    """One listening socket. ``guard``: refuses other sites' pages.

    ``expose``: returns the metrics now, in the format that an ``Accept`` header prefers.

    Raises OSError if the port is taken.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128  # connections that wait; beyond it SYNs are lost, each for a second

    def __init__(self, host: str, port: int, expose: Callable[[str], Exposed], guard: BrowserGuard) -> None:
        self.address_family = socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6
        self.expose, self.guard = expose, guard
        self._open: dict[Connection, None] = {}  # the oldest first
        self._lock = Lock()
        super().__init__((host, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error, and one request must not end the probe."""

    def process_request(self, request: Connection, client_address: object) -> None:
        """Serve a connection in a thread of its own."""
        with self._lock:
            oldest = next(iter(self._open)) if len(self._open) >= AT_ONCE_MAX else None
            if oldest is not None:
                del self._open[oldest]
            self._open[request] = None
        if oldest is not None and isinstance(oldest, socket.socket):
            with suppress(OSError):  # it has ended
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Connection) -> None:
        """A connection ended."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def start(self) -> None:
        """Serve from a thread that ends with the process."""
        Thread(target=self.serve_forever, name="metrics", daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = _IDLE_S

    def version_string(self) -> str:
        """The header Server. An agent with this port in its list of peers tells it to the operator."""
        return "shorthaul-probe"

    def do_GET(self) -> None:
        refused = self.server.guard.refusal(
            "GET", {key.title(): value for key, value in self.headers.items()}
        )
        if refused is not None:
            self._answer(403, f"{refused.message}; {refused.hint}\n".encode(), "text/plain; charset=utf-8")
        elif self.path.partition("?")[0] != _PATH:
            self._answer(404, f"there is only {_PATH}\n".encode(), "text/plain; charset=utf-8")
        else:
            answer = self.server.expose(self.headers.get("Accept", ""))
            self._answer(200, answer.body, answer.content_type)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request. The base class would repeat parts of it in the status line."""
        super().send_error(code)

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Scrapes are not logged."""
