"""What every holder index does, against peers in memory. The suite speaks to `HolderIndex` alone."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from benchmarks.lab.valkey import ValkeyServer
from tests.conformance.inserver import InServer
from tests.conformance.members import (
    FAR,
    NEXT_ZONE,
    OWN_ZONE,
    A,
    B,
    C,
    Implementations,
    Make,
    Member,
)
from topology.placement import NodeName


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A real server, which the tests share. Each has a prefix of its own there."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["scatter", "nearby", "valkey"])
async def make(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[Make]:
    """Makes a cluster with an index of the kind under test."""
    implementations = Implementations()
    in_server = InServer(valkey, implementations)
    kinds: dict[str, Make] = {
        "scatter": implementations.scatter,
        "nearby": implementations.nearby,
        "valkey": in_server.make,
    }
    try:
        yield kinds[request.param]
    finally:
        await in_server.close()
        await implementations.close()


async def test_a_digest_that_nobody_has_has_no_holders_and_that_is_exhaustive(make: Make) -> None:
    cluster = await make({"near": Member(OWN_ZONE), "far": Member(FAR)})
    holders = await cluster.index.lookup(A)
    assert (holders.nodes, holders.exhaustive) == ((), True)


async def test_without_peers_there_are_no_holders(make: Make) -> None:
    cluster = await make({})
    assert (await cluster.index.lookup(A)).nodes == ()
    assert (await cluster.index.lookup_everyone(A)).nodes == ()


async def test_every_holder_of_the_nearest_ring_is_found(make: Make) -> None:
    cluster = await make({name: Member(OWN_ZONE, {A}) for name in ("one", "two", "three")})
    assert set((await cluster.index.lookup(A)).nodes) == {"one", "two", "three"}


@pytest.mark.parametrize("where", [OWN_ZONE, NEXT_ZONE, FAR])
async def test_a_holder_is_found_wherever_it_is(make: Make, where: tuple[str, str]) -> None:
    cluster = await make(
        {
            "near": Member(OWN_ZONE),
            "next": Member(NEXT_ZONE),
            "far": Member(FAR),
            "holder": Member(where, {A}),
        }
    )
    assert (await cluster.index.lookup(A)).nodes == ("holder",)
    assert (await cluster.index.lookup_everyone(A)).nodes == ("holder",)


async def test_a_near_holder_is_among_the_found_whoever_else_has_it(make: Make) -> None:
    cluster = await make(
        {"far": Member(FAR, {A}), "next": Member(NEXT_ZONE, {A}), "near": Member(OWN_ZONE, {A})}
    )
    assert "near" in (await cluster.index.lookup(A)).nodes


async def test_all_holders_are_those_of_every_ring_and_that_is_exhaustive(make: Make) -> None:
    cluster = await make(
        {"far": Member(FAR, {A}), "next": Member(NEXT_ZONE, {A}), "near": Member(OWN_ZONE, {A, B})}
    )
    holders = await cluster.index.lookup_everyone(A)
    assert set(holders.nodes) == {"far", "next", "near"}
    assert holders.exhaustive


async def test_a_lookup_that_did_not_ask_everybody_does_not_say_it_is_exhaustive(make: Make) -> None:
    cluster = await make({"far": Member(FAR, {A}), "near": Member(OWN_ZONE, {A})})
    holders = await cluster.index.lookup(A)
    assert set(holders.nodes) == {"far", "near"} or not holders.exhaustive


async def test_digests_are_told_apart(make: Make) -> None:
    cluster = await make({"one": Member(OWN_ZONE, {A}), "two": Member(OWN_ZONE, {B})})
    found = await asyncio.gather(*(cluster.index.lookup(digest) for digest in (A, B, C)))
    assert [holders.nodes for holders in found] == [("one",), ("two",), ()]


async def test_all_holders_are_asked_for_now_and_not_remembered_from_before(make: Make) -> None:
    cluster = await make({"near": Member(OWN_ZONE), "far": Member(FAR)})
    assert (await cluster.index.lookup(A)).nodes == ()
    cluster.members["far"].held.add(A)
    assert (await cluster.index.lookup_everyone(A)).nodes == ("far",)


async def test_what_is_remembered_is_forgotten_in_time(make: Make) -> None:
    cluster = await make({"near": Member(OWN_ZONE), "far": Member(FAR, {B})})
    assert (await cluster.index.lookup(A)).nodes == ()
    assert (await cluster.index.lookup(B)).nodes == ("far",)
    cluster.members["near"].held.add(A)
    cluster.members["far"].held.clear()
    cluster.pass_time(60.0)
    assert (await cluster.index.lookup(A)).nodes == ("near",)
    assert (await cluster.index.lookup(B)).nodes == ()


async def test_a_forgotten_holder_is_not_named_again_until_it_is_found_again(make: Make) -> None:
    cluster = await make({"one": Member(OWN_ZONE, {A}), "two": Member(OWN_ZONE, {A})})
    assert set((await cluster.index.lookup(A)).nodes) == {"one", "two"}
    cluster.members["one"].held.clear()
    cluster.index.forget(A, NodeName("one"))
    assert (await cluster.index.lookup(A)).nodes == ("two",)


async def test_when_the_last_holder_is_forgotten_the_next_lookup_asks_again(make: Make) -> None:
    cluster = await make({"one": Member(OWN_ZONE, {A}), "two": Member(FAR)})
    assert (await cluster.index.lookup(A)).nodes == ("one",)
    cluster.members["one"].held.clear()
    cluster.members["two"].held.add(A)
    cluster.index.forget(A, NodeName("one"))
    assert (await cluster.index.lookup(A)).nodes == ("two",)


async def test_forgetting_what_was_never_known_does_nothing(make: Make) -> None:
    cluster = await make({"one": Member(OWN_ZONE, {A})})
    cluster.index.forget(A, NodeName("one"))
    cluster.index.forget(B, NodeName("unknown"))
    assert (await cluster.index.lookup(A)).nodes == ("one",)


async def test_a_prefetched_digest_is_found(make: Make) -> None:
    cluster = await make({"near": Member(OWN_ZONE, {A}), "far": Member(FAR, {B})})
    cluster.index.prefetch([A, B, C, A])
    cluster.index.prefetch([])
    found = await asyncio.gather(*(cluster.index.lookup(digest) for digest in (A, B, C)))
    assert [holders.nodes for holders in found] == [("near",), ("far",), ()]


async def test_a_lookup_behind_a_finished_prefetch_does_not_wait_for_slow_peers(make: Make) -> None:
    cluster = await make({"near": Member(OWN_ZONE, {A}, delay_s=0.03)})
    cluster.index.prefetch([A])
    await asyncio.sleep(0.2)
    cluster.members["near"].silent = True
    async with asyncio.timeout(0.1):
        assert (await cluster.index.lookup(A)).nodes == ("near",)


@pytest.mark.parametrize("failing", [{"silent": True}, {"refuses": True}], ids=["silent", "refuses"])
@pytest.mark.parametrize("where", [OWN_ZONE, NEXT_ZONE, FAR])
async def test_a_failing_peer_hides_no_other_holder(
    make: Make, failing: dict[str, bool], where: tuple[str, str]
) -> None:
    cluster = await make(
        {
            "bad": Member(OWN_ZONE, {A}, silent="silent" in failing, refuses="refuses" in failing),
            "good": Member(where, {A}),
        }
    )
    async with asyncio.timeout(5.0):
        assert (await cluster.index.lookup(A)).nodes == ("good",)
        assert (await cluster.index.lookup_everyone(A)).nodes == ("good",)


async def test_when_every_peer_is_silent_a_lookup_ends_all_the_same_and_never_raises(make: Make) -> None:
    cluster = await make({name: Member(OWN_ZONE, {A}, silent=True) for name in ("one", "two")})
    async with asyncio.timeout(5.0):
        assert (await cluster.index.lookup(A)).nodes == ()
        assert (await cluster.index.lookup_everyone(A)).nodes == ()


async def test_a_peer_that_recovers_is_found_again(make: Make) -> None:
    cluster = await make({"one": Member(OWN_ZONE, {A}, refuses=True)})
    assert (await cluster.index.lookup(A)).nodes == ()
    cluster.members["one"].refuses = False
    cluster.pass_time(60.0)
    assert (await cluster.index.lookup(A)).nodes == ("one",)


async def test_a_caller_that_goes_away_takes_no_other_callers_answer_with_it(make: Make) -> None:
    cluster = await make({"near": Member(OWN_ZONE, {A}, delay_s=0.03)})
    going = asyncio.create_task(cluster.index.lookup(A))
    staying = asyncio.create_task(cluster.index.lookup(A))
    await asyncio.sleep(0)  # both have begun
    going.cancel()
    assert (await staying).nodes == ("near",)
    with pytest.raises(asyncio.CancelledError):
        await going


async def test_many_lookups_at_once_agree(make: Make) -> None:
    cluster = await make({f"peer{number}": Member(FAR, {A}, delay_s=0.005) for number in range(5)})
    found = await asyncio.gather(*(cluster.index.lookup(A) for _ in range(200)))
    assert {frozenset(holders.nodes) for holders in found} == {
        frozenset(f"peer{number}" for number in range(5))
    }


async def test_this_node_is_never_named_whatever_it_announces(make: Make) -> None:
    cluster = await make({"one": Member(OWN_ZONE, {B})})
    cluster.index.announce([A, B])
    cluster.index.announce([])
    assert (await cluster.index.lookup(A)).nodes == ()
    assert (await cluster.index.lookup_everyone(B)).nodes == ("one",)


async def test_announcing_and_withdrawing_change_nothing_about_others(make: Make) -> None:
    cluster = await make({"one": Member(OWN_ZONE, {A})})
    cluster.index.announce([A, A])
    cluster.index.withdraw([A, A, C])
    assert (await cluster.index.lookup(A)).nodes == ("one",)


async def test_who_has_all_of_it_is_not_in_flight(make: Make) -> None:
    cluster = await make({"near": Member(OWN_ZONE, {A}), "far": Member(FAR, {A})})
    for holders in (await cluster.index.lookup(A), await cluster.index.lookup_everyone(A)):
        assert not {each.node for each in holders.in_flight} & {*holders.nodes}


async def test_index_that_runs_ends_when_it_is_cancelled(make: Make) -> None:
    cluster = await make({"one": Member(OWN_ZONE, {A})})
    running = asyncio.create_task(cluster.index.run())
    assert (await cluster.index.lookup(A)).nodes == ("one",)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.done()


async def test_closing_twice_does_nothing(make: Make) -> None:
    cluster = await make({"one": Member(OWN_ZONE, {A}, silent=True)})
    cluster.index.prefetch([A])
    await cluster.index.close()
    await cluster.index.close()


async def test_only_what_needs_no_question_is_remembered(make: Make) -> None:
    cluster = await make({"near": Member(OWN_ZONE, {A})})
    assert cluster.index.remembered(A) is None
    found = await cluster.index.lookup(A)
    known = cluster.index.remembered(A)
    assert known is None or (known.nodes, known.exhaustive) == (found.nodes, found.exhaustive)
    cluster.index.forget(A, NodeName("near"))
    assert cluster.index.remembered(A) is None
