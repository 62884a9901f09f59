"""What the kernel makes of the lab's delays, over real sockets in real namespaces."""

import functools
import hashlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import yaml

from benchmarks.lab.cluster import REGISTRY, Cluster, Place
from benchmarks.lab.image import build_image
from benchmarks.lab.network import inside, sweep
from benchmarks.lab.process import LabError, run
from benchmarks.lab.switch import DelayNetwork

pytestmark = pytest.mark.e2e

PREFIX = "shlab"
HOSTS = {"a": "10.9.1.1", "b": "10.9.2.1", "c": "10.9.3.1"}
PORT = 5000
NEAR_US = 2000  # no delay at all stays well below, also on a busy machine
MORE_US = 4000  # what a busy machine may add to a delay

# Run as another process, which is then killed: a network, and word of it.
_MAKER = """
import os, time
from benchmarks.lab.switch import DelayNetwork
network = DelayNetwork(f"{prefix}-{{os.getpid()}}")
network.add_host("a", "10.9.1.1")
print(network.switch_pid, flush=True)
time.sleep(600)
"""


class Lab:
    """Three hosts that listen."""

    def __init__(self) -> None:
        self.network = DelayNetwork(f"{PREFIX}-{os.getpid()}-switch")
        self.netns: dict[str, str] = {}
        self.listeners: dict[str, socket.socket] = {}
        for name, address in HOSTS.items():
            self.netns[name] = self.network.add_host(name, address)
            listen = functools.partial(socket.create_server, (address, PORT), backlog=128)
            self.listeners[name] = inside(self.netns[name], listen)

    def connect(self, one: str, other: str) -> socket.socket:
        """A new connection. Nobody needs to accept it: the kernel answers the handshake."""
        target = (HOSTS[other], PORT)
        return inside(self.netns[one], lambda: socket.create_connection(target, timeout=60))

    def rtts_us(self, one: str, other: str, count: int = 5) -> list[int]:
        """What the kernel takes for the round-trip time right after each of some handshakes (tcpi_rtt)."""
        found = []
        for _ in range(count):
            with self.connect(one, other) as connection:
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
            rtt_us, min_rtt_us = (struct.unpack_from("=I", info, offset)[0] for offset in (68, 148))
            assert min_rtt_us <= rtt_us
            found.append(rtt_us)
        return found

    def close(self) -> None:
        """Remove it all."""
        for listener in self.listeners.values():
            listener.close()
        self.network.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and TAP devices: run `make test` as root")
    sweep(PREFIX)
    made = Lab()
    try:
        yield made
    finally:
        made.close()


def has_about(found_us: list[int], rtt_us: float) -> bool:
    """No handshake was shorter, and at least the best was hardly longer."""
    return rtt_us <= min(found_us) < rtt_us + MORE_US


def until(condition: Callable[[], bool], what: str, at_most_s: float = 60.0) -> None:
    """Wait for a condition, with a bound that only a failure reaches."""
    end_s = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {at_most_s} s: {what}"
        time.sleep(0.01)


