"""Real containerds and a real server of the index, which dies or hangs.

The registry's own log says what came from it. How long the pulls take is measured by
`benchmarks.index.outage`.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.chunks.stage import MIB
from benchmarks.index.outage import ASKER, HOLDERS, Stage, Trouble, staged
from tests.server.agents import PATIENT

pytestmark = pytest.mark.e2e

_LAYERS_BYTES = [60 * MIB, 30 * MIB, 10 * MIB]
_SETTINGS: dict[str, Any] = {
    **PATIENT,
    "scrub": {"bytes_per_s": 0},
    "cold_start": {"claim_wait_s": 60.0, "claim_start_s": 20.0},
}
_CONSTANT_BYTES = 1 << 20
_ANSWERED_BY = {Trouble.NONE: "server", Trouble.KILLED: "fallback", Trouble.FROZEN: "fallback"}
"""The other troubles are in tests/server/test_index.py."""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with staged(_LAYERS_BYTES, _SETTINGS) as made:
        yield made


@pytest.mark.parametrize("trouble", _ANSWERED_BY, ids=lambda trouble: trouble.name.lower())
def test_what_two_nodes_of_the_zone_have_does_not_come_from_the_registry(
    stage: Stage, trouble: Trouble
) -> None:
    pull = stage.pull(trouble)
    assert pull.outcome.failures == ()
    assert pull.outcome.fetches.gets == 0
    assert pull.outcome.registry_bytes < _CONSTANT_BYTES
    given = pull.outcome.given[ASKER]
    assert set(given) <= set(HOLDERS)
    assert sum(given.values()) >= sum(_LAYERS_BYTES)
    assert pull.sources[_ANSWERED_BY[trouble]] > 0, pull.sources
