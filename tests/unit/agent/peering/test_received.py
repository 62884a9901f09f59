"""What the kernel says has come on a connection."""

import socket

import pytest

from agent.peering.received import received_bytes


def test_bytes_count_whether_they_are_read_or_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as own:
        own.connect(server.getsockname())
        far, _ = server.accept()
        with far:
            assert received_bytes(own) == 0
            far.sendall(b"x" * 1000)
            assert own.recv(10, socket.MSG_WAITALL) == b"x" * 10
            assert own.recv(990, socket.MSG_WAITALL | socket.MSG_PEEK) == b"x" * 990
            assert received_bytes(own) == 1000


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_closed_socket_or_one_without_tcp_says_nothing(family: socket.AddressFamily) -> None:
    with socket.socket(family) as own:
        pass
    assert received_bytes(own) == 0
