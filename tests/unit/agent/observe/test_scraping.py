"""The server of the probe's metrics, over a real socket."""

import contextlib
import http.client
import socket
from collections.abc import Iterator

import pytest

from agent.observe.exposition import Exposed
from agent.observe.scraping import AT_ONCE_MAX, MetricsServer
from agent.oci.browser import BrowserGuard


def told(accept: str) -> Exposed:
    """Metrics whose format shows which header came."""
    return Exposed(content_type=f"text/plain; for={accept or 'nothing'}", body=b"up 1.0\n")


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request: pytest.FixtureRequest) -> Iterator[MetricsServer]:
    made = MetricsServer(request.param, 0, told, BrowserGuard([]))
    made.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()


def ask(server: MetricsServer, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    host, port = server.server_address[:2]
    connection = http.client.HTTPConnection(str(host), int(port), timeout=30)
    try:
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_format_is_the_one_that_the_client_prefers(server: MetricsServer) -> None:
    host, port = server.server_address[:2]
    for accept, kind in (("application/openmetrics-text", "application/openmetrics-text"), ("", "nothing")):
        connection = http.client.HTTPConnection(str(host), int(port), timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
            assert connection.getresponse().headers["Content-Type"] == f"text/plain; for={kind}"


def test_metrics_are_served(server: MetricsServer) -> None:
    assert ask(server, "GET", "/metrics") == (200, b"up 1.0\n")
    assert ask(server, "GET", "/metrics?name[]=up") == (200, b"up 1.0\n")


def test_nothing_else_is_there_and_nothing_can_be_sent(server: MetricsServer) -> None:
    assert ask(server, "GET", "/")[0] == 404
    assert ask(server, "POST", "/metrics")[0] == 501


def test_it_calls_itself_the_probe(server: MetricsServer) -> None:
    """An agent whose list of peers has this port tells that to the operator."""
    host, port = server.server_address[:2]
    connection = http.client.HTTPConnection(str(host), int(port), timeout=30)
    connection.request("GET", "/shorthaul/v1/latency")
    assert connection.getresponse().headers["Server"] == "shorthaul-probe"
    connection.close()


def test_page_of_another_site_reads_nothing(server: MetricsServer) -> None:
    assert ask(server, "GET", "/metrics", Host="evil.example")[0] == 403
    assert ask(server, "GET", "/metrics", host="evil.example")[0] == 403
    assert ask(server, "GET", "/metrics", Origin="http://evil.example")[0] == 403


def test_client_that_goes_away_is_no_traceback(
    server: MetricsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    host, port = server.server_address[:2]
    for _ in range(3):
        sock = socket.create_connection((str(host), int(port)))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.close()
    assert ask(server, "GET", "/metrics")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_idle_connections_beyond_a_few_end_and_keep_nobody_out(server: MetricsServer) -> None:
    host, port = server.server_address[:2]
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection((str(host), int(port)), timeout=30))
            for _ in range(5 * AT_ONCE_MAX)
        ]
        assert ask(server, "GET", "/metrics")[0] == 200
        assert [one.recv(1) for one in idle[: 4 * AT_ONCE_MAX]] == [b""] * 4 * AT_ONCE_MAX


def test_what_is_no_request_is_not_repeated_in_the_answer(server: MetricsServer) -> None:
    host, port = server.server_address[:2]
    with socket.create_connection((str(host), int(port)), timeout=30) as connection:
        connection.sendall("\xc4marker /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 501 ")
    assert b"marker" not in answer
