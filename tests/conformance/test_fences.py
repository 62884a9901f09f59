"""What every place for fences does: in memory, on a real server, and on a real Cluster. See `Fences`."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.holders.claims import DONE_S, LEASE_S, ClaimKey
from agent.holders.fencedclaims import Fences
from agent.holders.fences import Fence, FenceState
from agent.holders.valkey.fences import ValkeyFences
from agent.holders.valkey.layout import Layout
from benchmarks.lab.valkey import ValkeyCluster, ValkeyServer
from tests.unit.agent.holders.fenceserver import FenceServer
from tests.unit.agent.holders.valkey.rig import opened
from tests.unit.twins import node, sha256

KEY = ClaimKey(sha256("layer"))
PRIVATE = replace(KEY, realm="0123456789abcdef" * 2)
ACROSS = replace(KEY, cluster=True)
ONE, OTHER = node("one"), node("other.example-2")


def scope(zone: str) -> Callable[[ClaimKey], str]:
    return lambda key: "cluster" if key.cluster else f"zone={zone}"


@dataclass
class Place:
    """``of``: a node's way to it, by the node's zone. ``forget``: it loses a fence, as if it had ended."""

    of: Callable[[str], Fences]
    forget: Callable[[ClaimKey], None]

    @property
    def fences(self) -> Fences:
        return self.of("eu/a")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    made = ValkeyCluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    made = ValkeyServer(tmp_path_factory.mktemp("server"))
    yield made
    made.stop()


@pytest.fixture(params=["memory", "server", "cluster"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """A place that keeps nothing yet."""
    if request.param == "memory":
        twin = FenceServer()
        yield Place(
            of=lambda zone: twin.of(scope(zone)), forget=lambda key: twin.forget((scope("eu/a")(key), key))
        )
        return
    made: ValkeyServer | ValkeyCluster = request.getfixturevalue(request.param)
    layout = Layout(f"test-{tmp_path.name}")

    def forget(key: ClaimKey) -> None:
        name = layout.claim(scope("eu/a")(key), key.realm, key.digest)
        owner = made.owner(name) if isinstance(made, ValkeyCluster) else made
        assert owner.cli("del", name) == "1"

    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(opened(made.url()))
        await door.healthy()
        yield Place(
            of=lambda zone: ValkeyFences(door.server, layout, scope=scope(zone)),
            forget=forget,
        )


async def taken(place: Place, own: str, key: ClaimKey = KEY, *, over: Fence | None = None) -> Fence:
    fence = await place.fences.take(key, node(own), over=over)
    assert fence is not None
    return fence


async def test_first_node_gets_the_fence_and_every_other_one_is_told_of_it(place: Place) -> None:
    first = await taken(place, ONE)
    assert first == Fence(node=ONE, number=first.number)
    assert await taken(place, OTHER) == first
    assert await taken(place, ONE) == first, "who has it keeps it"


async def test_other_node_is_told_of_what_there_is(place: Place) -> None:
    fence = replace(await taken(place, ONE), available_bytes=7)
    assert await place.fences.renew({KEY: fence}) == {KEY: True}
    assert await taken(place, OTHER) == fence
    complete = replace(fence, available_bytes=9, state=FenceState.COMPLETE)
    await place.fences.renew({KEY: complete})
    assert await taken(place, OTHER) == complete


async def test_fence_is_taken_over_with_a_greater_number_and_its_old_owner_changes_nothing(
    place: Place,
) -> None:
    first = await taken(place, ONE)
    second = await taken(place, OTHER, over=first)
    assert (second.node, second.available_bytes) == (OTHER, 0)
    assert second.number > first.number
    assert await place.fences.renew({KEY: replace(first, available_bytes=5)}) == {KEY: False}
    await place.fences.drop({KEY: first})
    assert await taken(place, node("third")) == second


async def test_fence_that_another_node_took_over_meanwhile_is_not_taken_over_again(place: Place) -> None:
    first = await taken(place, ONE)
    second = await taken(place, OTHER, over=first)
    assert await taken(place, node("third"), over=first) == second


async def test_progress_of_its_owner_keeps_nobody_from_taking_it_over(place: Place) -> None:
    first = await taken(place, ONE)
    await place.fences.renew({KEY: replace(first, available_bytes=5)})
    assert (await taken(place, OTHER, over=first)).node == OTHER


async def test_fence_that_was_dropped_is_free(place: Place) -> None:
    first = await taken(place, ONE)
    await place.fences.drop({KEY: first})
    assert (await taken(place, OTHER)).node == OTHER


async def test_fence_that_has_gone_is_set_again_by_its_owner_unless_another_one_was_first(
    place: Place,
) -> None:
    first = replace(await taken(place, ONE), available_bytes=3)
    place.forget(KEY)
    assert await place.fences.renew({KEY: first}) == {KEY: True}
    assert await taken(place, OTHER) == first
    place.forget(KEY)
    await taken(place, OTHER)
    assert await place.fences.renew({KEY: first}) == {KEY: False}


async def test_zones_and_the_cluster_and_names_that_a_registry_decides_on_have_fences_of_their_own(
    place: Place,
) -> None:
    here, there = place.of("eu/a"), place.of("eu/b")
    for key in (KEY, PRIVATE, ACROSS):
        fence = await here.take(key, ONE, over=None)
        assert fence is not None
        assert fence.node == ONE
    told = [await there.take(key, OTHER, over=None) for key in (KEY, PRIVATE, ACROSS)]
    assert [fence.node for fence in told if fence is not None] == [OTHER, OTHER, ONE]


async def test_many_are_renewed_and_dropped_at_once(place: Place) -> None:
    keys = [ClaimKey(sha256(number)) for number in range(40)]
    fences = {key: await taken(place, ONE, key) for key in keys}
    await taken(place, OTHER, keys[7], over=fences[keys[7]])
    assert await place.fences.renew(fences) == {key: key != keys[7] for key in keys}
    await place.fences.drop(fences)
    nodes = [(await taken(place, "third", key)).node for key in keys]
    assert nodes == [OTHER if key == keys[7] else "third" for key in keys]


async def test_nothing_is_asked_about_nothing(place: Place) -> None:
    assert await place.fences.renew({}) == {}
    await place.fences.drop({})


async def test_fence_ends_by_itself_and_a_complete_one_later(server: ValkeyServer) -> None:
    layout = Layout("leases")
    async with opened(server.url()) as door:
        await door.healthy()
        fences = ValkeyFences(door.server, layout, scope=scope("eu/a"))
        fence = await fences.take(KEY, ONE, over=None)
        assert fence is not None
        name = layout.claim("zone=eu/a", "", KEY.digest)
        assert 0 < int(server.cli("pttl", name)) <= 1000 * LEASE_S
        await fences.renew({KEY: replace(fence, state=FenceState.COMPLETE)})
        assert 1000 * LEASE_S < int(server.cli("pttl", name)) <= 1000 * DONE_S


@pytest.mark.parametrize("written", [("set", "nonsense"), ("set", ""), ("lpush", "a list")])
async def test_what_no_agent_wrote_is_no_fence_and_stops_nobody(
    server: ValkeyServer, written: tuple[str, str]
) -> None:
    layout = Layout(f"nonsense-{written}".replace(" ", ""))
    async with opened(server.url()) as door:
        await door.healthy()
        fences = ValkeyFences(door.server, layout, scope=scope("eu/a"))
        server.cli(written[0], layout.claim("zone=eu/a", "", KEY.digest), written[1])
        assert await fences.take(KEY, ONE, over=None) is None
        assert not any((await fences.renew({KEY: Fence(node=ONE, number=1)})).values())
        await fences.drop({KEY: Fence(node=ONE, number=1)})
        assert door.server.healthy


async def test_server_that_is_not_asked_says_nothing(server: ValkeyServer) -> None:
    async with opened("valkey://127.0.0.1:1") as door:
        fences = ValkeyFences(door.server, Layout("away"), scope=scope("eu/a"))
        assert await fences.take(KEY, ONE, over=None) is None
        assert await fences.renew({KEY: Fence(node=ONE, number=1)}) == {}
        await fences.drop({KEY: Fence(node=ONE, number=1)})


async def test_number_is_greater_than_the_last_one_also_where_clocks_go_back(server: ValkeyServer) -> None:
    layout = Layout("clocks")
    async with opened(server.url()) as door:
        await door.healthy()
        fences = ValkeyFences(door.server, layout, scope=scope("eu/a"))
        ahead = Fence(node=ONE, number=9_000_000_000_000)
        server.cli("set", layout.claim("zone=eu/a", "", KEY.digest), ahead.encode().decode())
        second = await fences.take(KEY, OTHER, over=ahead)
        assert second == Fence(node=OTHER, number=9_000_000_000_001)
