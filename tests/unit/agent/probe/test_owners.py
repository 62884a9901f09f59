"""Who listens where, by this machine's own /proc."""

import os
import socket

import pytest

from agent.probe.owners import find_owners
from bpf.events import Address, pack_ip


@pytest.mark.parametrize(
    ("family", "host"),
    [
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0"),
        (socket.AF_INET6, "::1"),
        (socket.AF_INET6, "::"),
    ],
)
def test_process_that_listens_is_named_with_its_pid(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        found = find_owners()
        assert found[Address(pack_ip(host), port)].endswith(f"(pid {os.getpid()})")
    assert Address(pack_ip(host), port) not in find_owners()


def test_connections_are_no_listeners() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        assert Address(pack_ip("127.0.0.1"), client.getsockname()[1]) not in find_owners()
