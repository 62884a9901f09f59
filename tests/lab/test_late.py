"""The relay that makes a server late."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from benchmarks.lab.late import LateRelay


@contextmanager
def echoing() -> Iterator[int]:
    """A server that sends everything back. Gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while heard := connection.recv(1000):
                    connection.sendall(heard)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def connect(relay: LateRelay) -> socket.socket:
    host, port = relay.endpoint.split(":")
    return socket.create_connection((host, int(port)), timeout=20.0)


def test_answers_are_late_by_as_much_as_was_said_and_whole() -> None:
    with (
        echoing() as port,
        LateRelay("127.0.0.1", port, address="127.0.0.1") as relay,
        closing(connect(relay)) as client,
    ):
        client.sendall(b"at once")
        assert client.recv(1000) == b"at once"
        relay.make_late(0.2)
        began_s = time.monotonic()
        client.sendall(b"late")
        assert client.recv(1000) == b"late"
        assert time.monotonic() - began_s >= 0.2


def test_connection_ends_where_the_server_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with LateRelay("127.0.0.1", port, address="127.0.0.1") as relay, closing(connect(relay)) as client:
        assert client.recv(1000) == b""


def test_connections_end_with_the_relay() -> None:
    with echoing() as port:
        with LateRelay("127.0.0.1", port, address="127.0.0.1") as relay:
            client = connect(relay)
            client.sendall(b"x")
            assert client.recv(1000) == b"x"
        assert client.recv(1000) == b""
        client.close()
