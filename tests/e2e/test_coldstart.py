"""Real containerds of three versions pull at once what none of their nodes has.

The registry's own log says who fetched what, and the kernel counts the bytes on every link. The registry's
link is limited, so that nodes which ask at the same time also wait at the same time.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.chunks.rows import Chunks
from benchmarks.chunks.stage import MIB
from benchmarks.coldstart.fleet import Fleet, Outcome, Release
from benchmarks.coldstart.rows import Blow, Trouble, Way
from benchmarks.lab.cluster import Cluster, places
from tests.server.agents import PATIENT

pytestmark = pytest.mark.e2e

_VERSIONS = ("2.1", "1.6", "2.1", "2.1", "1.7", "2.1")
_ZONES = 2
_LINK_MBIT_S = 200
_LAYERS_BYTES = [8 * MIB, 5 * MIB, MIB]
_SETTINGS: dict[str, Any] = {
    **PATIENT,
    # So long a loaded machine may take to begin. No test waits for these times to pass.
    "cold_start": {"claim_wait_s": 60.0, "claim_start_s": 20.0},
    "scrub": {"bytes_per_s": 0},
}
_CONSTANT_BYTES = 1 << 20
"""Questions and answers of all agents, round trips that are measured, heads, what TCP sends again."""


@pytest.fixture(scope="module")
def idle() -> Iterator[Fleet]:
    """Three nodes in each of two zones, without agents."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with Cluster(places({"r1": ["a", "b"]}, 3), versions=_VERSIONS) as cluster:
        cluster.shape("registry", _LINK_MBIT_S)
        yield Fleet(cluster, _SETTINGS, pull_s=120.0)


@pytest.fixture(scope="module")
def fleet(idle: Fleet) -> Iterator[Fleet]:
    """The same with agents. A test may end some of them: see `_well`."""
    with idle.ready(Way.ZONE):
        yield idle


def _well(fleet: Fleet) -> list[str]:
    return [node.name for node in fleet.nodes if node.runs_agent]


def _late(outcome: Outcome) -> int:
    """How many claims ended because an agent did not run for seconds, as on a busy machine. Usually none."""
    return outcome.claims.get("lost", 0) + outcome.claims.get("timeout", 0)


def _assert_asked_once(outcome: Outcome, release: Release) -> None:
    assert outcome.failures == ()
    assert outcome.fetches.manifest_gets_most <= 1 + _late(outcome)
    assert outcome.fetches.blob_nodes_most <= 1 + _late(outcome)
    asked = {digest for _, digest in (*outcome.fetches.manifests, *outcome.fetches.blobs)}
    assert asked == set(release.image.blobs)
    # On a busy machine a zone may ask for a layer when the other one has it complete: it takes it from there.
    assert outcome.crossed_bytes < (_ZONES - 1) * release.image.size_bytes


def test_each_zone_asks_the_registry_once_for_each_manifest_and_each_blob(fleet: Fleet) -> None:
    release = fleet.release("once", _LAYERS_BYTES)
    outcome = fleet.pull_all(release)
    _assert_asked_once(outcome, release)
    copies = _ZONES + _late(outcome)
    assert outcome.registry_bytes <= copies * release.image.size_bytes + _CONSTANT_BYTES
    assert outcome.in_flight_bytes > release.image.size_bytes, "nobody took anything before it was complete"


def test_only_holder_sends_each_zone_one_copy_when_all_ask_at_once(fleet: Fleet) -> None:
    release = fleet.release("held", [8 * MIB, 5 * MIB], seed=2)
    holder, *asking = _well(fleet)
    fleet.hold(fleet.cluster.node(holder), release)
    for name in asking:
        fleet.see(fleet.cluster.node(name), release, [holder])
    fleet.cluster.shape(holder, _LINK_MBIT_S)
    try:
        outcome = fleet.pull_all(release, names=asking)
    finally:
        fleet.cluster.shape(holder, None)
    assert outcome.failures == ()
    assert outcome.registry_bytes < _CONSTANT_BYTES
    # A node that the others keep waiting, as on a busy machine, gets a copy of its own.
    assert outcome.sent_bytes[holder] < (_ZONES + 1.5) * release.image.size_bytes


@pytest.mark.parametrize("blow", [Blow.KILLED, Blow.FROZEN], ids=lambda blow: blow.value)
def test_others_are_whole_and_ask_once_more_at_most_when_the_node_that_fetches_is_gone(
    fleet: Fleet, blow: Blow
) -> None:
    release = fleet.release(blow.value, _LAYERS_BYTES, seed=3 + list(Blow).index(blow))
    outcome = fleet.pull_all(release, names=_well(fleet), trouble=Trouble(blow=blow, at=0.5))
    assert outcome.struck, "it was over before anything happened"
    assert outcome.failures == ()
    assert outcome.fetches.manifest_gets_most <= 2 + _late(outcome)
    assert outcome.fetches.blob_nodes_most <= 2 + _late(outcome)
    copies = _ZONES + 1 + _late(outcome)
    assert outcome.registry_bytes <= copies * release.image.size_bytes + _CONSTANT_BYTES


def test_layers_in_chunks_are_asked_for_by_one_node_of_each_zone(idle: Fleet) -> None:
    with idle.ready(Way.ZONE, Chunks(at_once=4, size_mib=1)):
        release = idle.release("chunks", _LAYERS_BYTES, seed=9)
        _assert_asked_once(idle.pull_all(release), release)


def test_with_the_index_in_a_server_each_zone_asks_the_registry_once_as_well(idle: Fleet) -> None:
    idle.cluster.add_index()
    with idle.ready(Way.ZONE):
        release = idle.release("server", _LAYERS_BYTES, seed=10)
        outcome = idle.pull_all(release)
        _assert_asked_once(outcome, release)
        assert outcome.in_flight_bytes > release.image.size_bytes
        fenced = [node.metric("shorthaul_claims_fenced_total", outcome="granted") for node in idle.nodes]
        # A zone that is late takes what the other one has complete by then.
        assert sum(fenced) >= len(release.image.blobs)
