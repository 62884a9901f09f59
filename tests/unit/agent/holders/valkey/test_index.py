"""The index in a server: what it says when the server may not know everything. In virtual time.

What every index does is in tests/conformance.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from agent.config import LookupSettings
from agent.documents.index import IndexSource, IndexState
from agent.holders.bitmap import value_of
from agent.holders.index import Holders
from agent.holders.valkey.asked import Command
from agent.holders.valkey.facts import Facts
from agent.holders.valkey.index import ValkeyIndex
from agent.holders.valkey.layout import EPOCH_S, NUMBER_TTL_S
from agent.holders.valkey.numbers import SLOT_BYTES, slot_value
from agent.holders.valkey.trouble import IndexDown
from agent.holders.wire import Flying, Question, Reply
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.index_metrics import IndexTrouble
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from tests.conformance.inserver import KnowsNothing
from tests.unit.agent.holders.valkey.fakeserver import LAYOUT, FakeServer
from tests.unit.twins import loop_clock, node, peer, peers, placed, run_in_virtual_time, sha256
from topology.placement import NodeName

A, B, C = sha256("a"), sha256("b"), sha256("c")
HERE, THERE = placed("eu", "eu-a"), placed("eu", "eu-b")
NAMES = ("near-1", "near-2", "far-1", "far-2")


@dataclass(slots=True)
class Node:
    """The index of the node *own*, whose neighbours have the numbers 10 to 13."""

    index: ValkeyIndex
    server: FakeServer
    fallback: KnowsNothing
    roster: Roster
    metrics: Metrics
    flying: dict[NodeName, Reply] = field(default_factory=dict)
    asked: list[NodeName] = field(default_factory=list)
    answering: asyncio.Event = field(default_factory=asyncio.Event)

    def holds(self, digest: Digest, *names: str) -> None:
        self.server.values[LAYOUT.bitmap(self.server.epoch, digest)] = value_of(map(number, names))

    def fetches(self, digest: Digest, *names: str) -> None:
        self.server.values[LAYOUT.flight(digest)] = value_of(map(number, names))

    async def found(self, digest: Digest) -> set[str]:
        return {*(await self.index.lookup(digest)).nodes}


def number(name: str) -> int:
    return 10 + NAMES.index(name)


def make(server: FakeServer) -> Node:
    roster = Roster(own=node("own"), placement=HERE, clock=loop_clock)
    places = dict(zip(NAMES, (HERE, HERE, THERE, THERE), strict=True))
    roster.update(peers(*(peer(name, place) for name, place in places.items())))
    table = b"\0" * SLOT_BYTES * 10 + b"".join(slot_value(node(name), server.now_s) for name in NAMES)
    server.values[LAYOUT.names] = table
    server.ends_s[LAYOUT.names] = server.now_s + NUMBER_TTL_S
    fallback, metrics = KnowsNothing(), Metrics()
    flying: dict[NodeName, Reply] = {}
    asked: list[NodeName] = []
    answering = asyncio.Event()
    answering.set()

    async def ask(peer: Peer, question: Question, deadline_s: float) -> Reply | None:
        asked.append(peer.name)
        await answering.wait()
        return flying.get(peer.name)

    index = ValkeyIndex(
        server,
        url="valkey://h",
        prefix="shorthaul",
        agent="one",
        roster=roster,
        settings=LookupSettings(),
        metrics=metrics,
        fallback=fallback,
        ask_peer=ask,
        follows=lambda name: name.startswith("near"),
        clock=loop_clock,
    )
    return Node(index, server, fallback, roster, metrics, flying, asked, answering)


def playing(play: Callable[[Node], Awaitable[None]]) -> None:
    async def main() -> None:
        one = make(FakeServer())
        try:
            await play(one)
        finally:
            await one.index.close()

    run_in_virtual_time(main())


def test_the_nearest_holders_are_found_in_one_question_for_all_layers_of_an_image() -> None:
    async def play(one: Node) -> None:
        one.holds(A, "near-1", "far-1")
        one.holds(B, "far-1", "far-2")
        await one.index.lookup(C)
        one.server.calls.clear()
        one.index.prefetch([A, B])
        assert await one.found(A) == {"near-1"}
        assert await one.found(B) == {"far-1", "far-2"}
        assert len(one.server.calls) == 1
        assert one.fallback.asked == []

    playing(play)


def test_a_thousand_lookups_at_once_are_a_few_questions() -> None:
    async def play(one: Node) -> None:
        digests = [sha256(each) for each in range(1000)]
        await one.index.lookup(A)
        one.server.calls.clear()
        await asyncio.gather(*(one.index.lookup(digest) for digest in digests))
        assert len(one.server.calls) <= 20

    playing(play)


def test_what_nobody_has_is_known_at_once_and_no_peer_is_asked() -> None:
    async def play(one: Node) -> None:
        holders = await one.index.lookup(A)
        assert holders == Holders(nodes=(), exhaustive=True, source=IndexSource.SERVER)
        assert one.fallback.asked == []

    playing(play)


@pytest.mark.parametrize("trouble", ["away", "back", "slow", "full", "young", "evicting"])
def test_a_server_that_may_not_know_everything_is_not_believed_that_nobody_has_it(trouble: str) -> None:
    async def play(one: Node) -> None:
        await one.index.lookup(B)
        match trouble:
            case "away":
                one.server.healthy = False
            case "back":  # the others have yet to tell what came meanwhile
                one.server.caught_up = False
            case "slow":
                one.server.down = IndexDown(IndexTrouble.SLOW, "late", "")
            case "full":
                one.server.writable = False
            case "evicting":
                one.server.facts = Facts(used_bytes=95, most_bytes=100, policy="allkeys-lru")
            case _:
                one.server.young_s = 3.0
        holders = await one.index.lookup(A)
        assert (holders.exhaustive, holders.source) == (False, IndexSource.FALLBACK)
        everybody = await one.index.lookup_everyone(A)
        assert everybody.source is IndexSource.FALLBACK
        assert one.fallback.asked == [A, A]

    playing(play)


@pytest.mark.parametrize("kind", [IndexTrouble.FULL, IndexTrouble.READ_ONLY])
def test_a_server_that_has_just_become_full_is_not_believed_that_nobody_has_it(kind: IndexTrouble) -> None:
    """What came since is announced nowhere, and nothing was written yet that would have shown it."""

    async def play(one: Node) -> None:
        await one.index.lookup(B)
        await asyncio.sleep(5.0)

        def before(commands: Sequence[Command]) -> None:
            if any(command[0] == "SET" for command in commands):
                one.server.writable = kind is not IndexTrouble.FULL
                one.server.healthy = kind is IndexTrouble.FULL
                raise IndexDown(kind, "no", "")

        one.server.before = before
        assert (await one.index.lookup(A)).source is IndexSource.FALLBACK
        assert (await one.index.lookup_everyone(C)).source is IndexSource.FALLBACK

    playing(play)


def test_a_bit_of_nobody_knows_whom_is_no_proof_that_nobody_has_it() -> None:
    """As when a hundred nodes came at once to another zone, and it was asked for all numbers just now."""

    async def play(one: Node) -> None:
        one.holds(A, "far-1")
        one.server.values[LAYOUT.bitmap(one.server.epoch, B)] = value_of([900])
        assert await one.found(A) == {"far-1"}
        for look_up in (one.index.lookup, one.index.lookup_everyone):
            assert (await look_up(B)).source is IndexSource.FALLBACK
        assert one.fallback.asked == [B, B]

    playing(play)


def test_only_layers_that_no_near_node_has_wait_for_what_near_nodes_say_of_them() -> None:
    async def play(one: Node) -> None:
        one.answering.clear()
        one.holds(A, "near-1")
        one.fetches(B, "near-2")
        one.flying[node("near-2")] = Reply(in_flight={B: Flying(available_bytes=5, size_bytes=9)})
        one.index.prefetch([A, B])
        assert await one.found(A) == {"near-1"}
        assert one.index.remembered(B) is None  # nobody has it, and it is not known yet how far near-2 is
        asyncio.get_running_loop().call_later(0.01, one.answering.set)
        assert [each.node for each in (await one.index.lookup(B)).in_flight] == ["near-2"]

    playing(play)


class LateSigns(FakeServer):
    """It answers late who is alive."""

    async def call(
        self, *commands: Command, tracked: bool = False, timeout_s: float | None = None
    ) -> Sequence[object]:
        if any(":a:" in str(command[1]) for command in commands if len(command) > 1):
            await asyncio.sleep(0.1)
        return await super().call(*commands, tracked=tracked, timeout_s=timeout_s)


def test_whoever_looks_up_while_it_is_asked_who_is_alive_learns_that_as_well() -> None:
    async def main() -> None:
        one = make(LateSigns())
        one.server.lifeless = {number("near-1")}  # the server took nothing of it
        one.flying[node("near-1")] = Reply(held=frozenset([A, B]))
        first = asyncio.create_task(one.found(A))
        await asyncio.sleep(0.05)
        assert await one.found(B) == {"near-1"}
        assert await first == {"near-1"}
        await one.index.close()

    run_in_virtual_time(main())


def test_whether_it_can_be_written_is_tried_once_a_second_at_the_most() -> None:
    async def play(one: Node) -> None:
        for number in range(50):
            await one.index.lookup(sha256(number))
        assert one.server.counted["SET"] == 1

    playing(play)


def test_a_server_that_was_emptied_a_moment_ago_is_not_believed_that_nobody_has_it() -> None:
    """Nobody has noticed it yet."""

    async def play(one: Node) -> None:
        one.server.as_seen = False
        for look_up in (one.index.lookup, one.index.lookup_everyone):
            assert (await look_up(A)).source is IndexSource.FALLBACK
        one.holds(B, "near-1")
        assert await one.found(B) == {"near-1"}
        assert one.fallback.asked == [A, A]

    playing(play)


@pytest.mark.parametrize("trouble", ["full", "young"])
def test_what_such_a_server_does_know_is_used(trouble: str) -> None:
    async def play(one: Node) -> None:
        one.server.writable = trouble != "full"
        one.server.young_s = 3.0 if trouble == "young" else None
        one.holds(A, "near-1")
        assert await one.found(A) == {"near-1"}
        assert one.fallback.asked == []

    playing(play)


def test_a_server_that_evicts_keys_is_not_believed_that_nobody_has_it_until_all_is_told_anew() -> None:
    async def play(one: Node) -> None:
        one.server.facts = Facts(policy="allkeys-lru", most_bytes=1, evicted=7)
        await one.index.lookup(A)
        assert one.fallback.asked == [A]
        assert one.index.status().state is IndexState.WARMING
        await asyncio.sleep(EPOCH_S + 1.0)
        await one.index.lookup(B)
        assert one.fallback.asked == [A]
        one.server.facts = replace(one.server.facts, evicted=8)
        await one.index.lookup(C)
        assert one.fallback.asked == [A, C]

    playing(play)


def test_a_reset_makes_the_server_unsure_for_a_while_and_it_ends_by_itself() -> None:
    async def play(one: Node) -> None:
        running = asyncio.create_task(one.index.run())
        one.index.announce([C])
        await asyncio.sleep(5.0)
        assert one.index.status().state is IndexState.SERVER
        one.server.empty()
        await asyncio.sleep(13.0)
        assert one.index.status().state is IndexState.WARMING
        assert one.index.status().resets == 1
        await one.index.lookup(A)
        assert one.fallback.asked == [A]
        await asyncio.sleep(60.0)
        assert one.index.status().state is IndexState.SERVER
        running.cancel()

    playing(play)


def test_a_few_near_nodes_that_announce_nothing_are_asked_themselves_and_nobody_else() -> None:
    """As in an upgrade that is nearly done, or where one node can't reach the server."""

    async def play(one: Node) -> None:
        one.roster.update({**one.roster.peers, **peers(peer("silent", HERE), peer("old", HERE))})
        one.flying[node("old")] = Reply(held=frozenset([A]))
        assert await one.found(A) == {"old"}
        assert await one.found(B) == set()
        assert (await one.index.lookup(B)).exhaustive
        assert {*one.asked} == {"silent", "old"}
        assert one.asked.count(node("silent")) == 1  # it did not answer, and is left alone for a while
        assert {*(await one.index.lookup_everyone(A)).nodes} == {"old"}
        assert one.fallback.asked == []

    playing(play)


