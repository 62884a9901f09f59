"""Indexes of several nodes in one real server: what only two of them together show."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from agent.config import LookupSettings
from agent.documents.index import IndexSource, IndexState
from agent.holders.bitmap import BITMAP_BYTES_MAX
from agent.holders.valkey.index import ValkeyIndex
from agent.holders.valkey.layout import EPOCH_S, Layout
from agent.members.member import Peers
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from benchmarks.lab.valkey import ValkeyCluster, ValkeyServer
from tests.conformance.inserver import KnowsNothing, Settled, new_prefix
from tests.unit.agent.holders.valkey.rig import Door, opened, until
from tests.unit.twins import node, peer, peers, placed, sha256
from topology.placement import Placement

HERE, THERE = placed("eu", "eu-a"), placed("eu", "eu-b")
A, B = sha256("a"), Digest("sha512:" + "b" * 128)
RULES = (
    "~test*:* -@all +get +mget +set +setbit +getrange +setrange +strlen +del +expire +pexpire +expireat +ttl "
    "+eval +evalsha +script|load +time +ping +select +client|id +client|tracking +client|caching "
    "+client|setname +info +role"
)
"""What docs/large-clusters.md gives a user."""


class Agent:
    """One node: its index, and its connection."""

    def __init__(self, name: str, door: Door, index: ValkeyIndex, roster: Roster) -> None:
        self.name, self.door, self.index, self.roster = name, door, index, roster

    @property
    def number(self) -> int:
        number = self.index.status().number
        assert number is not None
        return number

    async def sees(self, digest: Digest, *names: str) -> None:
        """Wait until these nodes are the holders."""

        async def found() -> set[str]:
            return {*(await self.index.lookup_everyone(digest)).nodes}

        async with asyncio.timeout(30.0):
            while await found() != {*names}:
                await asyncio.to_thread(time.sleep, 0.02)

    async def has_told(self) -> None:
        """Wait until it has told the server everything."""
        await until(lambda: self.index.status().number is not None)
        await until(lambda: self.index.status().pending == 0)


class Cell:
    """Nodes with one server."""

    def __init__(self, url: str, stack: AsyncExitStack, prefix: str) -> None:
        self._url, self._stack, self.prefix = url, stack, prefix
        self.layout = Layout(prefix)

    async def agent(self, name: str, others: Sequence[str], *, ttl_s: float = 10.0) -> Agent:
        """A node that knows these others, and those named *far…* in another zone. It runs."""
        door = await self._stack.enter_async_context(
            opened(self._url, prefix=self.prefix, members=lambda: len(others) + 1)
        )
        await door.healthy()
        roster = Roster(own=node(name), placement=_place(name))
        roster.update(members(*others))
        index = ValkeyIndex(
            Settled(door.server),
            url=self._url,
            prefix=self.prefix,
            agent=f"{name}-agent",
            roster=roster,
            settings=LookupSettings(positive_ttl_s=ttl_s),
            metrics=Metrics(),
            fallback=KnowsNothing(),
        )
        self._stack.push_async_callback(index.close)
        running = asyncio.create_task(index.run())
        self._stack.push_async_callback(_end, running)
        await until(lambda: index.status().number is not None)
        return Agent(name, door, index, roster)

    async def agents(self, *names: str) -> list[Agent]:
        """Nodes that know each other."""
        return [await self.agent(name, [each for each in names if each != name]) for name in names]


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _place(name: str) -> Placement:
    return THERE if name.startswith("far") else HERE


def members(*names: str) -> Peers:
    return peers(*(peer(name, _place(name)) for name in names))


@asynccontextmanager
async def cell(url: str) -> AsyncIterator[Cell]:
    async with AsyncExitStack() as stack:
        yield Cell(url, stack, new_prefix())


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A real server, which the tests share. Each has a prefix of its own there."""
    server = ValkeyServer(
        tmp_path_factory.mktemp("valkey"), users={"limited": f"on >word resetchannels {RULES}"}
    )
    try:
        yield server
    finally:
        server.stop()


