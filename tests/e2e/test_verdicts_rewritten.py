"""Where another eBPF program rewrites connect(), as socket-level load balancing does: never DIRECT."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.flows.verdicts import Verdict
from bpf.errors import BpfUnsupported
from tests.e2e.verdicts import (
    DIRECT_URL,
    HOST_PORT,
    VIP,
    VIP_PORT,
    How,
    Node,
    Rewriter,
    make_node,
    until,
    verdicts,
    went,
)

pytestmark = pytest.mark.e2e

CLUSTER_IP = f"{VIP}:{VIP_PORT}"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces, containerd and eBPF: run `make test` as root")
    with make_node("lb") as made:
        yield made


@pytest.fixture(scope="module")
def rewriter(node: Node) -> Iterator[Rewriter]:
    with Rewriter(node.scene.node.address) as made:
        yield made


def where(node: Node, place: str) -> Path:
    """``all``: the whole node's cgroup, where Cilium is; ``containerd``: that of containerd alone."""
    return node.scene.cgroup / {"all": "", "containerd": "containerd"}[place]


WAYS = [("all", "link"), ("all", "multi"), ("containerd", "link"), ("containerd", "multi")]


@pytest.mark.parametrize(("place", "how"), WAYS)
@pytest.mark.parametrize("program", ["to_loopback", "to_node"])
def test_rewritten_connect_is_socket_lb(
    node: Node, rewriter: Rewriter, place: str, how: How, program: str
) -> None:
    with rewriter.attached(where(node, place), program, how):
        judged = node.pull(CLUSTER_IP, by=node.host)
        assert verdicts(judged) == {Verdict.SOCKET_LB}
        assert went(judged) == {DIRECT_URL if program == "to_loopback" else node.host.service}
        assert verdicts(node.pull(DIRECT_URL, by=node.host)) == {Verdict.DIRECT}, "it lets that one alone"


@pytest.mark.parametrize(
    ("place", "how"), [("all", "multi"), ("containerd", "link"), ("containerd", "preorder")]
)
def test_rewriter_that_was_there_before_the_probe_is_seen_as_well(
    node: Node, rewriter: Rewriter, place: str, how: How
) -> None:
    with rewriter.attached(where(node, place), how=how), node.scene.probe() as probe:
        assert verdicts(node.scene.pull(node.containerd, CLUSTER_IP, probe)) == {Verdict.SOCKET_LB}
        assert verdicts(node.scene.pull(node.containerd, DIRECT_URL, probe)) == {Verdict.DIRECT}


def test_nothing_is_direct_behind_a_program_in_front_of_the_probes(node: Node, rewriter: Rewriter) -> None:
    with rewriter.attached(node.scene.cgroup, how="preorder"), node.scene.probe() as probe:
        for asked in (CLUSTER_IP, DIRECT_URL):  # the first looks like the second by then
            node.containerd.use_mirrors("registry.demo", node.scene.registry.endpoint, [asked])
            with node.scene.judging(probe, DIRECT_URL) as judged:
                node.containerd.pull(node.scene.image())
            assert verdicts(judged) == {Verdict.UNKNOWN}
        until(lambda: probe.tail.health.sure_of_intent is False, "the probe says so")
        assert Verdict.DIRECT not in {flow.verdict for flow in probe.tail.history}


def test_verify_beside_a_probe_is_not_deceived_by_a_program_between_them(node: Node) -> None:
    address = node.scene.node.address
    with (
        Rewriter(address, asked=(address, HOST_PORT)) as rewriter,
        rewriter.attached(node.scene.cgroup, "to_loopback", "preorder"),
    ):
        status, found = node.scene.verify(endpoints=[f"{address}:{HOST_PORT}"])
    assert (status, found["proved"]) == (1, False)
    assert found["canaries"][0]["verdict"] in ("UNKNOWN", "SOCKET_LB")