def test_many_near_nodes_that_announce_nothing_are_searched_as_without_a_server() -> None:
    async def play(one: Node) -> None:
        one.roster.update({**one.roster.peers, **peers(*(peer(f"old-{each}", HERE) for each in range(20)))})
        assert (await one.index.lookup(A)).source is IndexSource.FALLBACK
        assert one.fallback.asked == [A]
        assert one.asked == []

    playing(play)


def test_a_node_that_gives_no_sign_of_life_is_asked_itself_soon() -> None:
    """It went back to asking peers, can't reach the server any more, or takes it for full."""

    async def play(one: Node) -> None:
        await one.index.lookup(B)
        assert one.asked == []
        one.server.lifeless = {number("near-2")}
        one.flying[node("near-2")] = Reply(held=frozenset([A]))
        await asyncio.sleep(6.0)
        assert await one.found(A) == {"near-2"}
        assert {*one.asked} == {"near-2"}
        assert one.index.status().silent() == ("near-2",)
        one.server.lifeless.clear()
        await asyncio.sleep(6.0)
        await one.index.lookup(C)
        assert {*one.asked} == {"near-2"}
        assert one.index.status().silent() == ()

    playing(play)


def test_signs_of_life_are_read_only_where_no_near_holder_is_known_and_seldom() -> None:
    async def play(one: Node) -> None:
        one.holds(A, "near-1")
        await one.index.lookup(B)
        one.server.calls.clear()
        for _ in range(20):
            await one.index.lookup_everyone(A)
        await asyncio.sleep(5.0)
        for digest in range(20):
            await one.index.lookup(sha256(digest))
        read = [command for call in one.server.calls for command in call if ":a:" in str(command[1:2])]
        assert len(read) == 2

    playing(play)


