"""Which simulations a command runs."""

from benchmarks.simulator.plans import plan, shown
from benchmarks.simulator.policies import DESCRIPTIONS, POLICIES, SEED_S
from benchmarks.simulator.workloads import WORKLOADS, Size

_SMALL = {"nodes": 60, "image_bytes": 8_000_000, "seed": 1}


def test_the_product_runs_in_every_scope_and_the_others_once() -> None:
    plans = [*plan(("everyone",), tuple(POLICIES), ("zone", "cluster"), **_SMALL)]
    rows = [(each.policy, each.scope) for each in plans]
    assert rows[:2] == [("shorthaul", "zone"), ("shorthaul", "cluster")]
    assert sorted(policy for policy, _ in rows[2:]) == sorted(set(POLICIES) - {"shorthaul"})


def test_without_claims_there_is_no_scope() -> None:
    (only,) = plan(("everyone",), ("dht-3",), ("zone",), **_SMALL)
    assert only.scope == "none"
    assert str(only) == "everyone, dht-3, 60 nodes"


def test_a_seed_fetches_each_image_that_nobody_has_before_the_others_want_it() -> None:
    (only,) = plan(("everyone",), ("sample-15",), ("zone",), **_SMALL)
    seed, others = only.scenario.starts
    assert (seed.nodes, seed.at_s, others.at_s) == ((0,), 0.0, SEED_S)
    assert sorted((*seed.nodes, *others.nodes)) == list(range(60))


def test_what_somebody_has_needs_no_seed() -> None:
    (only,) = plan(("bursts",), ("sample-15",), ("zone",), **_SMALL)
    assert len(only.scenario.starts) == len(WORKLOADS["bursts"].make(Size(nodes=60)).starts)


def test_what_is_shown_has_every_workload_and_every_policy() -> None:
    plans = shown(**_SMALL)
    assert {each.workload for each in plans} == set(WORKLOADS)
    assert {each.policy for each in plans if each.workload == "everyone"} == set(POLICIES)


def test_each_policy_is_described() -> None:
    assert DESCRIPTIONS.keys() == POLICIES.keys()
