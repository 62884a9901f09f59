"""Who listens where, by this machine's own /proc."""

import os
import socket

from agent.probe.owners import find_owners
from bpf.events import Address, pack_ip


def test_process_that_listens_is_named_with_its_pid() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = find_owners()
        assert found[Address(pack_ip("127.0.0.1"), port)].endswith(f"(pid {os.getpid()})")
    assert Address(pack_ip("127.0.0.1"), port) not in find_owners()
