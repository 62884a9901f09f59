"""Latency as the kernel measures it decides who is nearest: real agents, delays made by a TAP switch.

The waits are the documented ones: a way that became longer is believed within `latency.window_s` plus
an interval and a refresh. Nothing here asserts how fast; only what is chosen once that time is over.
"""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab.cluster import ADMIN_PORT, Cluster, Node, Place
from benchmarks.lab.process import enter
from tests.server.agents import PATIENT
from topology.measuring import measuring_bytes_per_s

pytestmark = pytest.mark.e2e

LATENCY = {"interval_s": 0.25, "window_s": 2.0, "report_s": 0.5, "rotate_s": 60.0}
PATIENCE_S = 90.0  # a busy machine may need longer; the claim is what is chosen then

PLACES = [
    Place(name="asker", region="r", zone="a"),
    Place(name="one", region="r", zone="a"),
    Place(name="other", region="r", zone="a"),
    Place(name="b1", region="r", zone="b"),
    Place(name="b2", region="r", zone="b"),
    Place(name="stray"),
]
ZONES = {"asker": "a", "one": "a", "other": "a", "b1": "b", "b2": "b", "stray": "b"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two zones 1 ms apart, 0.3 ms inside of one; the stray node is in zone b and has no label."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces: run `make test` as root")
    with Cluster(PLACES, delays=True, containerd=False, settings=PATIENT) as made:
        lay_out(made)
        made.start_agents(latency=LATENCY)
        yield made


def lay_out(cluster: Cluster) -> None:
    for one, other in itertools.combinations(ZONES, 2):
        cluster.delays.set_delay(one, other, 300.0 if ZONES[one] == ZONES[other] else 1000.0)


@pytest.fixture
def asker(cluster: Cluster) -> Iterator[Node]:
    lay_out(cluster)
    yield cluster.node("asker")
    lay_out(cluster)


def eventually(claim: Callable[[], bool], what: Callable[[], object]) -> float:
    """Wait until the claim holds; how long that took, in seconds."""
    started_s = time.monotonic()
    while not claim():
        assert time.monotonic() - started_s < PATIENCE_S, what()
        time.sleep(0.1)
    return time.monotonic() - started_s


def topology(node: Node) -> dict[str, Any]:
    answer: dict[str, Any] = node.get("/api/topology", port=ADMIN_PORT).json()
    return answer


def seen(node: Node, name: str) -> dict[str, Any]:
    return next(entry for entry in topology(node)["nodes"] if entry["name"] == name)


def measured_us(node: Node, name: str) -> float:
    entry = seen(node, name)
    return float(entry["cost_us"]) if entry["source"] == "measured" else -1.0


def put(node: Node, content: bytes) -> str:
    """A blob in the node's layout; its digest once the agent knows of it."""
    digest = hashlib.sha256(content).hexdigest()
    path = node.layout / "blobs" / "sha256" / digest
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)
    explain = f"/api/explain?digest=sha256:{digest}"
    eventually(lambda: bool(node.get(explain, port=ADMIN_PORT).json()["local"]), lambda: "blob unnoticed")
    return f"sha256:{digest}"


def known_holders(asker: Node, digest: str) -> set[str]:
    """Who has a blob: the asker asks everybody for this, and a pull soon after uses the answers."""
    explained = asker.get(f"/api/explain?digest={digest}", port=ADMIN_PORT).json()
    return {holder["node"] for holder in explained["holders"]}


def source_of_a_pull(
    asker: Node, holders: list[Node], salt: str, told_apart: Callable[[], bool] = lambda: True
) -> str:
    """Which holder a pull of a blob that they all have comes from.

    A pull that asked a second holder does not count. The first one was late, as it may be on a busy machine,
    and the faster of the two has won. Nor does a pull count unless the asker's measurements tell the holders
    apart, before it and after it: a busy machine adds to a short round trip what a longer one has.
    """
    until_s = time.monotonic() + PATIENCE_S
    while True:
        hedges, before = asker.metric("shorthaul_hedges_total"), told_apart()
        source = source_of_any_pull(asker, holders, salt)
        if asker.metric("shorthaul_hedges_total") == hedges and before and told_apart():
            return source
        assert time.monotonic() < until_s, [seen(asker, holder.name) for holder in holders]


