"""What simulated clusters go through."""

import pytest

from benchmarks.simulator.scenario import FaultKind
from benchmarks.simulator.workloads import WORKLOADS, Size

_NAMES = sorted(WORKLOADS)


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("nodes", [7, 60, 1003])
def test_all_nodes_of_a_scenario_are_there(name: str, nodes: int) -> None:
    scenario = WORKLOADS[name].make(Size(nodes=nodes, image_bytes=8_000_000))
    assert scenario.nodes == nodes
    named = [node for start in scenario.starts for node in start.nodes]
    named += [node for fault in scenario.faults for node in fault.nodes]
    named += [node for held in scenario.held for node in held.nodes]
    assert all(0 <= node < nodes for node in named)
    assert all(0 <= start.image < len(scenario.images) for start in scenario.starts)
    assert all(0 <= fault.zone < len(scenario.zones) for fault in scenario.faults)


@pytest.mark.parametrize("name", _NAMES)
def test_the_same_seed_makes_the_same_scenario(name: str) -> None:
    size = Size(nodes=60, image_bytes=8_000_000, seed=5)
    assert WORKLOADS[name].make(size) == WORKLOADS[name].make(size)


@pytest.mark.parametrize("name", ["waves", "index-lost"])
def test_each_node_of_a_rollout_pulls_once(name: str) -> None:
    scenario = WORKLOADS[name].make(Size(nodes=103))
    assert sorted(node for start in scenario.starts for node in start.nodes) == list(range(103))


def test_bursts_are_of_nodes_that_do_not_have_it() -> None:
    scenario = WORKLOADS["bursts"].make(Size(nodes=100))
    holders = set(scenario.held[0].nodes)
    assert len(holders) == 50
    assert holders.isdisjoint(node for start in scenario.starts for node in start.nodes)


def test_the_small_zone_is_a_hundredth_and_the_large_one_a_half() -> None:
    zones = WORKLOADS["small-zone"].make(Size(nodes=5000)).zones
    assert len(zones) == 10
    assert (zones[0].nodes, zones[-1].nodes, zones[-1].region) == (2500, 50, "far")


def test_ten_per_cent_an_hour_are_replaced_in_ten_minutes() -> None:
    faults = WORKLOADS["churn"].make(Size(nodes=6000)).faults
    assert len(faults) == 100
    assert sum(fault.kind is FaultKind.DIE for fault in faults) == 50
