"""The agent's pages, over its Unix socket or its admin port."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.config import Endpoint
from agent.documents.flows import FlowsDocument
from agent.preflight.pages import AgentPages, AgentSilent
from agent.unixsocket import UnixListener
from tests.unit.agent.cli.admin import admin

NOWHERE = Endpoint(host="127.0.0.1", port=1)
FLOWS = {
    "time": "t",
    "probe": False,
    "proved": False,
    "why": "no\x1bprobe",
    "foreign": 0,
    "canaries": [],
    "flows": [],
}


def endpoint(url: str) -> Endpoint:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return Endpoint(host=host, port=int(port))


@contextmanager
def on_socket(path: Path, answer: bytes) -> Iterator[None]:
    listener = UnixListener(path)
    listener.socket.setblocking(True)

    def serve() -> None:
        connection, _ = listener.socket.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)
        listener.close()


def test_a_page_is_read_as_a_document_with_printable_texts() -> None:
    with admin(FLOWS) as server:
        pages = AgentPages(admin=endpoint(server.url))
        document = pages.document(FlowsDocument, FlowsDocument.PATH, at_most_s=30)
        assert document.why == "no?probe"


def test_this_pods_own_socket_goes_before_the_admin_port(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    pages = AgentPages(admin=NOWHERE, path=path)
    with on_socket(path, b"HTTP/1.0 503 No\r\n\r\nnot ready"):
        assert pages.ask("/readyz?verbose", at_most_s=30) == (503, "not ready")
        assert str(pages) == str(path)


def test_without_the_socket_the_admin_port_is_asked(tmp_path: Path) -> None:
    with pytest.raises(AgentSilent, match=r"no agent answers at 127\.0\.0\.1:1: connection refused"):
        AgentPages(admin=NOWHERE, path=tmp_path / "none.sock").ask("/readyz", at_most_s=30)


def test_what_is_no_agent_is_said_to_be_none() -> None:
    with admin(b"hello") as server:
        pages = AgentPages(admin=endpoint(server.url))
        with pytest.raises(AgentSilent, match="is no agent"):
            pages.document(FlowsDocument, FlowsDocument.PATH, at_most_s=30)
    with admin({}, status=404) as server:
        pages = AgentPages(admin=endpoint(server.url))
        with pytest.raises(AgentSilent, match="is it of this release"):
            pages.document(FlowsDocument, FlowsDocument.PATH, at_most_s=30)


def test_an_agent_that_hangs_is_given_up(tmp_path: Path) -> None:
    listener = UnixListener(tmp_path / "s")
    try:
        with pytest.raises(AgentSilent, match=r"does not answer within 0\.1 s"):
            AgentPages(admin=NOWHERE, path=tmp_path / "s").ask("/readyz", at_most_s=0.1)
    finally:
        listener.close()


def test_what_speaks_no_http_is_said_so(tmp_path: Path) -> None:
    with (
        on_socket(tmp_path / "s", b"220 smtp\r\n"),
        pytest.raises(AgentSilent, match="does not speak HTTP"),
    ):
        AgentPages(admin=NOWHERE, path=tmp_path / "s").ask("/readyz", at_most_s=30)


def test_an_agent_that_wants_a_token_is_told_apart_with_the_way_round_it() -> None:
    with admin({"code": "UNAUTHORIZED", "message": "no", "hint": "h"}, status=401) as server:
        pages = AgentPages(admin=endpoint(server.url))
        with pytest.raises(
            AgentSilent, match=r"wants its admin token there; at health\.socket it wants none"
        ):
            pages.ask("/readyz?verbose", at_most_s=30)
