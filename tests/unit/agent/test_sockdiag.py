"""Whose socket a connection's other end is, asked of the real kernel."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from agent.sockdiag import SocketAsker, SocketUnknown, TcpSocket, listening_sockets
from tests.unit.twins import REPOSITORY_ROOT

_ASKS = """
import sys
from agent.sockdiag import SocketAsker
host, port, other = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
found = SocketAsker().at((host, port), (host, other))
print(found.uid, found.inode, found.cgroup)
"""


@contextmanager
def connection(
    host: str = "127.0.0.1", *, mapped: bool = False
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end and the server's end of a connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.socket(socket.AF_INET6 if mapped else family) as client,
    ):
        client.connect((f"::ffff:{host}" if mapped else host, listener.getsockname()[1]))
        server, _ = listener.accept()
        with server:
            yield client, server


def asked(server: socket.socket) -> TcpSocket:
    """What the kernel tells of the other end."""
    return looked_up(server.getpeername()[:2], server.getsockname()[:2])


def looked_up(own: tuple[str, int], other: tuple[str, int]) -> TcpSocket:
    """What the kernel tells of the socket with these ends."""
    with closing(SocketAsker()) as asker:
        return asker.at(own, other)


@pytest.mark.parametrize(("host", "mapped"), [("127.0.0.1", False), ("::1", False), ("127.0.0.1", True)])
def test_the_other_end_of_a_connection_is_told_with_its_user_its_inode_and_its_cgroup(
    host: str, mapped: bool
) -> None:
    with connection(host, mapped=mapped) as (_, server):
        found = asked(server)
        assert (found.host, found.port) == server.getpeername()[:2]
    assert (found.uid, found.inode > 0, found.cgroup > 0) == (os.getuid(), True, True)


def test_a_client_that_closed_its_sending_half_is_still_known() -> None:
    with connection() as (client, server):
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        assert asked(server).uid == os.getuid()


def test_a_socket_that_its_process_closed_is_nobodys_and_not_roots() -> None:
    with connection() as (client, server):
        client.close()
        assert server.recv(1) == b""
        with pytest.raises(SocketUnknown) as caught:
            asked(server)  # an orphan in FIN_WAIT2
        assert caught.value.gone
        ends = server.getpeername()[:2], server.getsockname()[:2]
    with pytest.raises(SocketUnknown) as caught:
        looked_up(*ends)  # in TIME_WAIT
    assert caught.value.gone


def test_an_orphan_with_bytes_that_nobody_read_is_nobodys() -> None:
    with connection() as (client, server):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        client.send(bytes(1 << 20))
        client.close()
        with pytest.raises(SocketUnknown):
            asked(server)  # in FIN_WAIT1


def test_a_listener_on_the_port_of_a_client_that_left_is_not_taken_for_it() -> None:
    with (
        connection() as (_, server),
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(SocketUnknown) as caught,
    ):
        looked_up(listener.getsockname(), server.getsockname())
    assert caught.value.gone


_ELSEWHERE = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
print(client.getsockname()[1], client.getpeername()[1], flush=True)
sys.stdin.read()
"""


def test_a_socket_of_another_network_namespace_is_not_known_here() -> None:
    start = 'ip link set lo up && exec "$@"'
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", start, "sh", sys.executable, "-c", _ELSEWHERE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    client, server = map(int, process.stdout.readline().split())
    with pytest.raises(SocketUnknown) as caught:
        looked_up(("127.0.0.1", client), ("127.0.0.1", server))
    assert caught.value.gone
    process.communicate("")


def test_one_asker_answers_again_after_a_question_without_an_answer() -> None:
    with closing(SocketAsker()) as asker, connection() as (_, server):
        own = server.getsockname()
        for _ in range(3):
            with pytest.raises(SocketUnknown):
                asker.at(("127.0.0.1", 1), own)
            assert asker.at(server.getpeername(), own).uid == os.getuid()


def test_the_kernel_tells_a_user_without_any_capability() -> None:
    bare = ["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
    with connection() as (client, server):
        words = [server.getpeername()[0], str(server.getpeername()[1]), str(server.getsockname()[1])]
        done = subprocess.run(
            [*bare, sys.executable, "-c", _ASKS, *words],
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY_ROOT,
        )
        uid, inode, cgroup = map(int, done.stdout.split())
        assert (uid, inode) == (os.getuid(), os.fstat(client.fileno()).st_ino)
    assert cgroup > 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_each_listening_socket_is_told_with_its_user_and_its_inode(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port, inode = listener.getsockname()[1], os.fstat(listener.fileno()).st_ino
        (found,) = (one for one in listening_sockets() if one.port == port)
    assert (found.host, found.uid, found.inode) == (host, os.getuid(), inode)
    assert found.cgroup > 0
