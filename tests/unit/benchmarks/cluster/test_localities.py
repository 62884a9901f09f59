"""Latencies on a node, against a twin of an agent: what is asked, with which proof, within which bounds."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.hosts.merge import merge
from benchmarks.cluster.localities import (
    NOBODY,
    Place,
    Unanswered,
    containerds_token,
    measure,
    opened,
    sort_out,
    tier_of,
)
from benchmarks.cluster.wire import Blob
from tests.unit.agent.hosts.texts import CLOSED

TOKEN = f"Bearer {CLOSED.token}"


class Twin:
    """An agent that has some blobs, each at a tier. ``token``: what it wants to see; empty: nothing."""

    def __init__(self) -> None:
        self.blobs: dict[str, tuple[str, int]] = {}
        self.token = ""
        self.sent_bytes = 0
        twin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._reply(body=False)

            def do_GET(self) -> None:
                self._reply(body=True)

            def _reply(self, *, body: bool) -> None:
                digest = self.path.rpartition("/")[2].partition("?")[0]
                if twin.token and self.headers.get("Authorization") != twin.token:
                    status, tier, size = 403, "", 0
                elif self.path == "/v2/":
                    status, tier, size = 200, "", 0
                else:
                    tier, size = twin.blobs.get(digest, ("", 0))
                    status = 200 if tier else 404
                self.send_response(status)
                if tier:
                    self.send_header("Shorthaul-Source", f'node=n2; tier={tier}; reason="near; by far"')
                self.send_header("Content-Length", str(size))
                self.end_headers()
                if body:
                    self.wfile.write(b"x" * size)
                    twin.sent_bytes += size

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def place(self) -> Place:
        """Where it answers."""
        return Place(host="127.0.0.1", port=self._server.server_address[1])

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def twin() -> Iterator[Twin]:
    made = Twin()
    yield made
    made.close()


def blob(name: str, size_bytes: int = 10) -> Blob:
    return Blob(registry="r.io", repository="app", digest=name, size_bytes=size_bytes)


def test_tier_is_read_from_the_agents_own_word() -> None:
    assert tier_of('node=a1; tier=zone; reason="so; tier=remote; no"') == "zone"
    assert tier_of("node=a1; tier=region") == "region"
    assert tier_of("") == ""


def test_blobs_are_sorted_by_where_they_are_and_what_nobody_has_is_left_out(twin: Twin) -> None:
    twin.blobs = {"a": ("node", 10), "b": ("zone", 10), "c": ("zone", 20)}
    found = sort_out(twin.place, [blob("c", 20), blob("b"), blob("a"), blob("gone")], until_s=float("inf"))
    assert {tier: len(asks) for tier, asks in found.items()} == {"node": 1, "zone": 2}
    assert found["zone"][0].target == "/v2/app/blobs/b?ns=r.io"


def test_each_tier_and_what_nobody_has_are_measured_on_open_and_new_connections(twin: Twin) -> None:
    twin.blobs = {"a": ("node", 10), "b": ("zone", 10)}
    found = measure(twin.place, [blob("a"), blob("b")], seconds=3.0, bytes_max=10_000, rate_per_s=20.0)
    kinds = {(each.tier, each.connection) for each in found.measured}
    assert kinds == {(tier, way) for tier in ("node", "zone", NOBODY) for way in ("warm", "cold")}
    assert all(each.requests > each.failed for each in found.measured)
    assert found.bytes <= 10_000


def test_no_more_bytes_are_moved_than_allowed(twin: Twin) -> None:
    twin.blobs = {"a": ("node", 5_000)}
    found = measure(twin.place, [blob("a", 5_000)], seconds=3.0, bytes_max=50_000, rate_per_s=50.0)
    assert found.bytes <= 50_000 + 2 * 5_000  # what was under way when the bound was met


def test_token_of_containerd_is_shown_only_to_an_agent_that_wants_one(twin: Twin, tmp_path: Path) -> None:
    folder = tmp_path / "_default"
    folder.mkdir()
    (folder / "hosts.toml").write_text(merge("", CLOSED).text)
    assert opened(twin.place, tmp_path).token == ""
    twin.token = TOKEN
    assert opened(twin.place, tmp_path).token == TOKEN
    assert TOKEN not in repr(opened(twin.place, tmp_path))


def test_token_of_somebody_elses_mirror_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "r.io").mkdir()
    (tmp_path / "r.io" / "hosts.toml").write_text(
        '[host."http://other"]\n[host."http://other".header]\nAuthorization = ["Bearer theirs"]\n'
    )
    assert containerds_token(tmp_path) == ""
    assert containerds_token(tmp_path / "none") == ""


def test_agent_that_refuses_or_is_away_is_told_with_what_to_do(twin: Twin, tmp_path: Path) -> None:
    twin.token = "Bearer nobodys"
    with pytest.raises(Unanswered, match="refuses this pod") as refused:
        opened(twin.place, tmp_path)
    assert "localCallers" in refused.value.hint
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Unanswered, match=f"nothing answers at 127.0.0.1:{port}") as away:
        opened(Place(host="127.0.0.1", port=port), tmp_path)
    assert "doctor" in away.value.hint