def source_of_any_pull(asker: Node, holders: list[Node], salt: str) -> str:
    content = f"{salt} {time.monotonic_ns()}".encode() * 100
    digests = {put(holder, content) for holder in holders}
    (digest,) = digests
    eventually(lambda: known_holders(asker, digest) == {holder.name for holder in holders}, lambda: digest)
    reply = asker.get(f"/v2/library/app/blobs/{digest}")
    assert reply.status == 200
    assert reply.body == content
    return reply.headers["Shorthaul-Source"].partition(";")[0].removeprefix("node=")


def settle(asker: Node, near: str, far: str, far_us: float) -> None:
    """Wait until the asker's measurements show the delays that were set."""
    eventually(
        lambda: measured_us(asker, far) > far_us * 0.9 and 0 < measured_us(asker, near) < far_us * 0.75,
        lambda: [seen(asker, near), seen(asker, far)],
    )


@pytest.mark.parametrize(("near_us", "far_us"), [(300.0, 5300.0), (300.0, 1000.0)])
def test_nearer_of_two_equally_labelled_nodes_is_chosen_and_a_swap_of_the_delays_swaps_the_choice(
    cluster: Cluster, asker: Node, near_us: float, far_us: float
) -> None:
    holders = [cluster.node("one"), cluster.node("other")]
    for near, far in (("one", "other"), ("other", "one")):
        cluster.delays.set_delay("asker", near, near_us)
        cluster.delays.set_delay("asker", far, far_us)
        settle(asker, near, far, far_us)

        def told_apart(near: str = near, far: str = far) -> bool:
            return 0 < 2 * measured_us(asker, near) < measured_us(asker, far)

        salts = (f"{near_us} {number}" for number in range(8))
        assert {source_of_a_pull(asker, holders, salt, told_apart) for salt in salts} == {near}


def test_pulls_measure_as_well_at_both_ends(cluster: Cluster, asker: Node) -> None:
    holder = cluster.node("b1")
    source_of_a_pull(asker, [holder], "measured in passing")
    assert asker.metric("shorthaul_rtt_samples_total", source="connection") > 0
    eventually(
        lambda: holder.metric("shorthaul_rtt_samples_total", source="upload") > 0, lambda: topology(holder)
    )


def test_choice_says_what_it_rests_on(cluster: Cluster, asker: Node) -> None:
    cluster.delays.set_delay("asker", "other", 5300.0)
    settle(asker, "one", "other", 5300.0)
    content = b"explained" * 50
    digests = {put(cluster.node(name), content) for name in ("one", "other", "b1")}
    explained = asker.get(f"/api/explain?digest={digests.pop()}", port=ADMIN_PORT).json()
    assert [(holder["node"], holder["tier"]) for holder in explained["holders"]] == [
        ("one", "zone"),
        ("other", "zone"),
        ("b1", "region"),
    ]
    assert explained["choice"] == "one"
    assert all("samples" in holder["reason"] for holder in explained["holders"])


def test_holder_of_the_own_zone_comes_first_though_another_zone_is_measured_nearer(
    cluster: Cluster, asker: Node
) -> None:
    cluster.delays.set_delay("asker", "one", 5300.0)
    settle(asker, "b1", "one", 5300.0)
    holders = [cluster.node("one"), cluster.node("b1")]
    assert source_of_a_pull(asker, holders, "tier first") == "one"


def test_node_without_labels_ends_up_in_the_zone_that_latency_puts_it_in(cluster: Cluster) -> None:
    for name in ("asker", "b1", "stray"):
        node = cluster.node(name)
        eventually(
            lambda node=node: ["zone", "b"] in seen(node, "stray")["placement"],  # type: ignore[misc]
            lambda node=node: topology(node),  # type: ignore[misc]
        )
        assert seen(node, "stray")["inferred"]
        assert not seen(node, "b2")["inferred"]
    assert seen(cluster.node("b1"), "stray")["tier"] == "zone"
    assert seen(cluster.node("asker"), "stray")["tier"] == "region"


def test_node_whose_latency_contradicts_its_label_is_listed_as_suspect(cluster: Cluster, asker: Node) -> None:
    for name in ("asker", "one"):
        cluster.delays.set_delay(name, "other", 5300.0)
    eventually(lambda: seen(asker, "other")["suspect"] is not None, lambda: topology(asker))
    assert "labelled zone r/a" in seen(asker, "other")["suspect"]
    lay_out(cluster)
    eventually(lambda: seen(asker, "other")["suspect"] is None, lambda: topology(asker))


