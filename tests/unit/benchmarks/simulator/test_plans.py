"""Which simulations a command runs."""

from benchmarks.simulator.plans import plan, shown
from benchmarks.simulator.policies import DESCRIPTIONS, POLICIES
from benchmarks.simulator.workloads import WORKLOADS

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


def test_what_is_shown_has_every_workload_and_every_policy() -> None:
    plans = shown(**_SMALL)
    assert {each.workload for each in plans} == set(WORKLOADS)
    assert {each.policy for each in plans if each.workload == "everyone"} == set(POLICIES)


def test_each_policy_is_described() -> None:
    assert DESCRIPTIONS.keys() == POLICIES.keys()
