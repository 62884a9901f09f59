"""The number of a node: taken, kept over a restart, never shared with another node."""

import random
from collections.abc import Awaitable, Callable

import pytest

from agent.holders.bitmap import NUMBERS_MAX
from agent.holders.valkey.layout import NUMBER_TTL_S
from agent.holders.valkey.leasing import Lease, Whose
from agent.holders.valkey.numbers import Numbers, slot_value
from agent.holders.valkey.serverclock import ServerClock
from agent.holders.valkey.trouble import IndexDown
from tests.unit.agent.holders.valkey.fakeserver import LAYOUT, FakeServer
from tests.unit.twins import hold_up, loop_clock, node, run_in_virtual_time


def lease(
    server: FakeServer,
    own: str = "own",
    agent: str = "one",
    seed: int = 0,
    members: int = 10,
    store: str = "",
) -> Lease:
    return Lease(
        server,
        LAYOUT,
        own=node(own),
        agent=agent,
        numbers=Numbers(),
        server_clock=ServerClock(),
        members=lambda: members,
        store=lambda: store,
        clock=loop_clock,
        asleep_clock=loop_clock,
        chance=random.Random(seed).randrange,
    )


def playing(play: Callable[[FakeServer], Awaitable[None]]) -> None:
    async def main() -> None:
        await play(FakeServer())

    run_in_virtual_time(main())


async def standing(one: Lease, server: FakeServer) -> Whose:
    return one.heard(await server.call(*one.questions()))


def test_a_thousand_nodes_that_start_together_have_a_thousand_numbers() -> None:
    async def play(server: FakeServer) -> None:
        taken = []
        for number in range(1000):
            one = lease(server, f"n{number}", seed=number, members=1000)
            assert await one.take()
            taken.append(one.number)
        assert len({*taken}) == 1000
        assert all(number is not None and number < 6000 for number in taken)

    playing(play)


def test_the_next_agent_of_a_node_has_its_number() -> None:
    async def play(server: FakeServer) -> None:
        before, after = lease(server), lease(server, agent="two", seed=7)
        await before.take()
        await after.take()
        assert after.number == before.number
        assert await standing(before, server) is Whose.OWN  # both use it during an upgrade

    playing(play)


def test_a_node_that_was_set_up_anew_under_its_old_name_takes_another_number() -> None:
    """What it had is gone, and nobody is to be sent to it for that."""

    async def play(server: FakeServer) -> None:
        before, after = lease(server, store="old"), lease(server, agent="two", seed=7, store="new")
        await before.take()
        await after.take()
        assert after.number != before.number
        numbers = Numbers()
        numbers.learn(server.values[LAYOUT.names])
        hold_up(1.0)
        await after.take()
        numbers.learn(server.values[LAYOUT.names])
        assert numbers.number_of(node("own")) == after.number

    playing(play)


@pytest.mark.parametrize(("one", "two"), [("same", "same"), ("", "known"), ("known", "")])
def test_a_store_that_is_not_known_to_be_another_one_is_the_same(one: str, two: str) -> None:
    async def play(server: FakeServer) -> None:
        before, after = lease(server, store=one), lease(server, agent="two", seed=7, store=two)
        await before.take()
        await after.take()
        assert after.number == before.number

    playing(play)


def test_all_know_the_numbers_of_all_by_one_value() -> None:
    async def play(server: FakeServer) -> None:
        numbers = Numbers()
        other = lease(server, "other")
        await other.take()
        numbers.learn(server.values[LAYOUT.names])
        assert numbers.number_of(node("other")) == other.number

    playing(play)


def test_nobody_gets_a_number_while_bits_of_its_last_owner_may_be_there() -> None:
    async def play(server: FakeServer) -> None:
        first = lease(server, "first")
        await first.take()
        hold_up(NUMBER_TTL_S - 10.0)
        others = [lease(server, f"n{seed}", seed=seed) for seed in range(63)]
        for other in others:
            await other.take()
        assert first.number not in {other.number for other in others}

    playing(play)


def test_a_number_whose_owner_has_gone_for_long_is_used_again() -> None:
    async def play(server: FakeServer) -> None:
        first = lease(server, "first")
        await first.take()
        hold_up(NUMBER_TTL_S + 1.0)
        others = [lease(server, f"n{seed}", seed=seed) for seed in range(64)]
        for other in others:
            await other.take()
        assert first.number in {other.number for other in others}
        assert await standing(first, server) is Whose.ANOTHERS

    playing(play)


def test_a_number_that_is_kept_stays_with_its_node() -> None:
    async def play(server: FakeServer) -> None:
        one = lease(server)
        await one.take()
        for _ in range(30):
            hold_up(NUMBER_TTL_S / 10)
            assert await standing(one, server) is Whose.OWN
            await one.renew()

    playing(play)


def test_after_a_while_without_an_answer_nobody_is_sure_of_its_number() -> None:
    async def play(server: FakeServer) -> None:
        one = lease(server)
        assert not one.is_sure
        await one.take()
        assert one.is_sure
        hold_up(120.0)  # the machine was suspended
        assert not one.is_sure
        assert await standing(one, server) is Whose.OWN
        assert one.is_sure

    playing(play)


def test_an_emptied_server_gives_the_number_back_to_its_node() -> None:
    async def play(server: FakeServer) -> None:
        one = lease(server)
        await one.take()
        before = one.number
        server.empty()
        assert await standing(one, server) is Whose.NOBODYS
        assert not await one.take()
        assert one.number == before

    playing(play)


def test_whoever_lost_its_number_to_another_node_takes_another_one() -> None:
    async def play(server: FakeServer) -> None:
        one = lease(server)
        await one.take()
        assert one.number is not None
        before = one.number
        server.values[LAYOUT.number(before)] = b"other agent"
        assert await one.take()
        assert one.number not in (None, before)
        assert server.values[LAYOUT.number(before)] == b"other agent"

    playing(play)


def test_a_name_that_another_begins_with_is_another_name() -> None:
    async def play(server: FakeServer) -> None:
        one = lease(server, "node-1")
        await one.take()
        assert one.whose(b"node-10 agent") is Whose.ANOTHERS
        assert one.whose(b"node-1 agent") is Whose.OWN

    playing(play)


@pytest.mark.parametrize("wrong", [b"", b"x" * 7, b"\xff" * 999, ["a", "list"], {b"a": b"map"}])
def test_whatever_is_in_the_value_of_all_numbers_a_node_gets_one(wrong: object) -> None:
    async def play(server: FakeServer) -> None:
        server.values[LAYOUT.names] = wrong
        one = lease(server)
        await one.take()
        assert one.number is not None
        await one.take()

    playing(play)


def test_a_value_that_says_that_the_own_number_is_huge_is_not_believed() -> None:
    async def play(server: FakeServer) -> None:
        server.values[LAYOUT.names] = b"\0" * 12 * (NUMBERS_MAX + 5) + slot_value(node("own"), server.now_s)
        one = lease(server)
        await one.take()
        assert one.number is not None
        assert one.number < NUMBERS_MAX

    playing(play)


def test_an_answer_that_is_no_time_is_told_as_garbage() -> None:
    async def play(server: FakeServer) -> None:
        one = lease(server)
        with pytest.raises(IndexDown):
            one.heard([b"noon"])

    playing(play)


def test_every_key_of_a_number_has_an_end() -> None:
    async def play(server: FakeServer) -> None:
        await lease(server).take()
        assert len(server.values) == 2
        assert server.without_end() == set()

    playing(play)
