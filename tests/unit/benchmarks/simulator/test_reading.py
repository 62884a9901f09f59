"""From a simulation to its figures, and the same figures from the same seed."""

from typing import Any

import pytest

from benchmarks.simulator.plans import Plan, plan
from benchmarks.simulator.policies import POLICIES
from benchmarks.simulator.reading import figures_of
from benchmarks.simulator.run import run

_TOOK = ("wall_s", "peak_mib")  # what the simulation itself took, which no seed decides


def _figures(each: Plan) -> dict[str, Any]:
    result = run(each.scenario, POLICIES[each.policy])
    document = figures_of(result, workload=each.workload, policy=each.policy, scope=each.scope).document()
    return {name: value for name, value in document.items() if name not in _TOOK}


def _plans(*workloads: str, seed: int = 1) -> list[Plan]:
    return [*plan(workloads, tuple(POLICIES), ("zone",), nodes=24, image_bytes=40_000_000, seed=seed)]


@pytest.mark.parametrize("each", _plans("everyone"), ids=lambda each: each.policy)
def test_the_same_seed_gives_the_same_figures(each: Plan) -> None:
    assert _figures(each) == _figures(each)


def test_another_seed_gives_another_course() -> None:
    assert _figures(_plans("everyone")[0]) != _figures(_plans("everyone", seed=2)[0])


def test_without_claims_every_node_that_finds_nobody_asks_the_registry() -> None:
    by_policy = {each.policy: _figures(each) for each in _plans("everyone")}
    assert by_policy["dht-3"]["registry_copies"] > 10
    assert by_policy["shorthaul"]["fetches_per_scope"] <= 1.0
    assert by_policy["zone-only"]["crossed_copies"] == 0.0


@pytest.mark.parametrize("name", ["waves", "bursts", "hot", "small-zone", "cut", "slow", "index-lost"])
def test_every_pull_of_a_workload_ends(name: str) -> None:
    figures = _figures(_plans(name)[0])
    assert figures["failed"] == 0
    assert figures["pulls"] > 0
    assert figures["dead_dials"] <= figures["dials"]


def test_what_is_held_from_the_start_is_not_fetched_from_the_registry() -> None:
    figures = _figures(_plans("bursts")[0])
    assert figures["fetches"] == 0
    assert figures["fetches_per_scope"] != figures["fetches_per_scope"], "not a number: nobody had to"
