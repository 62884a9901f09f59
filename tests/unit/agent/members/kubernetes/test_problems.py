"""What is wrong with the slices, with what to do about it."""

from dataclasses import replace

import pytest

from agent.config import KubernetesSettings
from agent.members.kubernetes.problems import slice_problems
from agent.members.kubernetes.slices import SliceTable, Source
from agent.members.problems import Problem
from benchmarks.lab.apiserver import Pod, slice_object
from tests.unit.agent.members.kubernetes.following_one import OWN, OWN_POD, pods
from tests.unit.twins import node
from topology.placement import Zone


def problems(
    *listed: Pod,
    unlisted: bool = True,
    kept: int = 0,
    unused: tuple[str, ...] = (),
    elsewhere: dict[str, str] | None = None,
    port: int = 30020,
    address_type: str = "IPv4",
) -> list[Problem]:
    table = SliceTable(Source(service="shorthaul-peers", namespace="shorthaul", port_name="peer", family=4))
    half = len(listed) // 2
    table.replace(
        slice_object(f"s{number}", part, port=port, address_type=address_type)
        for number, part in enumerate((listed[:half], listed[half:]))
    )
    found = list(
        slice_problems(
            table,
            KubernetesSettings(),
            own=OWN,
            unlisted=unlisted,
            kept=kept,
            unused=[node(name) for name in unused],
            elsewhere={node(name): (Zone("b"), Zone(zone)) for name, zone in (elsewhere or {}).items()},
        )
    )
    assert all(problem.hint for problem in found)
    return found


def only(found: list[Problem]) -> str:
    (problem,) = found
    return problem.problem


def test_nothing_is_wrong() -> None:
    assert problems(*pods("a", "b")) == []


def test_nobody_is_wrong_to_be_missing_just_after_the_start() -> None:
    assert problems(unlisted=False) == []


def test_service_that_lists_nobody_or_not_this_node() -> None:
    assert "shorthaul/shorthaul-peers lists nobody" in only(problems())
    assert "others, but not this node" in only(problems(*pods("a")[1:]))
    assert "IPv6 addresses only" in only(problems(Pod(node="a", address="fd00::1"), address_type="IPv6"))


@pytest.mark.parametrize(("address", "port"), [("10.9.9.8", 30020), ("10.9.9.9", 30030)])
def test_this_nodes_agent_at_another_place(address: str, port: int) -> None:
    found = only(problems(replace(OWN_POD, address=address), port=port))
    assert f"{address} port {port}" in found
    assert "10.9.9.9:30020" in found


def test_two_agents_with_one_node_name() -> None:
    (problem,) = problems(*pods("a"), Pod(node="a", address="10.0.0.1"))
    assert problem.node == "a"
    assert "10.0.0.1, 10.0.0.98" in problem.problem


def test_endpoints_that_are_not_used_are_counted_with_the_reason() -> None:
    found = only(problems(*pods("a"), Pod(node="..//", address="10.0.0.1"), Pod(node="", address="10.0.0.2")))
    assert "2 endpoints of Service" in found


def test_agents_that_are_kept_shared_addresses_and_zones_that_contradict_each_other() -> None:
    assert "7 agents vanished" in only(problems(OWN_POD, kept=7))
    assert "a, b" in only(problems(OWN_POD, unused=("b", "a")))
    assert "zone 'b'" in only(problems(OWN_POD, elsewhere={"a": "a"}))


def test_a_node_with_thousands_of_addresses_is_told_in_a_line() -> None:
    many = [Pod(node="b", address=f"10.2.{number // 250}.{number % 250}") for number in range(1000)]
    told = only(problems(OWN_POD, *many))
    assert "b has ready agents at 10.2.0.0, " in told
    assert "more: only 10.2.0.0 is used" in told
    assert len(told) < 200