async def test_what_one_node_announces_another_finds_and_no_longer_when_it_is_withdrawn(
    valkey: ValkeyServer,
) -> None:
    async with cell(valkey.url()) as some:
        one, two, _ = await some.agents("one", "two", "far")
        one.index.announce([A, B])
        await two.sees(A, "one")
        await two.sees(B, "one")
        one.index.withdraw([A])
        await two.sees(A)
        assert {*(await two.index.lookup_everyone(B)).nodes} == {"one"}


async def test_a_near_holder_hides_a_far_one_and_all_of_them_are_found_on_request(
    valkey: ValkeyServer,
) -> None:
    async with cell(valkey.url()) as some:
        one, two, far = await some.agents("one", "two", "far")
        far.index.announce([A])
        await one.sees(A, "far")
        two.index.announce([A])
        await one.sees(A, "far", "two")
        holders = await one.index.lookup(A)
        assert (holders.nodes, holders.source) in (
            (("two",), IndexSource.SERVER),
            (("two",), IndexSource.CACHE),
        )


async def test_nobody_names_itself_and_two_nodes_never_have_one_number(valkey: ValkeyServer) -> None:
    async with cell(valkey.url()) as some:
        agents = await some.agents("one", "two", "three", "far")
        assert len({agent.number for agent in agents}) == 4
        for agent in agents:
            agent.index.announce([A])
        for agent in agents:
            await agent.sees(A, *({each.name for each in agents} - {agent.name}))


async def test_a_digest_that_is_not_announced_has_no_holders_and_that_is_all_there_is_to_know(
    valkey: ValkeyServer,
) -> None:
    async with cell(valkey.url()) as some:
        one, _ = await some.agents("one", "two")
        await until(lambda: one.index.status().state is IndexState.SERVER)
        await until(lambda: valkey.cli("keys", f"{some.prefix}:1:a:*") != "")  # they are alive
        await one.index.lookup(A)  # learns the numbers
        holders = await one.index.lookup_everyone(A)
        assert (holders.nodes, holders.exhaustive, holders.source) == ((), True, IndexSource.SERVER)


async def test_a_node_that_left_is_named_no_more(valkey: ValkeyServer) -> None:
    async with cell(valkey.url()) as some:
        one, two, three = await some.agents("one", "two", "three")
        two.index.announce([A])
        three.index.announce([A])
        await one.sees(A, "two", "three")
        one.roster.update(members("three"))
        await one.sees(A, "three")


async def test_an_agent_that_starts_again_has_its_number_and_what_it_said_is_still_known(
    valkey: ValkeyServer,
) -> None:
    async with cell(valkey.url()) as some:
        one, two = await some.agents("one", "two")
        two.index.announce([A])
        await one.sees(A, "two")
        after = await some.agent("two", ["one"])
        assert after.number == two.number
        await one.sees(A, "two")


async def test_a_number_that_came_to_another_node_never_names_it_for_what_the_first_had(
    valkey: ValkeyServer,
) -> None:
    """Its owner's key is gone only after hours without a sign of it, and then so are the bitmaps."""
    async with cell(valkey.url()) as some:
        one, two = await some.agents("one", "two")
        two.index.announce([A])
        await one.sees(A, "two")
        assert int(valkey.cli("ttl", some.layout.number(two.number))) > 2 * EPOCH_S
        (key,) = valkey.cli("keys", f"{some.prefix}:1:b:*{A}").split()
        assert (
            2 * EPOCH_S
            <= int(valkey.cli("ttl", key))
            < int(valkey.cli("ttl", some.layout.number(two.number)))
        )


async def test_a_server_that_was_restarted_is_told_everything_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    try:
        async with cell(server.url()) as some:
            one, two = await some.agents("one", "two")
            numbers = one.number, two.number
            one.index.announce([A])
            two.index.announce([B])
            await one.has_told()
            await two.has_told()
            await asyncio.to_thread(server.restart)
            await two.sees(A, "one")
            await one.sees(B, "two")
            assert (one.number, two.number) == numbers
            assert one.index.status().resets == two.index.status().resets == 1
    finally:
        server.stop()