def exists(pid: int) -> bool:
    """Whether there is a process of that id, other than one that only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def namespaces(beginning: str) -> list[str]:
    """The namespaces whose names begin so."""
    return [entry.name for entry in Path("/run/netns").iterdir() if entry.name.startswith(f"{beginning}-")]


def test_kernel_sees_hardly_any_time_between_hosts_without_a_delay(lab: Lab) -> None:
    assert min(lab.rtts_us("a", "b")) < NEAR_US


def test_kernel_sees_the_delay_in_the_first_connection_of_all_and_in_later_ones(lab: Lab) -> None:
    lab.network.set_delay("a", "b", 5000)
    assert has_about(lab.rtts_us("a", "b", 1), 5000)
    assert has_about(lab.rtts_us("a", "b"), 5000)
    assert has_about(lab.rtts_us("b", "a"), 5000)


def test_changed_delay_acts_on_new_connections(lab: Lab) -> None:
    for rtt_us in (20_000, 5000, 40_000):
        lab.network.set_delay("a", "b", rtt_us)
        assert has_about(lab.rtts_us("a", "b"), rtt_us)
    lab.network.set_delay("a", "b", 0)
    assert min(lab.rtts_us("a", "b")) < NEAR_US


def test_delay_of_one_pair_leaves_the_others_alone(lab: Lab) -> None:
    lab.network.set_delay("a", "b", 20_000)
    assert min(lab.rtts_us("a", "c")) < NEAR_US
    assert min(lab.rtts_us("c", "b")) < NEAR_US
    assert has_about(lab.rtts_us("a", "b"), 20_000)


def test_pair_goes_before_the_delay_of_all_and_a_hosts_delay_is_added_to_both(lab: Lab) -> None:
    lab.network.set_delay_all(10_000)
    lab.network.set_delay("a", "b", 20_000)
    lab.network.set_host_delay("b", 5000)
    assert has_about(lab.rtts_us("a", "c"), 10_000)
    assert has_about(lab.rtts_us("a", "b"), 25_000)
    assert has_about(lab.rtts_us("c", "b"), 15_000)


def test_delay_of_all_holds_for_a_host_that_comes_later(lab: Lab) -> None:
    lab.network.set_delay_all(10_000)
    netns = lab.network.add_host("d", "10.9.4.1")
    lab.netns["d"] = netns
    assert has_about(lab.rtts_us("d", "a"), 10_000)


@pytest.mark.parametrize("spread", [{"jitter_us": 5000}, {"spike_share": 1.0, "spike_us": 20_000}])
def test_kernel_sees_jitter_and_spikes(lab: Lab, spread: dict[str, float]) -> None:
    lab.network.set_delay("a", "b", 1000, **spread)
    found_us = lab.rtts_us("a", "b", 30)
    assert min(found_us) >= 1000
    assert max(found_us) - min(found_us) > 1000


def test_datagrams_arrive_in_their_order_under_jitter_and_changing_delays(lab: Lab) -> None:
    def make(address: str) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**21)
        made.settimeout(20)
        made.bind((address, PORT))
        return made

    lab.rtts_us("a", "b", 1)  # what waits for an ARP answer is overtaken in the sender's own kernel
    numbers = list(range(600))
    source = inside(lab.netns["a"], lambda: make(HOSTS["a"]))
    target = inside(lab.netns["b"], lambda: make(HOSTS["b"]))
    with source, target:
        for number in numbers:
            if number % 200 == 0:
                rtt_us = 20_000 - 50 * number
                lab.network.set_delay("a", "b", rtt_us, jitter_us=2000, spike_share=0.05, spike_us=10_000)
            source.sendto(number.to_bytes(4, "big"), (HOSTS["b"], PORT))
        assert [int.from_bytes(target.recv(64), "big") for _ in numbers] == numbers


def test_stream_arrives_whole_over_a_delay(lab: Lab) -> None:
    lab.network.set_delay("a", "b", 3000, jitter_us=300)
    _stream(lab, Random(1).randbytes(20_000_000))


def test_limited_host_sends_no_faster_and_others_do_not_notice(lab: Lab) -> None:
    lab.network.limit("a", 80)
    sent = bytes(5_000_000)
    took_s = _stream(lab, sent)
    burst_bytes = 128 * 1024  # passes at once
    assert took_s > 0.95 * (len(sent) - burst_bytes) * 8 / 80e6
    listed = {name: run(["tc", "-n", lab.netns[name], "qdisc", "show", "dev", "eth0"]) for name in HOSTS}
    assert [name for name, text in listed.items() if "tbf" in text] == ["a"]
    with pytest.raises(LabError, match="no host"):
        lab.network.limit("x", 80)


def _stream(lab: Lab, sent: bytes) -> float:
    """Send this from a to b, and hold what arrives against it. Returns how many seconds it took."""
    received, began_s = hashlib.sha256(), time.monotonic()

    def receive() -> None:
        connection, _ = lab.listeners["b"].accept()
        with connection:
            while data := connection.recv(2**20):
                received.update(data)

    thread = threading.Thread(target=receive)
    thread.start()
    with lab.connect("a", "b") as connection:
        connection.sendall(sent)
    thread.join()
    assert received.digest() == hashlib.sha256(sent).digest()
    return time.monotonic() - began_s


def test_actual_round_trip_is_what_was_set_and_hardly_more(lab: Lab) -> None:
    for rtt_us in (0, 3000, 10_000):
        lab.network.set_delay("a", "b", rtt_us)
        found_us = lab.rtts_us("a", "b", 10)
        actual_us = lab.network.actual_rtt_us("a", "b")
        assert rtt_us <= actual_us < rtt_us + MORE_US
        assert actual_us == pytest.approx(sorted(found_us)[5], abs=MORE_US)
        assert lab.network.actual_rtt_us("b", "a") == pytest.approx(actual_us, abs=MORE_US)


def test_actual_round_trip_to_a_host_whose_interface_is_gone_is_unknown(lab: Lab) -> None:
    def is_unknown() -> bool:
        try:
            lab.network.actual_rtt_us("a", "c")
        except LabError as error:
            return "no frames" in str(error)
        return False

    lab.rtts_us("a", "c")
    assert not is_unknown()
    run(["ip", "-n", lab.netns["c"], "link", "del", "eth0"])
    until(is_unknown, "the switch notices")


@pytest.mark.parametrize("pair", [("a", "x"), ("x", "a"), ("a", "a")])
def test_pair_that_is_none_is_refused(lab: Lab, pair: tuple[str, str]) -> None:
    with pytest.raises(LabError, match="no pair of hosts"):
        lab.network.set_delay(*pair, 1000)


@pytest.mark.parametrize(
    "wrong", [{"rtt_us": -1}, {"rtt_us": 1, "jitter_us": -1}, {"rtt_us": 1, "spike_share": 2}]
)
def test_delay_that_can_not_be_is_refused_and_changes_nothing(lab: Lab, wrong: dict[str, float]) -> None:
    with pytest.raises(LabError, match="not negative"):
        lab.network.set_delay("a", "b", **wrong)
    assert min(lab.rtts_us("a", "b")) < NEAR_US


def test_interface_that_goes_down_or_away_leaves_the_other_hosts_connected(lab: Lab) -> None:
    lab.rtts_us("a", "c")
    run(["ip", "-n", lab.netns["c"], "link", "set", "eth0", "down"])
    with pytest.raises(OSError, match="timed out"):
        inside(lab.netns["a"], lambda: socket.create_connection((HOSTS["c"], PORT), timeout=0.2))
    run(["ip", "-n", lab.netns["c"], "link", "del", "eth0"])
    with pytest.raises(OSError, match="timed out"):
        inside(lab.netns["a"], lambda: socket.create_connection((HOSTS["c"], PORT), timeout=0.2))
    assert min(lab.rtts_us("a", "b")) < NEAR_US


def test_closing_removes_namespaces_and_switch_also_when_done_twice(lab: Lab) -> None:
    lab.rtts_us("a", "b")
    assert len(namespaces(f"{PREFIX}-{os.getpid()}-switch")) == len(HOSTS)
    lab.network.close()
    lab.network.close()
    assert namespaces(f"{PREFIX}-{os.getpid()}-switch") == []
    assert not exists(lab.network.switch_pid)
    with pytest.raises(LabError, match="does not answer"):
        lab.network.set_delay_all(1000)


def test_closing_removes_the_namespaces_also_when_the_switch_was_killed(lab: Lab) -> None:
    os.kill(lab.network.switch_pid, signal.SIGKILL)
    with pytest.raises(LabError):
        lab.network.set_delay("a", "b", 1000)
    lab.network.close()
    assert namespaces(f"{PREFIX}-{os.getpid()}-switch") == []


@pytest.mark.usefixtures("lab")
def test_switch_dies_with_its_maker_and_the_namespaces_can_be_swept() -> None:
    command = [sys.executable, "-c", _MAKER.format(prefix=PREFIX)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as maker:
        assert maker.stdout is not None
        switch_pid = int(maker.stdout.readline())
        assert exists(switch_pid)
        assert namespaces(f"{PREFIX}-{maker.pid}") == [f"{PREFIX}-{maker.pid}-a"]
        maker.kill()
    until(lambda: not exists(switch_pid), "the switch ends")
    sweep(PREFIX)
    assert namespaces(f"{PREFIX}-{maker.pid}") == []


@pytest.mark.usefixtures("lab")
def test_cluster_of_layouts_pulls_over_delays_and_takes_nodes_without_labels() -> None:
    nodes = [Place(name="a1", region="r1", zone="a"), Place(name="n1")]
    with Cluster(nodes, delays=True, containerd=False) as cluster:
        cluster.delays.set_delay("a1", "n1", 20_000)
        cluster.start_agents()
        image = build_image(cluster.folder / "image", layer_bytes=[100_000], seed=1)
        cluster.registry.push(image, "lab/app", "v1")
        reference = f"{REGISTRY}/lab/app@{image.manifest}"
        cluster.node("a1").pull(reference)
        cluster.node("n1").pull(reference)
        for name in ("a1", "n1"):
            blobs = (cluster.node(name).layout / "blobs/sha256").iterdir()
            assert {f"sha256:{blob.name}" for blob in blobs} == set(image.blobs)
        sources = {entry["node"] for entry in cluster.node("n1").requests() if entry["kind"] == "blob"}
        assert sources == {"a1"}
        assert cluster.delays.actual_rtt_us("a1", "n1") >= 20_000
        assert cluster.node("n1").settings["placement"] == {}
        assert set(yaml.safe_load(cluster.members.read_text())[1]) == {"name", "address", "port"}


def test_cluster_without_delays_says_so() -> None:
    with pytest.raises(LabError, match="delays=True"):
        Cluster([]).delays  # noqa: B018 - asking is what is tested
    with pytest.raises(LabError, match="real=True"):
        Cluster([], real=False, delays=True)