def test_kernel_measures_the_way_and_not_the_peers_process(cluster: Cluster, asker: Node) -> None:
    settle(asker, "one", "b1", 1000.0)
    frozen = cluster.node("one")
    samples = asker.metric("shorthaul_latency_measurements_total", result="measured")
    os.kill(frozen.agent.pid, signal.SIGSTOP)
    try:
        eventually(
            lambda: asker.metric("shorthaul_latency_measurements_total", result="measured") > samples + 40,
            lambda: seen(asker, "one"),
        )
        assert 0 < measured_us(asker, "one") < 1000.0
    finally:
        os.kill(frozen.agent.pid, signal.SIGCONT)


def test_zone_of_which_nothing_was_measured_is_known_from_what_peers_tell(
    cluster: Cluster, asker: Node
) -> None:
    def inside_b() -> str | None:
        seen_now = topology(asker)
        place = [zone["zone"] for zone in seen_now["zones"]].index("b")
        source: str | None = seen_now["matrix_source"][place][place]
        return source

    eventually(lambda: inside_b() == "told", lambda: topology(asker))


def test_probing_stays_within_the_stated_bytes(cluster: Cluster, asker: Node) -> None:
    def wire_bytes() -> int:
        shown = subprocess.run(
            [*enter(asker.netns), "cat", "/proc/net/dev"], capture_output=True, text=True, check=True
        )
        line = next(line for line in shown.stdout.splitlines() if line.strip().startswith("eth0:"))
        fields = line.partition(":")[2].split()
        return int(fields[0]) + int(fields[8])

    peers = len(PLACES) - 1
    eventually(lambda: asker.metric("shorthaul_latency_connections") == peers, lambda: topology(asker))
    before, started_s = wire_bytes(), time.monotonic()
    time.sleep(3.0)
    per_s = (wire_bytes() - before) / (time.monotonic() - started_s)
    stated = measuring_bytes_per_s(
        peers,
        interval_s=LATENCY["interval_s"],
        report_s=LATENCY["report_s"],
        rotate_s=LATENCY["rotate_s"],
        zones=2,
    )
    # The peers measure this node as well; what else there is on this wire is ARP.
    assert per_s < 2 * stated + 500


def test_unreachable_peer_costs_probes_and_nothing_else(cluster: Cluster, asker: Node) -> None:
    cluster.delays.set_delay("asker", "b2", 9_000_000.0)
    lost = asker.metric("shorthaul_latency_measurements_total", result="lost")
    eventually(
        lambda: asker.metric("shorthaul_latency_measurements_total", result="lost") > lost + 2,
        lambda: topology(asker),
    )
    assert asker.get("/readyz", port=ADMIN_PORT).status == 200
    answer = asker.get("/api/topology", port=ADMIN_PORT).body
    json.loads(answer, parse_constant=lambda constant: pytest.fail(f"{constant} in the answer"))


def shorthaul(node: Node, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).parent / "shorthaul"), *arguments]
    return subprocess.run(
        [*enter(node.netns), *command], capture_output=True, text=True, check=False, timeout=60
    )


def test_commands_show_the_topology_of_a_running_agent(cluster: Cluster, asker: Node, tmp_path: Path) -> None:
    tree = shorthaul(asker, "topology")
    assert tree.returncode == 0, tree.stderr
    assert all(name in tree.stdout for name in ZONES)
    assert json.loads(shorthaul(asker, "topology", "--json").stdout)["node"] == "asker"
    assert shorthaul(asker, "topology", "--dot").stdout.lstrip().startswith(("digraph", "graph", "strict"))
    picture = tmp_path / "topology.png"
    drawn = shorthaul(asker, "topology", "--png", str(picture))
    assert drawn.returncode == 0, drawn.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "r/a" in shorthaul(asker, "topology", "matrix").stdout
    digest = put(cluster.node("one"), b"to be explained" * 9)
    explained = shorthaul(asker, "explain", digest)
    assert explained.returncode == 0, explained.stderr
    assert "one" in explained.stdout
