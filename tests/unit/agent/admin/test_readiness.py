"""When the agent is ready, and what it says when it is not."""

import pytest

from agent.admin.readiness import Phase, Readiness
from tests.unit.evidence import MemoryStore


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.STOPPING])
@pytest.mark.parametrize("problem", [None, "containerd is gone"])
def test_agent_that_starts_or_stops_is_not_ready_and_says_which(phase: Phase, problem: str | None) -> None:
    readiness = Readiness(MemoryStore(problem=problem))
    readiness.phase = phase
    assert readiness.reason() == phase.value


def test_agent_is_not_ready_before_anybody_says_so() -> None:
    assert Readiness(MemoryStore()).reason() == "starting"


def test_serving_agent_is_as_ready_as_its_store() -> None:
    store = MemoryStore()
    readiness = Readiness(store)
    readiness.phase = Phase.SERVING
    assert readiness.reason() is None
    store.problem = "containerd is gone"
    assert readiness.reason() == "containerd is gone"
    store.problem = None
    assert readiness.reason() is None
