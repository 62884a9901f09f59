"""Listening sockets, and why one can't be opened."""

import socket

import pytest

from agent.config import Endpoint
from agent.listen.sockets import ListenError, open_listener


def free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listener_listens_and_never_blocks(host: str) -> None:
    endpoint = Endpoint(host=host, port=free_port(host))
    with open_listener("peer", endpoint) as listener:
        assert listener.getsockname()[:2] == (host, endpoint.port)
        assert not listener.getblocking()
        with socket.create_connection((host, endpoint.port), timeout=10):
            pass


def test_taken_port_is_named_with_its_owner_and_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = Endpoint(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(ListenError) as refused:
            open_listener("peer", endpoint)
    assert f"listen.peer: {endpoint} is taken by python" in str(refused.value)
    assert "--set listen.peer=" in refused.value.hint


def test_address_of_another_machine_is_an_error_with_a_hint() -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1 is no address of this machine") as refused:
        open_listener("peer", Endpoint(host="192.0.2.1", port=1234))
    assert refused.value.hint
