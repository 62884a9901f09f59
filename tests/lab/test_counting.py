"""What a host has sent is counted by the kernel, and is what its TCP streams carried."""

import functools
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks.lab.network import Network, inside, sent_bytes, sweep
from benchmarks.lab.process import LabError

pytestmark = pytest.mark.e2e

_PREFIX = "shlab"
_ADDRESS = "10.9.2.1"
_PORT = 5000
_STREAM_BYTES = 8 << 20


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces: run `make test` as root")
    sweep(_PREFIX)
    made = Network(f"{_PREFIX}-{os.getpid()}-count")
    try:
        yield made
    finally:
        made.close()


def _send(connection: socket.socket, size_bytes: int) -> None:
    with connection:
        connection.sendall(bytes(size_bytes))


def _stream(one: str, other: str, size_bytes: int) -> None:
    """Send that much from one namespace to the other, and receive it all."""
    with inside(other, functools.partial(socket.create_server, (_ADDRESS, _PORT))) as listener:
        sending = inside(one, lambda: socket.create_connection((_ADDRESS, _PORT), timeout=60))
        receiving, _ = listener.accept()
    sender = threading.Thread(target=_send, args=(sending, size_bytes))
    sender.start()
    with receiving:
        receiving.settimeout(60)
        while receiving.recv(1 << 20):
            pass
    sender.join()


@pytest.mark.parametrize("limit_mbit_s", [None, 50])
def test_sent_bytes_are_those_of_the_streams_without_headers(
    network: Network, limit_mbit_s: int | None
) -> None:
    one, other = network.add_host("a", "10.9.1.1"), network.add_host("b", _ADDRESS)
    network.shape("a", limit_mbit_s)
    before = sent_bytes(one), sent_bytes(other)
    _stream(one, other, _STREAM_BYTES)
    # Segments that were lost are sent again: at most a few in this queue. An ARP packet is shorter than the
    # headers that are taken off for each packet.
    assert _STREAM_BYTES - 1000 <= sent_bytes(one) - before[0] < 1.01 * _STREAM_BYTES
    assert sent_bytes(other) - before[1] < 0.01 * _STREAM_BYTES, "acknowledgements are hardly more"


def test_namespace_without_a_link_is_no_host(network: Network) -> None:
    hub = f"{_PREFIX}-{os.getpid()}-count-hub"
    with pytest.raises(LabError, match="has no link"):
        sent_bytes(hub)
