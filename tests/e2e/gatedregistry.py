"""A registry of one image on loopback. It gives as much of the layer as it is let, and lies if told so."""

import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from agent.oci.manifest import OCI_MANIFEST
from benchmarks.lab.image import Image

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for the layer. ``start``: from which byte on."""

    start: int


class GatedRegistry:
    """Serves an image. Use as a context manager.

    ``layer``: its largest blob. ``sends``: what is sent in the layer's place; None: the layer.
    ``refuses``: the status of answers to requests for the layer; None: it is given.
    """

    def __init__(self, image: Image, address: str) -> None:
        self.layer, self.size_bytes = max(image.blobs.items(), key=lambda blob: blob[1])
        folder = image.layout / "blobs/sha256"
        self._blobs = {digest: (folder / digest.partition(":")[2]).read_bytes() for digest in image.blobs}
        self._manifest = image.manifest
        self.sends: bytes | None = None
        self.refuses: int | None = None
        self.asked: list[Asked] = []
        self._released = 0
        self._broken = 0  # how often all bodies were ended
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer((address, 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients leave
        self.endpoint = f"{address}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(1 << 60)
        self.break_off()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def content(self) -> bytes:
        """The layer."""
        return self._blobs[self.layer]

    def release(self, until: int | None = None) -> None:
        """Let the first bytes of the layer go, up to this one."""
        with self._changed:
            self._released = self.size_bytes if until is None else until
            self._changed.notify_all()

    def break_off(self) -> None:
        """End all bodies of the layer that are being sent."""
        with self._changed:
            self._broken += 1
            self._changed.notify_all()

    def _wait(self, position: int, broken: int) -> int:
        """The byte up to which may be sent now. Returns ``position`` if the body is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._released > position or self._broken > broken, 120)
            return position if self._broken > broken else max(self._released, position)

    def _handler(registry) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler has a self of its own
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Nothing."""

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                digest = path.rpartition("/")[2]
                if "/manifests/" in path:
                    digest = digest if digest in registry._blobs else registry._manifest
                if path == "/v2/":
                    self._send(200, b"{}", "application/json")
                elif digest == registry.layer and self.command == "GET":
                    self._send_layer()
                elif digest in registry._blobs:
                    kind = OCI_MANIFEST if "/manifests/" in path else "application/octet-stream"
                    self._send(200, registry._blobs[digest], kind, digest)
                else:
                    self._send(404, json.dumps({"errors": []}).encode(), "application/json")

            def _send(self, status: int, body: bytes, kind: str, digest: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if digest:
                    self.send_header("Docker-Content-Digest", digest)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def _send_layer(self) -> None:
                body = registry.content if registry.sends is None else registry.sends
                match = _RANGE.match(self.headers.get("Range", ""))
                start = int(match[1]) if match else 0
                registry.asked.append(Asked(start=start))
                if registry.refuses is not None:
                    self._send(registry.refuses, b"{}", "application/json")
                    return
                broken = registry._broken
                self.send_response(206 if match else 200)
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(len(body) - start))
                if match:
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                self.end_headers()
                while start < len(body):
                    until = min(registry._wait(start, broken), start + _PIECE_BYTES, len(body))
                    if until <= start:
                        break
                    self.wfile.write(body[start:until])
                    start = until
                self.close_connection = start < len(body)

        return Handler
