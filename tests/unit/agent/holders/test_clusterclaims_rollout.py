"""A new content and the scope ``cluster``: one node asks the registry, and one more for each that dies."""

import asyncio
from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.config import ColdStartSettings
from agent.holders.claims import ClaimKey, arbiters
from agent.holders.clusterclaims import TWO_GATEWAYS_BYTES
from tests.unit.agent.holders.rollout import LAYER, SIZE_BYTES, Rollout
from tests.unit.twins import loop_clock, node, run_in_virtual_time, zone_key
from topology.placement import NodeName

NAMES = [f"{zone}{number}" for zone in "abc" for number in (1, 2)]
Disaster = Callable[[Rollout], None]


def rollout(
    names: Iterable[str] = NAMES,
    *,
    disasters: Iterable[tuple[float, Disaster]] = (),
    pause_s: float = 0.01,
    registry_waits_s: float = 0.2,
    size_bytes: int | None = None,
) -> tuple[Rollout, float]:
    """All nodes pull, one ``pause_s`` after the other. Returns what happened, and how long it took."""

    async def run() -> tuple[Rollout, float]:
        cluster = Rollout(registry_waits_s=registry_waits_s, size_bytes=size_bytes)
        cluster.add(names)
        began_s = loop_clock()
        with cluster.keeping():
            async with asyncio.TaskGroup() as tasks:
                for at_s, disaster in disasters:
                    tasks.create_task(_later(at_s, disaster, cluster))
                for place, name in enumerate([*cluster.nodes]):
                    tasks.create_task(_pull(cluster, name, place * pause_s))
            took_s = loop_clock() - began_s
            for each in cluster.nodes.values():
                assert each.available_bytes == SIZE_BYTES or not each.alive, f"{each.name} has not got it"
        return cluster, took_s

    return run_in_virtual_time(run())


async def _later(at_s: float, disaster: Disaster, cluster: Rollout) -> None:
    await asyncio.sleep(at_s)
    disaster(cluster)


async def _pull(cluster: Rollout, name: NodeName, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await cluster.pull(name)


def kill(name: str) -> Disaster:
    return lambda cluster: cluster.kill(node(name))


def kill_who_fetches(cluster: Rollout) -> None:
    if cluster.fetches:
        cluster.kill(cluster.fetches[-1][0])


def cut_off(zone: str) -> Disaster:
    return lambda cluster: cluster.cut_off.add(zone_key(f"r/{zone}"))


def test_registry_is_asked_once_and_each_further_zone_gets_one_copy() -> None:
    cluster, took_s = rollout()
    assert cluster.fetches == [(node("a1"), 0)]
    assert cluster.crossed_bytes == 2 * SIZE_BYTES
    assert took_s < 6  # the layer alone takes four


def test_large_content_is_carried_into_each_zone_by_two_nodes() -> None:
    names = [f"{zone}{number}" for zone in "abc" for number in (1, 2, 3, 4)]
    cluster, _ = rollout(names, size_bytes=TWO_GATEWAYS_BYTES + 1)
    assert cluster.fetches == [(node("a1"), 0)]
    assert cluster.crossed_bytes == 2 * 2 * SIZE_BYTES


def test_zone_of_one_node_asks_the_cluster_too() -> None:
    cluster, _ = rollout(["a1", "b1", "c1"])
    assert cluster.fetches == [(node("a1"), 0)]
    assert cluster.crossed_bytes == 2 * SIZE_BYTES


def test_zone_that_comes_late_takes_it_from_a_zone_that_has_it() -> None:
    cluster, _ = rollout(pause_s=1.5)
    assert cluster.fetches == [(node("a1"), 0)]


def test_slow_registry_makes_all_wait_and_is_asked_once() -> None:
    cluster, took_s = rollout(registry_waits_s=4.0)
    assert cluster.fetches == [(node("a1"), 0)]
    assert took_s < 10


def test_zone_of_a_node_that_does_not_reach_the_registry_follows_another_zone_soon() -> None:
    async def run() -> tuple[Rollout, float]:
        cluster = Rollout(registry_waits_s=0.2, cut_from_registry={node("a1")})
        cluster.add(NAMES)
        began_s = loop_clock()
        with cluster.keeping():
            async with asyncio.TaskGroup() as tasks:
                for place, name in enumerate([*cluster.nodes]):
                    tasks.create_task(_pull(cluster, name, place * 0.01))
        return cluster, began_s

    cluster, began_s = run_in_virtual_time(run())
    took_s = {each.name: each.done_s - began_s for each in cluster.nodes.values()}
    others = [took_s[name] for name in cluster.nodes if name != "a1"]
    assert max(others) < ColdStartSettings().claim_start_s + 8
    assert len(cluster.fetches) == 2
    assert cluster.crossed_bytes == 2 * SIZE_BYTES  # each zone kept its gateway while that waited


@pytest.mark.parametrize("at_s", [0.3, 2.0, 3.8], ids=["at 3 %", "halfway", "at 90 %"])
def test_death_of_who_fetches_costs_one_more_fetch_which_goes_on_where_it_was(at_s: float) -> None:
    cluster, took_s = rollout(disasters=[(at_s, kill_who_fetches)])
    assert len(cluster.fetches) == 2
    assert cluster.fetches[1][1] >= cluster.fetches[0][1]
    assert took_s < 15


def test_death_of_a_gateway_costs_no_fetch() -> None:
    cluster, _ = rollout(disasters=[(2.0, kill("b1"))])
    assert cluster.fetches == [(node("a1"), 0)]
    assert cluster.crossed_bytes < 3 * SIZE_BYTES


def test_death_of_the_arbiter_costs_no_fetch_while_who_fetches_lives() -> None:
    first = arbiters(ClaimKey(LAYER, cluster=True), map(node, NAMES))[0]
    names = [name for name in NAMES if name != first]
    cluster, _ = rollout([*names, first], disasters=[(2.5, kill(first))], registry_waits_s=4.0)
    assert len(cluster.fetches) == 1


@pytest.mark.parametrize("at_s", [0.0, 0.5, 2.0])
def test_zone_that_is_cut_off_goes_to_the_registry_by_itself_once(at_s: float) -> None:
    cluster, took_s = rollout(disasters=[(at_s, cut_off("c"))])
    assert len(cluster.fetches) == 2
    assert sum(name.startswith("c") for name, _ in cluster.fetches) == 1
    assert took_s < 15


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 6), st.sampled_from([f"{z}{n}" for z in "abcd" for n in (1, 2, 3)])),
        max_size=4,
    ),
    st.lists(st.tuples(st.floats(0, 6), st.sampled_from("abcd")), max_size=1),
)
@example(deaths=[(0.0, "c1")], cuts=[(0.0, "a")])
def test_whatever_dies_or_is_cut_off_everybody_gets_it_and_a_death_costs_one_more_fetch_at_most(
    deaths: list[tuple[float, str]], cuts: list[tuple[float, str]]
) -> None:
    names = [f"{zone}{number}" for zone in "abcd" for number in (1, 2, 3)]
    disasters = [(at_s, kill(name)) for at_s, name in deaths] + [(at_s, cut_off(z)) for at_s, z in cuts]
    cluster, took_s = rollout(names, disasters=disasters)
    # Both sides of a cut may go on by themselves, while they do not agree yet on who decides.
    assert len(cluster.fetches) <= 1 + len(deaths) + 2 * len(cuts)
    limits = ColdStartSettings()
    assert took_s < limits.claim_wait_s * (1 + len(disasters)) + 10
