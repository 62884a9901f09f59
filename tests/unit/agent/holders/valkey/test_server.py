"""The door, with a real server behind it: what it asks, what it tells, and when it comes back."""

import asyncio
import time

import pytest

from agent.holders.valkey.factory import make_server
from agent.holders.valkey.marker import MARKER_LIFE_S
from agent.holders.valkey.trouble import IndexDown, Refused
from agent.observe.index_metrics import IndexTrouble
from benchmarks.lab.valkey import ValkeyServer
from tests.unit.agent.holders.valkey.rig import opened, settings, until


async def test_many_commands_are_one_round_trip_and_their_replies_come_in_order(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        replies = await door.server.call(
            ("SET", "a", b"\x00\xff"),
            ("GET", "a"),
            ("GET", "none"),
            ("SETBIT", "a", 9, 0),
            ("MGET", "a", "b"),
        )
        assert replies == [b"OK", b"\x00\xff", None, 1, [b"\x00\xbf", None]]
        assert await door.server.call() == []
        assert door.server.latency_us is not None


async def test_callers_at_once_get_their_own_replies(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        replies = await asyncio.gather(*(door.server.call(("ECHO", str(n))) for n in range(200)))
        assert replies == [[str(n).encode()] for n in range(200)]
        assert valkey.usage().connected == 2  # this one, and the one that asks


async def test_error_about_one_command_is_in_its_place_and_ends_nothing(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        _, wrong, right = await door.server.call(("LPUSH", "l", 1), ("GET", "l"), ("PING",))
        assert isinstance(wrong, Refused)
        assert (wrong.code, right) == ("WRONGTYPE", b"PONG")
        assert door.server.healthy


async def test_caller_that_goes_away_leaves_no_reply_to_the_next_one(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        gone = asyncio.create_task(door.server.call(("ECHO", "gone")))
        await asyncio.sleep(0)  # it has sent its question
        gone.cancel()
        assert await door.server.call(("ECHO", "next")) == [b"next"]


async def test_change_of_a_tracked_key_is_told_and_so_is_the_loss_of_everything(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        assert door.server.tracking
        await door.server.call(("MGET", "a", "b"), ("GET", "c"), tracked=True)
        for key in ("c", "b", "a"):
            valkey.cli("set", key, "1")
        await until(lambda: [b"a"] in door.invalid)
        assert door.invalid == [[b"b"], [b"a"]]
        await door.server.call(("GET", "a"), tracked=True)
        valkey.cli("flushall")
        await until(lambda: None in door.invalid)


async def test_a_thousand_changes_in_a_row_are_told_one_by_one(valkey: ValkeyServer) -> None:
    keys = [f"k{n}" for n in range(3000)]
    async with opened(valkey.url()) as door:
        await door.healthy()
        await door.server.call(("MGET", *keys), tracked=True)
        valkey.cli("eval", "for n = 0, 2999 do redis.call('SET', 'k' .. n, '1') end", "0")
        await until(lambda: len(door.invalid) == len(keys))
        assert await door.server.call(("PING",)) == [b"PONG"]


async def test_restarted_server_is_empty_which_is_told_once_and_it_is_asked_again(
    valkey: ValkeyServer,
) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        valkey.restart()
        await until(lambda: bool(door.resets))
        await door.healthy()
        assert door.resets == ["the server was emptied"]
        assert await door.server.call(("PING",)) == [b"PONG"]
        assert None in door.invalid


async def test_emptied_server_is_noticed_though_the_connection_holds(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        valkey.cli("flushall")
        await until(lambda: door.resets == ["the server was emptied"])
        assert door.server.healthy
        assert door.failed == []


async def test_whether_it_was_emptied_is_known_before_the_next_look(valkey: ValkeyServer) -> None:
    """Its clock jumped, say: all keys have ended, and no connection was told."""
    async with opened(valkey.url()) as door:
        await door.healthy()
        assert await door.server.is_as_seen()
        valkey.cli("del", "shorthaul:1:cluster")
        assert not await door.server.is_as_seen()
        await until(lambda: door.resets == ["the server was emptied"])  # it was looked at for that
        assert await door.server.is_as_seen()


async def test_server_that_is_emptied_again_and_again_is_looked_at_at_a_bounded_rate(
    valkey: ValkeyServer,
) -> None:
    async with opened(valkey.url(), members=lambda: 1000) as door:  # spread over 0.5 s
        await door.healthy()
        before = valkey.usage().commands
        await asyncio.to_thread(valkey.cli, "eval", "for n = 1, 500 do redis.call('FLUSHALL') end", "0")
        await until(lambda: door.resets != [])
        assert valkey.usage().commands - before < 500 + 50
        assert door.server.healthy


async def test_loss_of_the_connection_is_noticed_also_while_a_look_is_put_off(valkey: ValkeyServer) -> None:
    members = 3
    async with opened(valkey.url(), members=lambda: members) as door:
        await door.healthy()
        members = 60_000  # spread over half a minute
        await asyncio.to_thread(valkey.cli, "flushall")
        await until(lambda: None in door.invalid)
        await asyncio.sleep(0)
        valkey.kill()
        await until(lambda: not door.server.healthy)


async def test_agents_that_start_together_connect_once_they_know_how_many_they_are(
    valkey: ValkeyServer,
) -> None:
    known = asyncio.Event()
    async with opened(valkey.url(), members_known=known.wait) as door:
        await asyncio.sleep(0)
        assert valkey.usage().connected == 1  # whoever asks
        assert not door.server.healthy
        known.set()
        await door.healthy()


async def test_connection_that_was_cut_is_made_again_and_nothing_is_taken_for_lost(
    valkey: ValkeyServer,
) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        valkey.cli("client", "kill", "type", "normal", "skipme", "yes")
        await until(lambda: bool(door.failed))
        await door.healthy()
        assert await door.server.call(("PING",)) == [b"PONG"]
        assert door.resets == []
        assert door.invalid == [None]  # a change may have been missed


async def test_server_that_was_away_lacks_what_came_meanwhile_until_the_others_had_time_to_tell_it(
    valkey: ValkeyServer,
) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        assert door.server.caught_up  # nothing is known of before
        valkey.cli("client", "kill", "type", "normal", "skipme", "yes")
        await until(lambda: bool(door.failed))
        await until(lambda: door.server.healthy and not door.server.caught_up)
        await until(lambda: door.server.caught_up)
        assert door.server.healthy


async def test_server_that_was_full_lacks_what_came_meanwhile_as_well(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        valkey.fill()
        with pytest.raises(IndexDown):
            await door.server.call(("SET", "k", "v"))
        valkey.configure(maxmemory="0")
        await until(lambda: door.server.writable and not door.server.caught_up)
        await until(lambda: door.server.caught_up)


async def test_how_long_there_has_been_an_index_is_known_to_whoever_comes_later(valkey: ValkeyServer) -> None:
    assert (
        make_server(settings(valkey.url()), ids=tuple, members=lambda: 1, failed=lambda _: None).young_s
        is None
    )
    async with opened(valkey.url()) as first:
        await first.healthy()
        number = valkey.cli("get", "shorthaul:1:cluster").split()[2]
        made_s = int(time.time()) - 100
        valkey.cli("set", "shorthaul:1:cluster", f"1 name:lab {number} {made_s}")
        async with opened(valkey.url()) as second:
            await second.healthy()
            assert second.server.young_s is not None
            assert 99 <= second.server.young_s < 130
            assert second.server.cluster == "name:lab"


async def test_nothing_of_the_door_stays_on_the_server_for_ever(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        keys = valkey.cli("keys", "*").split()
        assert sorted(keys) == ["shorthaul:1:cluster"]  # and the probe's key, for a minute after a look
        assert 0 < int(valkey.cli("ttl", "shorthaul:1:cluster")) <= MARKER_LIFE_S


async def test_before_it_runs_and_after_it_ended_nothing_is_asked(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        with pytest.raises(IndexDown) as refused:
            await door.server.call(("PING",))
        assert refused.value.kind is IndexTrouble.NOT_READY
        await door.healthy()
    with pytest.raises(IndexDown):
        await door.server.call(("PING",))
    assert valkey.usage().connected == 1