def test_a_new_epoch_ends_what_was_watched_in_the_old_one() -> None:
    async def play(one: Node) -> None:
        await asyncio.sleep(EPOCH_S - one.server.now_s % EPOCH_S - 100.0)
        one.holds(A, "near-1")
        await one.found(A)
        await asyncio.sleep(11.0)
        await one.found(A)  # watched
        await asyncio.sleep(100.0)
        one.holds(A, "near-1", "near-2")
        await one.found(B)
        assert await one.found(A) == {"near-1", "near-2"}

    playing(play)


def test_a_node_of_another_zone_that_announces_nothing_is_not_waited_for() -> None:
    async def play(one: Node) -> None:
        one.roster.update({**one.roster.peers, **peers(peer("silent", THERE))})
        assert (await one.index.lookup(A)).exhaustive
        assert one.fallback.asked == []

    playing(play)


def test_a_number_that_was_never_heard_of_is_asked_for_and_its_node_is_found() -> None:
    async def play(one: Node) -> None:
        await one.index.lookup(B)
        one.roster.update({**one.roster.peers, **peers(peer("new", HERE))})
        one.server.values[LAYOUT.names] += slot_value(node("new"), one.server.now_s)
        one.server.values[LAYOUT.bitmap(one.server.epoch, A)] = value_of([14])
        assert await one.found(A) == {"new"}

    playing(play)


