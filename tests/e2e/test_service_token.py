"""What real containerds do with the token in a hosts.toml: who gets it, who does not, and what a 401 does."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.lab.containerd import Containerd
from benchmarks.lab.folders import make_folder
from benchmarks.lab.image import Image, build_image
from tests.server.agents import fresh_address

TOKEN = "s3rv1ce-t0k3n-of-the-cluster-0123456789abcd"
_NAME, _PORT = "token.test", 5000


@dataclass
class Server:
    """A registry's double. ``asked``: each request's path with its Authorization header.

    ``answer``: what it does with a path in place of serving: a status and headers. None: it serves.
    """

    host: str
    answer: Callable[[str], tuple[int, dict[str, str]] | None] = lambda _: None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{_PORT}"

    def tokens(self) -> set[str | None]:
        """All that was in the Authorization headers."""
        return {token for _, token in self.asked}


@contextmanager
def serving(server: Server, image: Image) -> Iterator[None]:
    """Serve the image's content under any name."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            server.asked.append((self.path, self.headers["Authorization"]))
            other = server.answer(self.path)
            if other is not None:
                status, headers = other
                self._send(status, headers, b"")
                return
            name = self.path.partition("?")[0].rpartition("/")[2]
            digest = name if name.startswith("sha256:") else image.manifest
            content = (image.layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()
            kind = "application/vnd.oci.image.manifest.v1+json"
            headers = {"Docker-Content-Digest": digest}
            if "/manifests/" in self.path:
                headers["Content-Type"] = kind
            self._send(200, headers, content)

        def do_GET(self) -> None:
            self.do_HEAD()

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((server.host, _PORT), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """An image of two layers."""
    folder = make_folder("shlab", "token-image")
    yield build_image(folder / "layout", layer_bytes=[50_000, 60_000], seed=7)
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["1.6", "1.7", "2.1"])
def containerd(request: pytest.FixtureRequest) -> Iterator[Containerd]:
    """A containerd that logs all that it can."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for containerd: run `make test` as root")
    folder = make_folder("shlab", f"token-{request.param}")
    made = Containerd(folder, netns=None, version=request.param, debug=True)
    yield made
    made.stop()
    shutil.rmtree(folder)


def pulled(containerd: Containerd, image: Image, mirror: Server, registry: Server, *others: Server) -> str:
    """Pull through the mirror, with the token for it. Returns containerd's log."""
    folder = containerd.certs / _NAME
    folder.mkdir(exist_ok=True)
    (folder / "hosts.toml").write_text(
        f'server = "{registry.url}"\n'
        f'[host."{mirror.url}"]\n  capabilities = ["pull", "resolve"]\n'
        f'  [host."{mirror.url}".header]\n    Authorization = ["Bearer {TOKEN}"]\n'
        f'[host."{registry.url}"]\n  capabilities = ["pull", "resolve"]\n'
    )
    reference = f"{_NAME}/app/{hashlib.sha256(mirror.host.encode()).hexdigest()[:8]}:v1"
    with ExitStack() as stack:
        for server in (mirror, registry, *others):
            stack.enter_context(serving(server, image))
        containerd.pull(reference)
        containerd.remove(reference)
    return (containerd.folder / "log").read_text(errors="replace")


def test_every_request_to_the_mirror_has_the_token_and_no_log_has_it(
    containerd: Containerd, image: Image
) -> None:
    mirror, registry = Server(fresh_address()), Server(fresh_address())
    log = pulled(containerd, image, mirror, registry)
    assert mirror.tokens() == {f"Bearer {TOKEN}"}
    assert len(mirror.asked) >= 2
    assert registry.asked == []
    assert "level=debug" in log
    assert "do request" in log
    assert TOKEN not in log


def test_a_redirect_to_another_host_does_not_take_the_token_along(
    containerd: Containerd, image: Image
) -> None:
    elsewhere = Server(fresh_address())

    def redirects(path: str) -> tuple[int, dict[str, str]] | None:
        return (307, {"Location": f"{elsewhere.url}{path}"}) if "/manifests/v1" not in path else None

    mirror, registry = Server(fresh_address(), redirects), Server(fresh_address())
    pulled(containerd, image, mirror, registry, elsewhere)
    assert mirror.tokens() == {f"Bearer {TOKEN}"}
    assert elsewhere.asked
    assert elsewhere.tokens() == {None}


def test_a_401_without_a_challenge_sends_containerd_to_its_next_host_at_once(
    containerd: Containerd, image: Image
) -> None:
    mirror, registry = Server(fresh_address(), lambda _: (401, {})), Server(fresh_address())
    pulled(containerd, image, mirror, registry)
    paths = [path for path, _ in mirror.asked]
    # Once for each thing: an extra HEAD as a blob is how containerd looks for what is no manifest.
    assert len(paths) == len(set(paths)), paths
    assert {path.partition("?")[0] for path, _ in registry.asked} >= {
        path.partition("?")[0] for path in paths if "/manifests/v1" in path
    }
    assert registry.tokens() == {None}
