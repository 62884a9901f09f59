"""Listening sockets, and why one can't be opened."""

import socket
import subprocess
import sys

import pytest

from agent.config import Endpoint
from agent.listen.sockets import ListenError, ListenErrors, inherited, listens_at, open_listener


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
        with socket.create_connection((host, endpoint.port), timeout=60):
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


@pytest.mark.parametrize(
    ("owners", "may_be"),
    [
        (["shorthaul (pid 7: python /bin/shorthaul agent)"], True),
        (["a process of user 0 that can't be seen from here, in the root cgroup"], True),
        (["nginx (pid 7: nginx)"], False),
        (["nginx (pid 7: nginx)", "shorthaul (pid 8: …)"], False),
    ],
)
def test_a_port_of_a_process_that_is_no_agent_is_not_waited_for(owners: list[str], may_be: bool) -> None:
    errors = [ListenError(f"listen.peer: 10.0.0.1:1 is taken by {owner}", "") for owner in owners]
    assert ListenErrors(errors).of_agents is may_be


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_socket_of_an_older_agent_is_used_if_it_listens_at_just_the_place(host: str) -> None:
    here, there = (Endpoint(host=host, port=free_port(host)) for _ in range(2))
    with open_listener("peer", here) as given:
        assert inherited([given], here) is given
        assert inherited([given], there) is None
        assert not listens_at(given, Endpoint(host="127.0.0.2", port=here.port))


def test_what_is_no_listening_tcp_socket_of_this_namespace_is_not_used() -> None:
    with socket.socket() as idle, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for one in (idle, datagrams):
            one.bind(("127.0.0.1", 0))
            assert not listens_at(one, Endpoint(host="127.0.0.1", port=one.getsockname()[1]))
    with socket.socket(socket.AF_UNIX) as local:
        assert not listens_at(local, Endpoint(host="127.0.0.1", port=1))


def test_a_listening_socket_of_another_network_namespace_is_not_used() -> None:
    """A pod of its own network, which was upgraded to the host's."""
    here, there = socket.socketpair(socket.AF_UNIX)
    script = """
import socket, sys
lo = __import__("subprocess").run(["ip", "link", "set", "lo", "up"], check=True)
listener = socket.create_server(("127.0.0.1", 30020))
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"."], [listener.fileno()])
"""
    with here, there:
        command = ["unshare", "--net", sys.executable, "-c", script, str(there.fileno())]
        subprocess.run(command, pass_fds=[there.fileno()], timeout=60, check=True)
        _, (descriptor,), *_ = socket.recv_fds(here, 1, 1)
    with socket.socket(fileno=descriptor) as foreign:
        assert foreign.getsockname() == ("127.0.0.1", 30020)
        assert not listens_at(foreign, Endpoint(host="127.0.0.1", port=30020))
