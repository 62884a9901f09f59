"""Zones and clusters whose claims a server guards: what two arbiters cost, and what a bad server costs."""

import asyncio
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.holders.claims import ClaimKey
from agent.holders.fencedclaims import FencedClaims
from agent.holders.fences import Fence, FenceState
from tests.unit.agent.holders.claimnet import CONTENT, WAIT_S, ClaimNet
from tests.unit.agent.holders.fenceserver import FenceServer, always, in_turn
from tests.unit.agent.holders.rollout import SIZE_BYTES, Rollout
from tests.unit.agent.holders.test_claimant import NAMES, SLACK_S, ended, play, run, schedules
from tests.unit.twins import loop_clock, node, run_in_virtual_time

Lie = Callable[[ClaimKey], Fence | None]

LIES: tuple[Callable[[], Lie], ...] = (
    lambda: lambda _: None,
    lambda: always(Fence(node=node("stranger"), number=1, available_bytes=5)),
    lambda: always(Fence(node=node("n0"), number=1)),
    lambda: always(Fence(node=node("n0"), number=1, available_bytes=10**9)),
    lambda: always(Fence(node=node("n0"), number=1, state=FenceState.COMPLETE)),
    lambda: always(Fence(node=node("n0"), number=1, state=FenceState.QUEUED)),
    lambda: in_turn(map(node, NAMES), 0),
    lambda: in_turn(map(node, NAMES), 10**9),
)


@pytest.mark.parametrize(("fenced", "fetches"), [(False, 2), (True, 1)])
def test_two_halves_of_a_zone_that_do_not_hear_each_other_fetch_once(fenced: bool, fetches: int) -> None:
    async def scene(net: ClaimNet) -> None:
        net.tear_apart(*NAMES[:3])
        await ended([net.pull(name, CONTENT) for name in NAMES])
        assert len(net.requests[CONTENT]) == fetches

    run(scene, fences=FenceServer() if fenced else None)


@settings(max_examples=12)
@given(apart=st.sets(st.sampled_from(NAMES)), registry_s=st.sampled_from((0.02, 0.3)))
def test_however_a_zone_falls_apart_the_registry_is_asked_once(apart: set[str], registry_s: float) -> None:
    async def scene(net: ClaimNet) -> None:
        net.tear_apart(*apart)
        pulls = [net.pull(name, CONTENT) for name in NAMES]
        await ended(pulls)
        assert len(net.requests[CONTENT]) == 1
        assert max(pull.waited_s for pull in pulls) <= WAIT_S + SLACK_S

    run(scene, registry_s=registry_s, fences=FenceServer())


def test_half_that_comes_late_takes_what_the_other_half_has() -> None:
    async def scene(net: ClaimNet) -> None:
        net.tear_apart(*NAMES[:3])
        await ended([net.pull(name, CONTENT) for name in NAMES[:3]])
        await asyncio.sleep(5.0)
        await ended([net.pull(name, CONTENT) for name in NAMES[3:]])
        assert len(net.requests[CONTENT]) == 1

    run(scene, fences=FenceServer())


def test_only_who_would_go_to_the_registry_looks_at_the_server() -> None:
    server = FenceServer()

    async def scene(net: ClaimNet) -> None:
        await ended([net.pull(name, CONTENT) for name in NAMES])
        assert server.takes == 1

    run(scene, fences=server)


def test_nothing_is_left_of_fences() -> None:
    server = FenceServer()

    async def scene(net: ClaimNet) -> None:
        await ended([net.pull(name, CONTENT) for name in NAMES])
        await asyncio.sleep(40.0)
        calls = server.calls
        await asyncio.sleep(60.0)
        assert server.calls == calls
        assert all(server.look(key) is None for key in server.kept)
        for each in net.nodes.values():
            assert isinstance(each.claims, FencedClaims)
            assert not each.claims.kept

    run(scene, fences=server)


server_faults = st.lists(
    st.tuples(
        st.sampled_from((0.05, 0.3, 1.2, 3.5)), st.sampled_from(("well", "down", "slow", "lies", "empty"))
    ),
    max_size=6,
)


async def break_server(server: FenceServer, faults: Iterable[tuple[float, str]]) -> None:
    for after_s, state in faults:
        if state == "empty":
            server.empty()
        else:
            server.state = state
        await asyncio.sleep(after_s)


