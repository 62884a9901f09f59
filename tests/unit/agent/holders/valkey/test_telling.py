"""The server is told what a node has, and what it lost is noticed and told again. In virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from agent.holders.bitmap import bits_of, numbers_of
from agent.holders.valkey.asked import Command
from agent.holders.valkey.layout import ALIVE_S, EPOCH_S, FLIGHT_TTL_S, NUMBER_TTL_S
from agent.holders.valkey.leasing import Lease
from agent.holders.valkey.numbers import Numbers
from agent.holders.valkey.serverclock import ServerClock
from agent.holders.valkey.telling import Teller
from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble
from agent.oci.digest import Digest
from tests.unit.agent.holders.valkey.fakeserver import LAYOUT, FakeServer
from tests.unit.twins import hold_up, loop_clock, node, run_in_virtual_time, sha256

DIGESTS = [sha256(number) for number in range(20)]
A, B = DIGESTS[:2]


@dataclass(slots=True)
class Told:
    """One node, which tells the server."""

    server: FakeServer
    teller: Teller
    lease: Lease
    growing: set[Digest]

    @property
    def number(self) -> int:
        assert self.lease.number is not None
        return self.lease.number

    def has_said(self, digest: Digest, epoch: int | None = None) -> bool:
        return self.number in self.server.holders(digest, epoch)


def told(server: FakeServer, own: str = "own", *, members: int = 3, seed: int = 1) -> Told:
    clock, growing = ServerClock(), set[Digest]()
    chance = random.Random(seed)
    lease = Lease(
        server,
        LAYOUT,
        own=node(own),
        agent="one",
        numbers=Numbers(),
        server_clock=clock,
        members=lambda: members,
        clock=loop_clock,
        asleep_clock=loop_clock,
        chance=chance.randrange,
    )
    known = asyncio.Event()
    known.set()
    teller = Teller(
        server,
        LAYOUT,
        lease=lease,
        server_clock=clock,
        members=lambda: members,
        on_reset=lambda: None,
        members_known=known.wait,
        growing=growing.__contains__,
        clock=loop_clock,
        chance=chance.uniform,
    )
    return Told(server, teller, lease, growing)


def playing(play: Callable[[Told], Awaitable[None]]) -> None:
    async def main() -> None:
        one = told(FakeServer())
        running = asyncio.create_task(one.teller.run())
        try:
            await play(one)
            assert not running.done()
            assert one.server.without_end() == set()  # every key has a time to live, whatever happened
        finally:
            running.cancel()

    run_in_virtual_time(main())


def test_what_a_node_has_is_announced_and_what_it_lost_is_withdrawn_within_a_second() -> None:
    async def play(one: Told) -> None:
        one.teller.have([A, B])
        await asyncio.sleep(2.0)
        assert one.has_said(A)
        assert one.has_said(B)
        one.teller.lack([A])
        one.teller.have([DIGESTS[2]])
        await asyncio.sleep(1.0)
        assert not one.has_said(A)
        assert one.has_said(B)
        assert one.has_said(DIGESTS[2])

    playing(play)


def test_what_is_withdrawn_is_withdrawn_from_the_epoch_before_as_well() -> None:
    async def play(one: Told) -> None:
        one.teller.have([A])
        await asyncio.sleep(2.0)
        before = one.server.epoch
        await asyncio.sleep(EPOCH_S)
        assert one.has_said(A, before)
        one.teller.lack([A])
        await asyncio.sleep(1.0)
        assert not one.has_said(A, before)
        assert not one.has_said(A)

    playing(play)


def test_what_the_server_never_knew_leaves_no_key_there_when_it_is_withdrawn() -> None:
    async def play(one: Told) -> None:
        one.teller.have([A])
        await asyncio.sleep(2.0)
        before = {*one.server.values}
        one.teller.lack([A, B])
        one.teller.denied(DIGESTS[2])
        await asyncio.sleep(2.0)
        assert not one.has_said(A)
        assert {*one.server.values} == before
        assert one.teller.announcements.pending == 0

    playing(play)


def test_in_each_epoch_everything_is_said_again_before_it_is_no_longer_read() -> None:
    async def play(one: Told) -> None:
        one.teller.have(DIGESTS)
        await asyncio.sleep(2.0)
        for _ in range(40):
            await asyncio.sleep(EPOCH_S / 10)
            epoch = one.server.epoch
            assert all(one.has_said(each, epoch) or one.has_said(each, epoch - 1) for each in DIGESTS)

    playing(play)


def test_nobody_is_told_anything_before_the_members_are_known() -> None:
    async def main() -> None:
        server, known = FakeServer(), asyncio.Event()
        one = told(server)
        one.teller._members_known = known.wait
        running = asyncio.create_task(one.teller.run())
        one.teller.have([A])
        await asyncio.sleep(60.0)
        assert server.calls == []
        known.set()
        await asyncio.sleep(2.0)
        assert one.has_said(A)
        running.cancel()

    run_in_virtual_time(main())


def test_a_server_that_was_emptied_is_told_everything_again_although_nobody_said_so() -> None:
    async def play(one: Told) -> None:
        one.teller.have(DIGESTS)
        await asyncio.sleep(5.0)
        before = one.number
        one.server.empty()
        await asyncio.sleep(20.0)
        assert one.number == before
        assert all(one.has_said(each) for each in DIGESTS)
        assert one.teller.resets == 1
        assert one.teller.last_reset is not None

    playing(play)


def test_a_reset_that_the_connection_tells_of_is_looked_into_at_once() -> None:
    async def play(one: Told) -> None:
        one.teller.have(DIGESTS)
        await asyncio.sleep(5.0)
        one.server.empty()
        one.server.reset()
        await asyncio.sleep(1.5)
        assert all(one.has_said(each) for each in DIGESTS)

    playing(play)


def test_a_reset_that_lost_nothing_makes_nobody_say_anything_again() -> None:
    async def play(one: Told) -> None:
        one.teller.have(DIGESTS)
        await asyncio.sleep(5.0)
        one.server.counted.clear()
        one.server.reset()
        await asyncio.sleep(30.0)
        assert one.server.counted["SETBIT"] == 0
        assert one.teller.resets == 0

    playing(play)


def test_bits_that_were_lost_after_a_failover_or_evicted_are_said_again() -> None:
    async def play(one: Told) -> None:
        one.teller.have(DIGESTS)
        await asyncio.sleep(5.0)
        for digest in DIGESTS[:5]:
            del one.server.values[LAYOUT.bitmap(one.server.epoch, digest)]
        await asyncio.sleep(600.0)
        assert all(one.has_said(each) for each in DIGESTS)
        assert one.teller.resets == 0

    playing(play)


def test_a_gap_that_an_audit_finds_is_doubt_about_the_server_until_all_is_told_again() -> None:
    async def play(one: Told) -> None:
        one.teller.have(DIGESTS)
        await asyncio.sleep(60.0)
        assert not one.teller.is_doubted(loop_clock())
        for digest in DIGESTS[:5]:
            del one.server.values[LAYOUT.bitmap(one.server.epoch, digest)]
        doubts: list[bool] = []
        for _ in range(100):
            await asyncio.sleep(1.0)
            doubts.append(one.teller.is_doubted(loop_clock()))
        assert all(one.has_said(each) for each in DIGESTS)
        assert any(doubts)
        assert not doubts[-1]

    playing(play)


def test_whoever_was_cut_off_when_an_epoch_began_is_found_when_it_ends() -> None:
    async def play(one: Told) -> None:
        one.teller.have(DIGESTS)
        await asyncio.sleep(5.0)
        epoch = one.server.epoch
        one.server.healthy = False
        await asyncio.sleep((epoch + 1.8) * EPOCH_S - one.server.now_s)
        one.server.healthy = True
        await asyncio.sleep(0.19 * EPOCH_S)
        assert one.teller.resets == 0
        assert all(one.has_said(each, epoch + 1) for each in DIGESTS)

    playing(play)


def test_the_key_of_a_number_that_was_evicted_alone_is_no_reset() -> None:
    async def play(one: Told) -> None:
        one.teller.have(DIGESTS)
        await asyncio.sleep(5.0)
        before = one.number
        del one.server.values[LAYOUT.number(before)]
        one.server.counted.clear()
        await asyncio.sleep(30.0)
        assert one.number == before
        assert LAYOUT.number(before) in one.server.values
        assert one.server.counted["SETBIT"] == 0

    playing(play)


@pytest.mark.parametrize("value", [None, b"", b"\xff" * 5000, ["a", "list"]])
def test_a_value_of_all_numbers_that_is_lost_or_wrong_is_written_again_by_everybody(value: object) -> None:
    async def play(one: Told) -> None:
        await asyncio.sleep(2.0)
        del one.server.values[LAYOUT.names]
        if value is not None:
            one.server.values[LAYOUT.names] = value
            one.server.ends_s[LAYOUT.names] = one.server.now_s + 100.0
        await asyncio.sleep(30.0)
        numbers = Numbers()
        numbers.learn(one.server.values[LAYOUT.names])
        assert numbers.number_of(node("own")) == one.number

    playing(play)


def test_a_node_gives_a_sign_of_life_in_each_period_as_long_as_the_server_takes_what_it_announces() -> None:
    async def play(one: Told) -> None:
        def signs() -> list[bool]:
            period = int(one.server.now_s // ALIVE_S)
            values = (one.server.values.get(LAYOUT.alive(each), b"") for each in (period - 1, period - 2))
            return [one.number in numbers_of(bits_of(value)) for value in values]

        await asyncio.sleep(3 * ALIVE_S)
        for _ in range(20):
            await asyncio.sleep(ALIVE_S)
            assert signs() == [True, True]
        one.server.writable = False
        await asyncio.sleep(4 * ALIVE_S)
        assert signs() == [False, False]

    playing(play)


def test_a_node_that_has_yet_to_tell_what_it_has_gives_no_sign_of_life_before_it_is_told() -> None:
    """Its near nodes ask it itself meanwhile. An agent that goes on where one was before need not wait."""

    async def main() -> None:
        server = FakeServer()
        one = told(server, members=5000)
        one.teller.have([sha256(each) for each in range(1000)])
        running = asyncio.create_task(one.teller.run())
        while one.teller.announcements.announced < 1000:
            assert server.counted["ALIVE"] == 0
            await asyncio.sleep(1.0)
        await asyncio.sleep(2 * ALIVE_S)
        assert server.counted["ALIVE"] > 0
        running.cancel()
        server.counted.clear()
        after = told(server, members=5000, seed=3)
        after.teller.have([sha256(each) for each in range(1000)])
        running = asyncio.create_task(after.teller.run())
        await asyncio.sleep(8.0)
        assert after.number == one.number
        assert server.counted["ALIVE"] > 0
        running.cancel()

    run_in_virtual_time(main())


def test_a_node_for_which_no_number_is_left_asks_for_one_now_and_then_only() -> None:
    async def play(one: Told) -> None:
        one.lease._numbers.free = lambda *_: None  # type: ignore[method-assign]
        one.teller.have([A])
        one.server.calls.clear()
        await asyncio.sleep(60.0)
        assert one.lease.number is None
        assert len(one.server.calls) < 20

    playing(play)


def test_what_changes_while_the_server_is_away_is_told_when_it_is_back() -> None:
    async def play(one: Told) -> None:
        one.teller.have([A])
        await asyncio.sleep(2.0)
        one.server.healthy = False
        one.teller.lack([A])
        one.teller.have([B])
        await asyncio.sleep(500.0)
        assert one.has_said(A)
        one.server.healthy = True
        await asyncio.sleep(3.0)
        assert not one.has_said(A)
        assert one.has_said(B)

    playing(play)


def test_a_full_server_is_told_nothing_and_is_told_it_later() -> None:
    async def play(one: Told) -> None:
        await asyncio.sleep(2.0)
        one.server.writable = False
        one.server.counted.clear()
        one.teller.have([A])
        await asyncio.sleep(30.0)
        assert one.server.counted["SETBIT"] == one.server.counted["SET"] == 0
        assert one.teller.announcements.pending == 1
        one.server.writable = True
        one.teller.have([B])  # wakes it
        await asyncio.sleep(2.0)
        assert one.has_said(A)

    playing(play)


def test_an_error_in_the_middle_of_a_batch_loses_nothing() -> None:
    async def play(one: Told) -> None:
        await asyncio.sleep(2.0)
        failures = [IndexDown(IndexTrouble.SLOW, "late", "")] * 3

        def before(commands: Sequence[Command]) -> None:
            if failures and any(command[0] == "SETBIT" for command in commands):
                raise failures.pop()

        one.server.before = before
        one.teller.have(DIGESTS)
        await asyncio.sleep(20.0)
        assert failures == []
        assert all(one.has_said(each) for each in DIGESTS)

    playing(play)


def test_an_agent_that_was_suspended_asks_whose_its_number_is_before_it_sets_a_bit() -> None:
    async def play(one: Told) -> None:
        one.teller.have([A])
        await asyncio.sleep(2.0)
        before = one.number
        one.teller.have([B])
        hold_up(NUMBER_TTL_S * 2)
        one.server.values[LAYOUT.number(before)] = b"other agent"
        one.server.ends_s[LAYOUT.number(before)] = one.server.now_s + 5000.0
        await asyncio.sleep(5.0)
        assert one.number != before
        assert before not in one.server.holders(B)
        assert one.has_said(A)
        assert one.has_said(B)

    playing(play)


def test_bits_that_were_set_with_a_number_that_was_anothers_by_then_are_taken_back() -> None:
    async def play(one: Told) -> None:
        await asyncio.sleep(2.0)
        before = one.number
        stolen = False

        def between(commands: Sequence[Command]) -> None:  # after it made sure, and before it writes
            nonlocal stolen
            if not stolen and any(
                command[0] == "SETBIT" and ":b:" in str(command[1]) for command in commands
            ):
                stolen = True
                one.server.values[LAYOUT.number(before)] = b"other agent"

        one.server.before = between
        one.teller.have([A])
        await asyncio.sleep(5.0)
        assert stolen
        assert one.number != before
        assert one.server.holders(A) == {one.number}

    playing(play)


def test_two_agents_of_one_node_have_one_number_and_neither_takes_the_others_bits() -> None:
    async def play(one: Told) -> None:
        one.teller.have([A])
        await asyncio.sleep(2.0)
        after = told(one.server, seed=5)
        running = asyncio.create_task(after.teller.run())
        after.teller.have([A, B])
        await asyncio.sleep(30.0)
        assert after.number == one.number
        assert one.has_said(A)
        assert after.has_said(B)
        assert one.teller.resets == after.teller.resets == 0
        running.cancel()

    playing(play)


@pytest.mark.parametrize("jump_s", [-5 * EPOCH_S, -90.0, 90.0, 7 * EPOCH_S])
def test_whatever_the_servers_clock_does_what_a_node_has_is_found_soon_after(jump_s: float) -> None:
    async def play(one: Told) -> None:
        one.teller.have(DIGESTS)
        await asyncio.sleep(5.0)
        one.server.ahead_s += jump_s
        await asyncio.sleep(30.0)
        epoch = one.server.epoch
        assert all(one.has_said(each, epoch) or one.has_said(each, epoch - 1) for each in DIGESTS)

    playing(play)


def test_a_value_of_another_type_in_the_way_is_removed_and_the_bit_is_set() -> None:
    async def play(one: Told) -> None:
        await asyncio.sleep(2.0)
        key = LAYOUT.bitmap(one.server.epoch, A)
        one.server.values[key] = ["a", "list"]
        one.server.ends_s[key] = one.server.now_s + 100.0
        one.teller.have([A])
        await asyncio.sleep(60.0)
        assert one.has_said(A)

    playing(play)


def test_what_a_node_is_fetching_is_said_apart_from_what_it_has() -> None:
    async def play(one: Told) -> None:
        await asyncio.sleep(2.0)
        one.growing.add(A)
        one.teller.fetching(A)
        await asyncio.sleep(0.1)
        assert one.server.fetching(A) == {one.number}
        assert not one.has_said(A)
        one.growing.discard(A)
        one.teller.have([A])
        await asyncio.sleep(1.0)
        assert one.server.fetching(A) == set()
        assert one.has_said(A)

    playing(play)


def test_a_fetch_that_takes_long_is_said_as_long_as_it_runs_and_not_for_longer() -> None:
    async def play(one: Told) -> None:
        await asyncio.sleep(2.0)
        one.growing.add(A)
        one.teller.fetching(A)
        for _ in range(10):
            await asyncio.sleep(FLIGHT_TTL_S / 2)
            assert one.server.fetching(A) == {one.number}
        one.growing.discard(A)
        await asyncio.sleep(FLIGHT_TTL_S / 2)
        assert one.server.fetching(A) == set()

    playing(play)


def test_what_a_peer_asked_for_in_vain_is_withdrawn_as_the_agent_before_may_have_announced_it() -> None:
    async def play(one: Told) -> None:
        one.teller.have([A])
        await asyncio.sleep(2.0)
        await one.server.call(("SETBIT", LAYOUT.bitmap(one.server.epoch, B), one.number, 1))
        one.server.ends_s[LAYOUT.bitmap(one.server.epoch, B)] = one.server.now_s + 100.0
        one.teller.denied(A)  # it is here, and was withheld
        one.teller.denied(B)
        await asyncio.sleep(1.0)
        assert one.has_said(A)
        assert not one.has_said(B)

    playing(play)


def test_a_peer_that_asks_for_anything_costs_little_on_the_server() -> None:
    async def play(one: Told) -> None:
        await asyncio.sleep(400.0)
        one.server.counted.clear()
        for number in range(1000):
            one.teller.denied(sha256(f"nonsense {number}"))
        await asyncio.sleep(10.0)
        assert one.server.counted["SETBIT"] <= 64
        await asyncio.sleep(3 * EPOCH_S)
        one.server.counted.clear()
        one.teller.denied(sha256("nonsense"))
        await asyncio.sleep(5.0)
        assert one.server.counted["SETBIT"] == 0

    playing(play)


def test_what_is_read_back_is_bounded_however_many_nodes_there_are() -> None:
    async def main() -> None:
        server = FakeServer()
        one = told(server, members=50_000)
        one.teller.have(DIGESTS)
        running = asyncio.create_task(one.teller.run())
        await asyncio.sleep(400.0)
        server.calls.clear()
        await asyncio.sleep(600.0)
        audits = [call for call in server.calls if call[0] == ("TIME",)]
        assert len(audits) <= 600 / 80 + 4
        assert len(server.calls) <= 600 / (ALIVE_S - 2.5) + 600 / 80 + 4
        running.cancel()

    run_in_virtual_time(main())
