"""A shaped link carries what it is said to carry, measured by a plain TCP stream."""

import functools
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks.lab.cluster import Cluster, Place
from benchmarks.lab.network import Network, inside, sweep
from benchmarks.lab.process import LabError

pytestmark = pytest.mark.e2e

PREFIX = "shlab"
HOSTS = {"a": "10.9.1.1", "b": "10.9.2.1", "c": "10.9.3.1"}
PORT = 5000
SECOND_S = 1.0
_TRIES, _TRIES_OF_A_BUSY_MACHINE = 3, 10


class Lab:
    """Three hosts on a bridge."""

    def __init__(self) -> None:
        self.network = Network(f"{PREFIX}-{os.getpid()}-shape")
        self.netns = {name: self.network.add_host(name, address) for name, address in HOSTS.items()}

    def mbit_s(self, one: str, other: str) -> float:
        """The rate at which a stream from one to the other arrives."""
        return stream_mbit_s(self.netns[one], self.netns[other], HOSTS[other])

    def rates_mbit_s(self, one: str, other: str, *, at_least: float) -> list[float]:
        """The rates of one stream after another, until one is fast enough.

        A stream of this machine to itself is the control. Only a stream that it shows to have been possible
        counts as too slow. A busy machine gets a few tries more.
        """
        rates: list[float] = []
        while not rates or rates[-1] <= at_least:
            possible = stream_mbit_s(None, None, "127.0.0.1") / 2 > at_least
            assert len(rates) < (_TRIES if possible else _TRIES_OF_A_BUSY_MACHINE), (
                f"none is faster than {at_least} Mbit/s: {rates}"
            )
            rates.append(self.mbit_s(one, other))
        return rates


def stream_mbit_s(one: str | None, other: str | None, address: str) -> float:
    """The rate at which a stream from a namespace arrives at another's address, headers not counted."""
    listen = functools.partial(socket.create_server, (address, PORT))
    with inside(other, listen) as listener:
        sending = inside(one, lambda: socket.create_connection((address, PORT), timeout=60))
        receiving, _ = listener.accept()
    receiving.settimeout(20)
    sender = threading.Thread(target=_send, args=(sending,))
    started_s, received = time.monotonic(), 0
    sender.start()
    with receiving:
        while time.monotonic() < started_s + SECOND_S:
            received += len(receiving.recv(1 << 20))
        taken_s = time.monotonic() - started_s
    sender.join()
    return received * 8 / taken_s / 1e6


def _send(connection: socket.socket) -> None:
    """Send until the other end has had enough."""
    nothing = bytes(1 << 20)
    with connection:
        try:
            while True:
                connection.sendall(nothing)
        except OSError:
            return


@pytest.fixture
def lab() -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces: run `make test` as root")
    sweep(PREFIX)
    made = Lab()
    try:
        yield made
    finally:
        made.network.close()


@pytest.mark.parametrize("limit_mbit_s", [20, 100, 800])
def test_stream_gets_the_shaped_rate_and_not_more(lab: Lab, limit_mbit_s: int) -> None:
    lab.network.shape("a", limit_mbit_s)
    for one, other in (("a", "b"), ("b", "a")):
        rates = lab.rates_mbit_s(one, other, at_least=0.5 * limit_mbit_s)
        assert max(rates) < 1.15 * limit_mbit_s


def test_shaped_link_leaves_the_others_alone_and_is_free_again_without_a_limit(lab: Lab) -> None:
    lab.network.shape("a", 20)
    lab.rates_mbit_s("b", "c", at_least=200)
    lab.network.shape("a", 40)
    assert max(lab.rates_mbit_s("b", "a", at_least=20)) < 46
    lab.network.shape("a", None)
    lab.network.shape("a", None)
    lab.rates_mbit_s("a", "b", at_least=200)
    lab.rates_mbit_s("b", "a", at_least=200)


def test_cluster_shapes_a_nodes_link_by_its_name() -> None:
    with Cluster([Place(name="a"), Place(name="b")], containerd=False) as cluster:
        cluster.shape("a", 20)
        one, other = cluster.node("b"), cluster.node("a")
        assert 10 < stream_mbit_s(one.netns, other.netns, other.address) < 23


def test_links_of_a_cluster_without_namespaces_cannot_be_shaped() -> None:
    with (
        Cluster([Place(name="a")], real=False) as cluster,
        pytest.raises(LabError, match="can be shaped"),
    ):
        cluster.shape("a", 20)
