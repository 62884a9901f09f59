"""Real containerds that are told to fetch layers in parallel chunks pull from holders that may fail.

Small layers and small chunks: the numbers of chunks are those of a large layer. So are the limits of a
holder's uploads, in proportion. Bytes are counted by the kernel, on every link.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.chunks.rows import Chunks, Condition, Holders
from benchmarks.chunks.stage import MIB, VERSION, Outcome, Stage, places
from benchmarks.lab.cluster import Cluster
from tests.server.agents import PATIENT

pytestmark = pytest.mark.e2e

_HOLDERS = ("h1", "h2")
_ASKING = ("n1", "n2", "n3", "n4", "n5")
_LAYER_BYTES = 64 * MIB
_SETTINGS: dict[str, Any] = {
    **PATIENT,
    # By default it is 8 GiB, which is eight layers of 1 GiB: as many of these. A pull that is refused for
    # want of room has to be over in a shorter time, too.
    "transfer": {"upload_bytes_max": 8 * _LAYER_BYTES},
    "pull": {"deadline_s": 4.0},
    "scrub": {"bytes_per_s": 0},
}

_EXCESS = 0.03
_CONSTANT_BYTES = 256 * 1024
"""For each node that pulls: heads of requests and answers (a thousand at most, of 200 bytes), look-ups, round
trips that are measured, acknowledgements that are larger than the headers that are left out."""

_FEW = Chunks(at_once=3, size_mib=16)
_MANY = Chunks(at_once=20, size_mib=1)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Two holders and five nodes that ask, all in one zone."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with Cluster(places(_HOLDERS, _ASKING), versions=(VERSION,)) as cluster:
        yield Stage(
            cluster,
            holders=_HOLDERS,
            askers=_ASKING,
            layer_bytes=[_LAYER_BYTES],
            settings=_SETTINGS,
            pull_s=120.0,
        )


def _assert_no_byte_too_many(outcome: Outcome, *, nodes: int) -> None:
    """What the links carried is what was needed, and the receivers know of it."""
    constant_bytes = nodes * _CONSTANT_BYTES
    assert sum(outcome.sent_bytes.values()) <= outcome.needed_bytes * (1 + _EXCESS) + constant_bytes
    # What TCP sends again crosses the link twice and is received once: up to 1.1 % on a loaded machine.
    resent_bytes = outcome.needed_bytes * _EXCESS
    assert abs(outcome.from_peers_bytes - outcome.accounted_bytes) <= constant_bytes + resent_bytes
    assert outcome.recorded_bytes == outcome.accounted_bytes


@pytest.mark.parametrize("chunks", [_FEW, _MANY], ids=str)
def test_layer_crosses_the_link_once_however_containerd_is_told_to_fetch_it(
    stage: Stage, chunks: Chunks
) -> None:
    outcome = stage.run(Condition(holders=Holders.ONE, link_mbit_s=None, nodes=1), chunks)
    assert outcome.failures == ()
    assert outcome.from_registry_bytes < _CONSTANT_BYTES
    _assert_no_byte_too_many(outcome, nodes=1)


def test_two_slow_holders_together_send_a_layer_once(stage: Stage) -> None:
    outcome = stage.run(Condition(holders=Holders.TWO, link_mbit_s=200, nodes=1), _MANY)
    assert outcome.failures == ()
    assert outcome.from_registry_bytes < _CONSTANT_BYTES
    _assert_no_byte_too_many(outcome, nodes=1)


def test_five_nodes_at_once_get_a_layer_in_twenty_chunks_each_from_one_holder_behind_a_slow_link(
    stage: Stage,
) -> None:
    condition = Condition(holders=Holders.ONE, link_mbit_s=400, nodes=len(_ASKING))
    outcome = stage.run(condition, _MANY)
    assert outcome.failures == ()
    assert outcome.from_registry_bytes < _CONSTANT_BYTES
    _assert_no_byte_too_many(outcome, nodes=len(_ASKING))


@pytest.mark.parametrize("holders", [Holders.DYING, Holders.FREEZING], ids=lambda holders: holders.title)
def test_registry_goes_on_with_the_chunks_that_the_only_holder_does_not_send_any_more(
    stage: Stage, holders: Holders
) -> None:
    outcome = stage.run(Condition(holders=holders, link_mbit_s=200, nodes=1), _MANY)
    assert outcome.failures == ()
    assert outcome.from_peers_bytes > _LAYER_BYTES // 8, "the holder was disturbed before it sent anything"
    assert outcome.from_registry_bytes > _LAYER_BYTES // 8, "it was over before it was disturbed"


@pytest.mark.parametrize(
    "holders", [Holders.DYING_OF_TWO, Holders.FREEZING_OF_TWO], ids=lambda holders: holders.title
)
def test_other_holder_goes_on_with_the_chunks_while_the_registry_is_down(
    stage: Stage, holders: Holders
) -> None:
    outcome = stage.run(Condition(holders=holders, link_mbit_s=200, nodes=2), _MANY)
    assert outcome.failures == ()
    assert min(outcome.sent_bytes[name] for name in _HOLDERS) > _LAYER_BYTES // 8


def test_bytes_that_containerd_leaves_unread_are_counted_for_who_sent_them(stage: Stage) -> None:
    outcome = stage.leave(_MANY)
    assert outcome.failures, "it was over before containerd was killed"
    resent_bytes = outcome.from_peers_bytes * _EXCESS  # see `_assert_no_byte_too_many`
    assert abs(outcome.from_peers_bytes - outcome.accounted_bytes) <= _CONSTANT_BYTES + resent_bytes
    assert outcome.recorded_bytes == outcome.accounted_bytes
