"""A canary's exchange with whatever answers at an endpoint."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.config import Endpoint
from agent.flows.messages import NODE_HEADER, SOCKET_HEADER
from agent.probe.canary import Answer, CanaryConnection


@contextmanager
def answering(*parts: bytes) -> Iterator[Endpoint]:
    """Something that reads a request's head, says these bytes, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (received := connection.recv(4096)):
                    head += received
                for part in parts:
                    connection.sendall(part)

        thread = threading.Thread(target=answer)
        thread.start()
        yield Endpoint(host="127.0.0.1", port=server.getsockname()[1])
        thread.join()


def asked(*parts: bytes) -> Answer:
    with answering(*parts) as endpoint, CanaryConnection(endpoint) as canary:
        assert canary.cookie > 0
        return canary.request()


def head(**fields: str) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode("latin-1")


def test_agent_says_which_node_and_which_socket_answered() -> None:
    told = head(**{NODE_HEADER.lower(): "node-1", SOCKET_HEADER.upper(): " 77 "})
    assert asked(told) == Answer(node="node-1", cookie=77)
    assert asked(told[:20], told[20:]) == Answer(node="node-1", cookie=77)


def test_what_is_no_agent_is_neither_node_nor_socket() -> None:
    assert asked(head(Server="nginx")) == Answer()


@pytest.mark.parametrize("node", ["", "a b", "x" * 300, "nöde", "<script>"])
def test_name_that_no_node_has_is_left_out(node: str) -> None:
    assert asked(head(**{NODE_HEADER: node})).node in ("", "x" * 253)


@pytest.mark.parametrize("cookie", ["", "-1", "1.5", "²", "9" * 30])
def test_cookie_that_is_no_number_is_left_out(cookie: str) -> None:
    assert asked(head(**{SOCKET_HEADER: cookie})).cookie == 0


def test_anything_but_http_is_an_error() -> None:
    assert asked(b"SSH-2.0-OpenSSH\r\n\r\n").error == "the answer is not HTTP"
    assert asked().error == "closed without an answer"


def test_refused_connection_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        endpoint = Endpoint(host="127.0.0.1", port=taken.getsockname()[1])
        with CanaryConnection(endpoint) as canary:
            assert canary.request() == Answer(error="Connection refused")


@pytest.mark.parametrize(("authorization", "lines"), [("", 0), ("Bearer t0k3n", 1)])
def test_a_canary_sends_what_containerd_sends(authorization: str, lines: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint(host="127.0.0.1", port=server.getsockname()[1])
        heads: list[bytes] = []

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                heads.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 401 Unauthorized\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with CanaryConnection(endpoint, authorization) as canary:
            assert canary.request() == Answer()
        thread.join()
    assert heads[0].count(b"Authorization: Bearer t0k3n\r\n") == lines