def test_program_that_gets_in_front_later_makes_nothing_direct(node: Node, rewriter: Rewriter) -> None:
    with node.scene.probe() as probe:
        probe.tail.wait(lambda: probe.tail.health.canaries, "the first canaries")
        try:
            with rewriter.attached(node.scene.cgroup, how="front"):
                node.containerd.use_mirrors("registry.demo", node.scene.registry.endpoint, [CLUSTER_IP])
                with node.scene.judging(probe, DIRECT_URL) as judged:
                    node.containerd.pull(node.scene.image())
                assert verdicts(judged) <= {Verdict.UNKNOWN, Verdict.SOCKET_LB}
        except BpfUnsupported:
            return  # before Linux 6.17 nothing can get in front


def test_rewritten_flow_that_is_older_than_the_probe_is_never_direct(node: Node, rewriter: Rewriter) -> None:
    with (
        rewriter.attached(node.scene.cgroup),
        node.scene.asker(VIP, VIP_PORT) as asker,
        node.scene.probe() as probe,
    ):
        probe.tail.wait(lambda: probe.tail.health.canaries, "the first canaries")
        assert asker.ask() == 200
        assert {flow.verdict for flow in probe.tail.of_client(asker.way)} == {Verdict.UNKNOWN}


def test_connect_to_what_nobody_watches_is_never_direct(node: Node) -> None:
    """It is sent to the HostPort by a program; its connect() was not looked at."""
    with (
        Rewriter(node.scene.node.address, asked=(VIP, 9999)) as rewriter,
        rewriter.attached(where(node, "all"), how="multi"),
        node.scene.asker(VIP, 9999) as asker,
    ):
        assert asker.ask() == 200
        told = until(lambda: node.probe.tail.of_client(asker.way), "its verdict")
        assert {flow.verdict for flow in told} == {Verdict.UNKNOWN}


def test_verify_proves_nothing_where_other_programs_run_for_containerd(
    node: Node, rewriter: Rewriter
) -> None:
    with rewriter.attached(where(node, "containerd")):
        status, found = node.scene.verify()
    assert status == 1
    assert "containerd's connect()" in found["why"]


# Kernels before 6.15


def test_older_kernels_read_intent_in_containerds_cgroup(node: Node, rewriter: Rewriter) -> None:
    with node.scene.probe_of_older_kernels() as tail:
        assert verdicts(node.scene.pull(node.containerd, DIRECT_URL, tail)) == {Verdict.DIRECT}
        for place in ("all", "containerd"):
            with rewriter.attached(where(node, place)):
                assert verdicts(node.scene.pull(node.containerd, CLUSTER_IP, tail)) == {Verdict.SOCKET_LB}


def test_older_kernels_read_intent_before_a_program_that_was_there_further_up(
    node: Node, rewriter: Rewriter
) -> None:
    with rewriter.attached(node.scene.cgroup, how="multi"), node.scene.probe_of_older_kernels() as tail:
        assert verdicts(node.scene.pull(node.containerd, CLUSTER_IP, tail)) == {Verdict.SOCKET_LB}
        assert verdicts(node.scene.pull(node.containerd, DIRECT_URL, tail)) == {Verdict.DIRECT}
        # Not containerd: its intent is read behind the rewriter.
        with node.scene.asker(VIP, VIP_PORT) as rewritten, node.scene.asker("127.0.0.1", HOST_PORT) as direct:
            for asker in (rewritten, direct):
                assert asker.ask() == 200
                assert {flow.verdict for flow in tail.of_client(asker.way)} == {Verdict.UNKNOWN}


def test_older_kernels_are_unsure_of_a_program_that_was_in_containerds_cgroup_before(
    node: Node, rewriter: Rewriter
) -> None:
    with (
        rewriter.attached(where(node, "containerd"), how="multi"),
        node.scene.probe_of_older_kernels() as tail,
    ):
        node.containerd.use_mirrors("registry.demo", node.scene.registry.endpoint, [CLUSTER_IP])
        with node.scene.judging(tail, DIRECT_URL) as judged:
            node.containerd.pull(node.scene.image())
        assert verdicts(judged) == {Verdict.UNKNOWN}


# All in all


def test_every_connection_that_conntrack_saw_was_told_of_and_rightly(node: Node) -> None:
    found = node.scene.compare_all(node.probe, since=node.seen)
    assert min(found[Verdict.DIRECT], found[Verdict.SOCKET_LB]) > 0
    assert node.probe.tail.error is None
    assert node.scene.watcher.overruns == 0
