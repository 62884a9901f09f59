"""Who answers at an address."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from agent.config import Endpoint
from agent.flows.messages import NODE_HEADER
from agent.preflight.answering import Answerer, ask, fallback, host_port, node_port_socket, spelled
from agent.preflight.check import Status
from agent.preflight.gather import Unknown
from agent.preflight.ports import Listener

HERE = Endpoint(host="127.0.0.1", port=30020)
AGENT = Listener(address="127.0.0.1", pid=1, name="shorthaul", is_agent=True)
FOREIGN = Listener(address="127.0.0.1", pid=2, name="nginx")
HIDDEN = Listener(address="0.0.0.0", pid=None, owner="a process of user 0, in system.slice/nginx.service")


@contextmanager
def answering(headers: dict[str, str]) -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Endpoint(host="127.0.0.1", port=server.server_port)
        finally:
            server.shutdown()
            thread.join()


def test_an_agent_says_its_node_and_others_say_none() -> None:
    with answering({NODE_HEADER: "a1"}) as endpoint:
        assert ask(endpoint) == Answerer(node="a1", status=200)
    with answering({}) as endpoint:
        assert ask(endpoint) == Answerer(status=200)
    assert ask(endpoint).error == "connection refused"


@pytest.mark.parametrize(
    ("answer", "listeners", "status", "words"),
    [
        (Answerer(node="a1"), (AGENT,), Status.GOOD, "this node's agent answers"),
        (Answerer(node="a1"), None, Status.GOOD, "this node's agent answers"),
        (Answerer(node="b1"), (AGENT,), Status.BAD, "answered by the agent of b1"),
        (Answerer(status=501), (FOREIGN,), Status.BAD, "is taken by nginx (pid 2) at 127.0.0.1"),
        (Answerer(error="no answer within 3 s"), (HIDDEN,), Status.BAD, "in system.slice/nginx.service"),
        (Answerer(status=404), None, Status.BAD, "is no shorthaul agent (HTTP 404)"),
        (Answerer(error="connection refused"), (), Status.BAD, "connection refused"),
        (Unknown(why="x"), (), Status.UNKNOWN, "x"),
    ],
)
def test_the_host_port_is_this_nodes_agents_or_somebody_is_named(
    answer: Answerer | Unknown, listeners: tuple[Listener, ...] | None, status: Status, words: str
) -> None:
    check = host_port(HERE, "a1", answer, listeners)
    assert check.status is status
    assert words in check.detail


def test_without_settings_any_agent_is_this_nodes() -> None:
    assert host_port(HERE, None, Answerer(node="b1"), ()).status is Status.GOOD
    assert host_port(HERE, None, Answerer(status=404), ()).status is Status.BAD


@pytest.mark.parametrize(
    ("listeners", "used", "status"),
    [
        ((), True, Status.GOOD),
        ((Listener(address="0.0.0.0", pid=3, name="kube-proxy"),), True, Status.GOOD),
        ((FOREIGN,), True, Status.BAD),
        ((FOREIGN,), False, Status.WARN),
        ((HIDDEN,), True, Status.BAD),
        ((AGENT,), True, Status.WARN),
        (None, True, Status.UNKNOWN),
        (Unknown(why="x"), True, Status.UNKNOWN),
    ],
)
def test_a_process_on_the_node_ports_number_is_named(
    listeners: tuple[Listener, ...] | Unknown | None, used: bool, status: Status
) -> None:
    assert node_port_socket(30021, listeners, used=used).status is status


def test_a_fallback_that_nobody_answers_is_a_warning() -> None:
    assert fallback(HERE, "nodeport", Answerer(node="b1", status=200)).status is Status.GOOD
    check = fallback(HERE, "nodeport", Answerer(error="connection refused"))
    assert (check.name, check.status) == ("by the NodePort", Status.WARN)
    assert spelled("clusterip") == "ClusterIP"


def test_a_fallback_that_refuses_what_hosts_toml_says_is_told_apart() -> None:
    check = fallback(HERE, "nodeport", Answerer(status=401))
    assert (check.status, "refuses what hosts.toml" in check.detail) == (Status.WARN, True)
    assert "--key-file" in check.hint


def test_who_is_asked_gets_what_containerd_would_send() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint(host="127.0.0.1", port=server.getsockname()[1])
        thread = threading.Thread(target=ask, args=(endpoint, "Bearer t0k3n"))
        thread.start()
        connection, _ = server.accept()
        with connection:
            assert b"\r\nAuthorization: Bearer t0k3n\r\n" in connection.recv(4096)
        thread.join()