@settings(max_examples=25)
@given(
    faults=schedules(splits=False),
    of_server=server_faults,
    lie=st.sampled_from(LIES),
    liar=st.none() | st.sampled_from(NAMES[1:]),
    registry_s=st.sampled_from((0.02, 0.3)),
)
def test_server_that_fails_or_lies_costs_nothing_but_a_fetch_where_it_lied(
    faults: list[tuple[float, str, str]],
    of_server: list[tuple[float, str]],
    lie: Callable[[], Lie],
    liar: str | None,
    registry_s: float,
) -> None:
    server = FenceServer(lie=lie())

    async def scene(net: ClaimNet) -> None:
        breaking = asyncio.create_task(break_server(server, of_server))
        alive = await play(net, faults, liar)
        breaking.cancel()
        assert all(pull.ended for pull in alive)
        assert max(pull.waited_s for pull in alive) <= WAIT_S + SLACK_S
        for name, each in net.nodes.items():
            assert sum(pull.asked_registry for pull in each.pulls) <= 3, f"{name} asks again and again"
        if not any(state == "lies" for _, state in of_server):
            deaths = {(kind, name) for _, kind, name in faults if kind != "thaw"}
            assert len(net.requests.get(CONTENT, ())) <= 1 + len(deaths) + (liar is not None)

    run(scene, registry_s=registry_s, fences=server)


@settings(max_examples=25)
@given(
    apart=st.sets(st.sampled_from(NAMES)),
    faults=schedules(splits=True),
    of_server=server_faults,
    lie=st.sampled_from(LIES),
)
def test_every_waiter_ends_within_its_bound_whatever_the_network_and_the_server_do(
    apart: set[str],
    faults: list[tuple[float, str, str]],
    of_server: list[tuple[float, str]],
    lie: Callable[[], Lie],
) -> None:
    server = FenceServer(lie=lie())

    async def scene(net: ClaimNet) -> None:
        net.tear_apart(*apart)
        breaking = asyncio.create_task(break_server(server, of_server))
        alive = await play(net, faults, None)
        breaking.cancel()
        assert max(pull.waited_s for pull in alive) <= WAIT_S + SLACK_S

    run(scene, fences=server)


CLUSTER = [f"{zone}{number}" for zone in "abc" for number in (1, 2, 3)]


def cluster(
    server: FenceServer | None,
    *,
    apart: Iterable[str] = (),
    faults: Iterable[tuple[float, str]] = (),
) -> tuple[Rollout, float]:
    """All nodes pull. Returns what happened, and how long it took."""

    async def main() -> tuple[Rollout, float]:
        made = Rollout(fences=server, registry_waits_s=0.2, apart=frozenset(map(node, apart)))
        made.add(CLUSTER)
        began_s = loop_clock()
        with made.keeping():
            async with asyncio.TaskGroup() as tasks:
                if server is not None:
                    breaking = tasks.create_task(break_server(server, faults))
                for name in [*made.nodes]:
                    tasks.create_task(made.pull(name))
                    await asyncio.sleep(0.01)
            took_s = loop_clock() - began_s
            breaking.cancel() if server is not None else None
        assert all(each.available_bytes == SIZE_BYTES for each in made.nodes.values())
        return made, took_s

    return run_in_virtual_time(main())


@pytest.mark.parametrize("apart", [set(), {"a1"}, {"a1", "b1"}, {"a1", "a2", "a3"}, {"a1", "b1", "c1", "c2"}])
def test_cluster_that_falls_apart_asks_the_registry_once_all_the_same(apart: set[str]) -> None:
    made, took_s = cluster(FenceServer(), apart=apart)
    assert [at for _, at in made.fetches] == [0]
    assert took_s < 10.0


def test_cluster_that_falls_apart_without_a_server_asks_it_twice() -> None:
    made, _ = cluster(None, apart={"a1", "a2", "a3"})
    assert len(made.fetches) == 2


@settings(max_examples=15)
@given(faults=server_faults, lie=st.sampled_from(LIES))
def test_cluster_gets_its_content_in_time_whatever_the_server_does(
    faults: list[tuple[float, str]], lie: Callable[[], Lie]
) -> None:
    made, took_s = cluster(FenceServer(lie=lie()), faults=faults)
    assert took_s < WAIT_S + 10.0
    if not any(state == "lies" for _, state in faults):
        assert len(made.fetches) == 1