def test_bits_that_mean_nobody_are_asked_about_seldom() -> None:
    async def play(one: Node) -> None:
        one.server.values[LAYOUT.bitmap(one.server.epoch, A)] = b"\xff" * 2000
        for _ in range(50):
            await one.index.lookup_everyone(A)
        assert one.server.counted["GETRANGE"] <= 3

    playing(play)


def test_who_leaves_the_cluster_is_named_no_more_at_once_also_from_the_cache() -> None:
    async def play(one: Node) -> None:
        one.holds(A, "near-1", "near-2")
        assert await one.found(A) == {"near-1", "near-2"}
        one.roster.update({name: each for name, each in one.roster.peers.items() if name != "near-1"})
        known = one.index.remembered(A)
        assert known is not None
        assert {*known.nodes} == {"near-2"}

    playing(play)


def test_a_node_that_moves_to_another_zone_is_near_or_far_at_once() -> None:
    async def play(one: Node) -> None:
        one.holds(A, "near-1", "far-1")
        assert await one.found(A) == {"near-1"}
        one.roster.update({**one.roster.peers, **peers(peer("near-1", THERE), peer("far-1", HERE))})
        assert await one.found(A) == {"far-1"}

    playing(play)


def test_a_number_that_came_to_another_node_names_that_node() -> None:
    async def play(one: Node) -> None:
        one.holds(A, "near-1")
        assert await one.found(A) == {"near-1"}
        one.roster.update({**one.roster.peers, **peers(peer("heir", HERE))})
        table = bytearray(one.server.values[LAYOUT.names])
        table[10 * SLOT_BYTES : 11 * SLOT_BYTES] = slot_value(node("heir"), one.server.now_s + 9000)
        one.server.values[LAYOUT.names] = bytes(table)
        await asyncio.sleep(60.0)
        await one.index.lookup(B)  # not every member of the zone has a number: all are read
        await one.index.lookup_everyone(A)
        assert await one.found(A) == {"heir"}

    playing(play)


def test_a_node_that_was_set_up_anew_is_named_for_what_it_had_no_more_after_one_that_asked_in_vain() -> None:
    async def play(one: Node) -> None:
        one.holds(A, "near-1")
        one.holds(B, "near-1")
        assert await one.found(A) == {"near-1"}
        await asyncio.sleep(60.0)
        one.server.values[LAYOUT.names] += slot_value(node("near-1"), one.server.now_s)  # number 14
        one.index.forget(A, node("near-1"))
        await one.index.lookup(C)
        assert await one.found(B) == set()

    playing(play)