async def test_bits_that_are_gone_are_found_to_be_gone(valkey: ValkeyServer) -> None:
    """As after a failover that lost the last writes. The connection says that something may be gone."""
    async with cell(valkey.url()) as some:
        one, two = await some.agents("one", "two")
        one.index.announce([A])
        await two.sees(A, "one")
        for key in valkey.cli("keys", f"{some.prefix}:1:b:*").split():
            valkey.cli("del", key)
        one.door.server._reset("the test says so")
        await two.sees(A, "one")


async def test_a_hot_digest_is_watched_and_what_changes_is_seen_at_once(valkey: ValkeyServer) -> None:
    async with cell(valkey.url()) as some:
        one = await some.agent("one", ["two", "three"], ttl_s=0.05)
        two = await some.agent("two", ["one", "three"])
        three = await some.agent("three", ["one", "two"])
        two.index.announce([A])
        await one.sees(A, "two")
        for _ in range(2):
            await asyncio.sleep(0.1)
            assert (await one.index.lookup(A)).nodes == ("two",)
        await asyncio.sleep(0.1)
        assert one.index.remembered(A) is not None  # far beyond what is usual here
        three.index.announce([A])
        await until(lambda: one.index.remembered(A) is None)
        assert {*(await one.index.lookup(A)).nodes} == {"two", "three"}


async def test_what_a_node_is_fetching_is_followed_by_its_zone(valkey: ValkeyServer) -> None:
    async with cell(valkey.url()) as some:
        one, _ = await some.agents("one", "two")
        one.index.fetching(A)
        key = some.layout.flight(A)
        await until(lambda: valkey.cli("getbit", key, str(one.number)) == "1")
        assert 0 < int(valkey.cli("ttl", key)) <= 30


async def test_values_that_no_agent_wrote_hide_nothing_for_long(valkey: ValkeyServer) -> None:
    async with cell(valkey.url()) as some:
        one, two = await some.agents("one", "two")
        two.index.announce([B])
        await one.sees(B, "two")
        epoch = int(valkey.cli("time").split()[0]) // EPOCH_S
        key = some.layout.bitmap(epoch, A)
        valkey.cli("rpush", key, "a", "list")
        assert (await one.index.lookup_everyone(A)).nodes == ()
        two.index.announce([A])
        await one.sees(A, "two")
        valkey.cli("setrange", key, str(4 << 20), "x")  # 4 MiB, of which no reader takes more than one
        async with asyncio.timeout(30.0):
            while int(valkey.cli("strlen", key)) > BITMAP_BYTES_MAX:
                await one.index.lookup_everyone(A)
                await asyncio.to_thread(time.sleep, 0.02)
        await one.sees(B, "two")


async def test_a_user_with_the_rights_that_the_documentation_names_can_do_everything(
    valkey: ValkeyServer,
) -> None:
    async with cell(valkey.url("limited:word")) as some:
        one, two = await some.agents("one", "two")
        one.index.announce([A])
        await two.sees(A, "one")
        one.index.withdraw([A])
        await two.sees(A)
        assert one.door.server.tracking


async def test_every_key_of_the_index_has_an_end_and_begins_with_the_prefix(valkey: ValkeyServer) -> None:
    async with cell(valkey.url()) as some:
        before = {*valkey.cli("keys", "*").split()}
        one, two = await some.agents("one", "two")
        one.index.announce([A, B])
        one.index.fetching(sha256("c"))
        two.index.withdraw([A])
        await two.sees(A, "one")
        new = {*valkey.cli("keys", "*").split()} - before
        assert len(new) >= 6
        assert all(key.startswith(f"{some.prefix}:1:") for key in new)
        assert all(int(valkey.cli("ttl", key)) > 0 for key in new)


async def test_a_cluster_of_servers_does_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    cluster = ValkeyCluster(tmp_path_factory.mktemp("cluster"))
    try:
        async with cell(cluster.url()) as some:
            one, two = await some.agents("one", "two")
            digests = [sha256(number) for number in range(60)]
            one.index.announce(digests)
            await one.has_told()
            two.index.prefetch(digests)
            found = await asyncio.gather(*(two.index.lookup(digest) for digest in digests))
            assert {holders.nodes for holders in found} == {("one",)}
            one.index.withdraw(digests[:30])
            await two.sees(digests[0])
            await two.sees(digests[59], "one")
    finally:
        cluster.close()
