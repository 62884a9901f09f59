"""Agents that find each other through a Kubernetes API server: the double, over real sockets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from benchmarks.lab.apiserver import NODES, Pod, ThreadedApiServer, node_object
from tests.server.agents import ADMIN, PEER, Node, Site, wait_for
from topology.labels import REGION_LABEL, ZONE_LABEL

QUICK = {"report_s": 0.5, "rotate_s": 5.0, "interval_s": 0.5, "window_s": 5.0}


@dataclass
class Cluster:
    """Three agents in two zones, and what the API server says of them."""

    api: ThreadedApiServer
    nodes: dict[str, Node]
    zones: dict[str, str]

    def label(self, name: str, **labels: str) -> None:
        """The labels of a Node."""
        document = node_object(name, {REGION_LABEL: "eu", ZONE_LABEL: self.zones[name], **labels})
        self.api.do(lambda server: server.put(NODES, document))

    def list(self, *names: str, stops: str | None = None) -> None:
        """The agents in the slices."""
        pods = [
            Pod(
                node=name,
                address=self.nodes[name].address,
                zone=self.zones[name],
                ready=name != stops,
                serving=True,
                terminating=name == stops,
            )
            for name in names
        ]
        self.api.do(lambda server: server.put_slices(pods, each=2, port=PEER))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Site() as site, ThreadedApiServer(bookmark_s=1.0) as api:
        membership = {"kubernetes": {"api": api.url}}
        zones = {"n1": "a", "n2": "a", "n3": "b"}
        nodes = {
            name: site.add(name, placement={}, membership=membership, latency=QUICK, zone=zone)
            for name, zone in zones.items()
        }
        made = Cluster(api=api, nodes=nodes, zones=zones)
        for name in nodes:
            made.label(name, rack="1")
        made.list(*nodes)
        site.start()
        yield made


def seen(node: Node) -> dict[str, dict[str, Any]]:
    """The nodes, as an agent sees them."""
    return {entry["name"]: entry for entry in node.ask("/api/topology", port=ADMIN).json()["nodes"]}


def tiers(node: Node) -> dict[str, str]:
    return {name: entry["tier"] for name, entry in seen(node).items()}


def problems(node: Node) -> str:
    return str(node.ask("/api/topology", port=ADMIN).json()["problems"])


def test_region_and_rack_of_the_others_travel_between_agents_and_nobody_reads_their_nodes(
    cluster: Cluster,
) -> None:
    n1 = cluster.nodes["n1"]
    wait_for(lambda: tiers(n1) == {"n1": "node", "n2": "rack", "n3": "region"}, f"the tiers, not {tiers(n1)}")
    assert problems(n1) == "[]"
    asked = {path for path, _ in cluster.api.asked.queries if path.startswith("/api/v1/nodes/")}
    assert asked == {f"/api/v1/nodes/{name}" for name in cluster.nodes}  # each its own, once
    assert cluster.api.asked.lists[NODES] == 3


def test_blob_comes_from_the_peer_that_the_slices_name(cluster: Cluster) -> None:
    content = b"of a layer" * 100_000
    cluster.nodes["n2"].put(content)
    cluster.nodes["n1"].wait_for_holders(content, {"n2"})
    assert cluster.nodes["n1"].blob(content).body == content


def test_label_that_changes_while_the_agents_run_is_followed_here_and_there(cluster: Cluster) -> None:
    cluster.label("n1", rack="2")
    n1, n2 = cluster.nodes["n1"], cluster.nodes["n2"]
    wait_for(lambda: tiers(n1)["n2"] == "zone", "its own label")
    wait_for(lambda: tiers(n2)["n1"] == "zone", "the label that n1 tells")
    cluster.label("n1", rack="1")
    wait_for(lambda: tiers(n1)["n2"] == tiers(n2)["n1"] == "rack", "both see it again")


def test_agent_that_stops_is_no_peer_any_more(cluster: Cluster) -> None:
    n1 = cluster.nodes["n1"]
    cluster.list("n1", "n2", "n3", stops="n3")
    wait_for(lambda: set(seen(n1)) == {"n1", "n2"}, "n3 has left")
    cluster.list("n1", "n2", "n3")
    wait_for(lambda: set(seen(n1)) == {"n1", "n2", "n3"}, "n3 is back")


def test_api_server_that_is_away_is_said_and_costs_neither_readiness_nor_a_peer(cluster: Cluster) -> None:
    n1 = cluster.nodes["n1"]
    cluster.api.stop()
    try:
        wait_for(lambda: "refused" in n1.ask("/readyz?verbose", port=ADMIN).body.decode(), "its detail")
        assert "[!] the membership: " in n1.ask("/readyz?verbose", port=ADMIN).body.decode()
        assert n1.ask("/readyz", port=ADMIN).status == 200
        wait_for(lambda: n1.metric("shorthaul_api_server_silent_seconds") > 2.5, "a gauge")
        wait_for(lambda: "does not work" in n1.log.read_text(), "a line of the log")
        content = b"while it is away" * 50_000
        cluster.nodes["n2"].put(content)
        n1.wait_for_holders(content, {"n2"})
        assert n1.blob(content).body == content
    finally:
        cluster.list("n1", "n2")
        cluster.api.start()
    wait_for(lambda: set(seen(n1)) == {"n1", "n2"}, "what changed meanwhile")
    assert "[+] the membership: 1 peers" in n1.ask("/readyz?verbose", port=ADMIN).body.decode()
    wait_for(lambda: n1.metric("shorthaul_api_server_silent_seconds") < 2.5, "the gauge")
    cluster.list("n1", "n2", "n3")
    wait_for(lambda: set(seen(n1)) == {"n1", "n2", "n3"}, "n3 is back")


def test_agent_with_this_membership_is_small(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        assert psutil.Process(node.process.pid).memory_info().rss < 84 << 20


def test_agents_that_vanish_together_stay_peers_and_that_is_a_problem(cluster: Cluster) -> None:
    n1 = cluster.nodes["n1"]
    cluster.list("n1")
    wait_for(lambda: "2 agents vanished" in problems(n1), "a problem")
    assert set(seen(n1)) == {"n1", "n2", "n3"}
    cluster.list("n1", "n2", "n3")
    wait_for(lambda: problems(n1) == "[]", "all is well again")