def test_a_holder_that_gave_nothing_is_not_named_again_for_some_seconds() -> None:
    async def play(one: Node) -> None:
        one.holds(A, "near-1")
        assert await one.found(A) == {"near-1"}
        one.index.forget(A, node("near-1"))
        assert one.index.remembered(A) is None
        assert (await one.index.lookup(A)).nodes == ()
        await asyncio.sleep(10.0)
        assert await one.found(A) == {"near-1"}

    playing(play)


def test_a_hot_digest_is_watched_and_not_asked_for_again() -> None:
    async def play(one: Node) -> None:
        one.holds(A, "near-1")
        await one.found(A)
        await asyncio.sleep(11.0)
        await one.found(A)
        one.server.calls.clear()
        await asyncio.sleep(200.0)
        assert await one.found(A) == {"near-1"}
        assert one.server.calls == []
        await one.server.call(("SETBIT", LAYOUT.bitmap(one.server.epoch, A), number("near-2"), 1))
        assert await one.found(A) == {"near-1", "near-2"}

    playing(play)


def test_without_tracking_a_hot_digest_is_asked_for_again() -> None:
    async def play(one: Node) -> None:
        one.server.tracking = False
        one.holds(A, "near-1")
        for _ in range(3):
            await one.found(A)
            await asyncio.sleep(11.0)
        assert one.server.counted["MGET"] == 3

    playing(play)


def test_what_is_fetched_near_by_is_followed_although_a_far_node_has_it() -> None:
    async def play(one: Node) -> None:
        one.holds(A, "far-1")
        one.fetches(A, "near-2")
        flying = Flying(available_bytes=500, size_bytes=1000)
        one.flying[node("near-2")] = Reply(in_flight={A: flying})
        holders = await one.index.lookup(A)
        assert {*holders.nodes} == {"far-1"}
        assert [(each.node, each.available_bytes) for each in holders.in_flight] == [("near-2", 500)]

    playing(play)


def test_who_is_fetching_in_another_zone_or_beside_a_near_holder_is_not_asked() -> None:
    async def play(one: Node) -> None:
        one.fetches(A, "far-1")
        one.holds(B, "near-1")
        one.fetches(B, "near-2")
        await one.index.lookup(A)
        await one.index.lookup(B)
        assert one.asked == []

    playing(play)


def test_few_of_those_that_are_fetching_are_asked() -> None:
    async def play(one: Node) -> None:
        more = {f"near-{each}": peer(f"near-{each}", HERE) for each in range(3, 40)}
        one.roster.update({**one.roster.peers, **peers(*more.values())})
        one.server.values[LAYOUT.names] += b"".join(slot_value(node(name), one.server.now_s) for name in more)
        one.server.values[LAYOUT.flight(A)] = value_of(range(14, 14 + len(more)))
        await one.index.lookup(A)
        assert len(one.asked) == 4

    playing(play)


def test_who_has_got_all_of_it_by_now_is_a_holder() -> None:
    async def play(one: Node) -> None:
        one.fetches(A, "near-2")
        one.flying[node("near-2")] = Reply(held=frozenset([A]))
        assert await one.found(A) == {"near-2"}

    playing(play)


def test_a_silent_node_that_is_fetching_costs_one_question() -> None:
    async def play(one: Node) -> None:
        one.fetches(A, "near-2")
        holders = await one.index.lookup(A)
        assert (holders.nodes, holders.in_flight) == ((), ())
        assert one.asked == ["near-2"]

    playing(play)


def test_what_was_found_before_the_server_went_away_is_used() -> None:
    async def play(one: Node) -> None:
        one.holds(A, "near-1")
        await one.found(A)
        one.server.healthy = False
        assert await one.found(A) == {"near-1"}
        assert one.index.status().state is IndexState.DOWN

    playing(play)


def test_lookups_are_counted_by_who_answered() -> None:
    async def play(one: Node) -> None:
        one.holds(A, "near-1")
        await one.index.lookup(A)
        await one.index.lookup(A)
        await one.index.lookup(B)
        one.server.healthy = False
        await one.index.lookup(C)
        shown = one.metrics.expose().decode()
        for source, result, count in (
            ("server", "found", 1),
            ("cache", "found", 1),
            ("server", "nobody", 1),
            ("fallback", "nobody", 1),
        ):
            labels = f'{{result="{result}",source="{source}"}}'
            assert f"shorthaul_index_lookups_total{labels} {count}.0" in shown

    playing(play)
