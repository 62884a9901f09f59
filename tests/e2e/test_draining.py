"""An agent that stops alone: its containerd goes to the next host at once, and running pulls end whole."""

import signal
import socket
import time
from collections.abc import Iterator

import pytest

from benchmarks.lab.cluster import LOCAL_PORT, REGISTRY, Cluster, Node, Place
from benchmarks.lab.image import Image, build_image
from benchmarks.lab.network import inside

_VERSIONS = ("1.6", "1.7", "2.1")
_BIG_BYTES = 48 << 20  # more than the kernel's buffers of both sides take
_AT_MOST_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    places = [Place(name=f"v{version[0]}{version[2]}", region="r", zone="z") for version in _VERSIONS]
    with Cluster(places, versions=_VERSIONS) as made:
        made.start_agents(stop={"unready_s": 0, "drain_s": 300.0})
        yield made


def push(cluster: Cluster, name: str, size_bytes: int) -> tuple[Image, str]:
    layout = cluster.folder / f"image-{name}"
    image = build_image(layout, layer_bytes=[size_bytes], seed=len(name), compression=("none",))
    return image, cluster.registry.push(image, f"e2e/{name}", "v1")


def slow_reader(node: Node, digest: str) -> socket.socket:
    """A client of the HostPort that has begun to read a body, and reads no further."""

    def begin() -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sock.settimeout(_AT_MOST_S)
        sock.connect((node.loopback, LOCAL_PORT))
        path = f"/v2/e2e/big/blobs/{digest}?ns={REGISTRY}"
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert sock.recv(1, socket.MSG_PEEK)
        return sock

    return inside(node.netns, begin)


def read_to_end(sock: socket.socket) -> int:
    size_bytes = 0
    while part := sock.recv(1 << 20):
        size_bytes += len(part)
    return size_bytes


@pytest.mark.parametrize("version", _VERSIONS)
def test_a_pull_while_the_agent_drains_goes_to_the_next_host_and_succeeds(
    cluster: Cluster, version: str
) -> None:
    node = cluster.node(f"v{version[0]}{version[2]}")
    big, big_reference = push(cluster, "big", _BIG_BYTES)
    _, reference = push(cluster, f"small{version.replace('.', '')}", 64 << 10)
    node.pull(big_reference)
    layer = max(big.blobs, key=lambda digest: big.blobs[digest])
    with slow_reader(node, layer) as sock:
        node.agent.signal(signal.SIGTERM)
        until_s = time.monotonic() + _AT_MOST_S
        while node.is_ready():
            assert time.monotonic() < until_s
            time.sleep(0.02)
        node.pull(reference)
        refused = [each for each in node.requests() if each["status"] == 503]
        assert {(each["path"], each["result"]) for each in refused} == {("hostport", "unavailable")}
        assert node.agent.running
        assert read_to_end(sock) > big.blobs[layer]  # with its head
    while node.agent.running:
        assert time.monotonic() < until_s
        time.sleep(0.02)
    assert node.agent.stop() == 0
