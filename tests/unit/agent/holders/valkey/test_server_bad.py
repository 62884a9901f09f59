"""Servers that are slow, frozen, full, read-only, refuse this node, or are no servers: what each costs, what
is said of it, and that the door comes back by itself.
"""

import asyncio
import os
import resource
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble
from benchmarks.lab.certificates import Authority
from benchmarks.lab.valkey import ValkeyServer
from tests.unit.agent.holders.valkey.rig import Door, delayed, listening, opened, until

DEADLINE_S = 0.3
GREETING = b"%1\r\n+proto\r\n:3\r\n"


async def kinds(door: Door, count: int) -> list[IndexTrouble]:
    """What so many callers at once are told."""
    asked = (door.server.call(("GET", "k")) for _ in range(count))
    told = await asyncio.gather(*asked, return_exceptions=True)
    return [each.kind for each in told if isinstance(each, IndexDown)]


async def test_frozen_server_costs_one_deadline_for_all_who_ask_and_nothing_for_those_who_come(
    valkey: ValkeyServer,
) -> None:
    async with opened(valkey.url(), timeout_s=DEADLINE_S) as door:
        await door.healthy()
        connections = valkey.info()["total_connections_received"]
        valkey.freeze()
        assert await kinds(door, 50) == [IndexTrouble.SLOW] * 50
        assert door.failed.count(IndexTrouble.SLOW) == 1  # the breaker opened once
        started_s = time.monotonic()
        assert await kinds(door, 1000) == [IndexTrouble.SLOW] * 1000
        assert (
            time.monotonic() - started_s < DEADLINE_S * 100
        )  # none of them waited for a deadline of its own
        assert "300 ms" in str(door.server.problem)
        valkey.thaw()
        await door.healthy()
        assert await door.server.call(("GET", "k")) == [None]
        assert door.resets == []
        # It answers on the connection that it had: thousands of agents need not connect again.
        assert int(valkey.info()["total_connections_received"]) == int(connections) + 1


async def test_slow_server_is_not_asked_and_is_asked_again_once_it_is_fast(valkey: ValkeyServer) -> None:
    delay_s = 0.0
    async with (
        delayed(valkey.endpoint, lambda: delay_s) as place,
        opened(f"valkey://{place}", timeout_s=0.15) as door,
    ):
        await door.healthy()
        delay_s = 0.2
        while door.server.healthy:
            await kinds(door, 1)
        assert door.kind is IndexTrouble.SLOW
        delay_s = 0.0
        await door.healthy()


async def test_server_that_was_slow_from_the_start_is_told_in_words(valkey: ValkeyServer) -> None:
    async with (
        delayed(valkey.endpoint, lambda: 0.2) as place,
        opened(f"valkey://{place}", timeout_s=0.05) as door,
    ):
        await door.down(IndexTrouble.SLOW)
        assert "within 50 ms" in str(door.server.problem)
        assert "valkey.timeout_s" in door.server.hint


async def test_node_that_was_held_up_itself_does_not_blame_the_server(valkey: ValkeyServer) -> None:
    async with opened(valkey.url(), timeout_s=DEADLINE_S) as door:
        await door.healthy()
        asked = [asyncio.create_task(door.server.call(("GET", "k"))) for _ in range(20)]
        await asyncio.sleep(0)
        time.sleep(3 * DEADLINE_S)  # noqa: ASYNC251 - this holds the event loop up
        assert [await each for each in asked] == [[None]] * 20
        assert door.failed == []


async def test_full_server_is_still_asked_and_takes_writes_again_once_it_has_room(
    valkey: ValkeyServer,
) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        await door.server.call(("SET", "k", "v"))
        valkey.fill()
        assert await kind_of_write(door) is IndexTrouble.FULL
        assert (door.server.healthy, door.server.writable) == (True, False)
        assert await door.server.call(("GET", "k")) == [b"v"]
        assert "maxmemory" in str(door.server.problem)
        valkey.configure(maxmemory="0")
        await until(lambda: door.server.writable)
        assert door.server.problem is None
        assert await door.server.call(("SET", "k", "w")) == [b"OK"]
        assert door.resets == []


async def kind_of_write(door: Door) -> IndexTrouble:
    with pytest.raises(IndexDown) as refused:
        await door.server.call(("SET", "other", "v"))
    return refused.value.kind


async def test_server_that_was_full_before_anybody_came_is_of_no_use_until_it_has_room(
    valkey: ValkeyServer,
) -> None:
    valkey.fill()
    async with opened(valkey.url()) as door:
        await door.down(IndexTrouble.FULL)
        valkey.configure(maxmemory="0")
        await door.healthy()


async def test_server_that_evicts_loses_the_marker_which_is_taken_for_emptied(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        valkey.cli("del", "shorthaul:1:cluster")  # as an evicting policy does
        valkey.cli("flushdb")  # it tells who tracks, so that the door looks soon
        await until(lambda: door.resets != [])


async def test_replica_is_not_asked_until_it_is_a_primary(tmp_path: Path, valkey: ValkeyServer) -> None:
    replica = ValkeyServer(tmp_path / "replica", replica_of=valkey)
    try:
        async with opened(replica.url()) as door:
            await until(lambda: door.kind in (IndexTrouble.READ_ONLY, IndexTrouble.NOT_READY))
            await door.down(IndexTrouble.READ_ONLY)
            assert "valkey+sentinel" in door.server.hint
            replica.follow(None)
            await door.healthy()
            replica.follow(valkey)
            await until(lambda: replica.info()["role"] == "slave")
            assert await kind_of_write(door) is IndexTrouble.READ_ONLY
            assert not door.server.healthy
    finally:
        replica.stop()


async def test_primary_that_is_demoted_is_left_for_the_one_that_the_sentinels_name(tmp_path: Path) -> None:
    one, two = ValkeyServer(tmp_path / "one"), ValkeyServer(tmp_path / "two")
    primary = one

    async def sentinel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"SETNAME\r\n")
        writer.write(b"%1\r\n+mode\r\n+sentinel\r\n")
        await reader.readuntil(b"index\r\n")
        writer.write(b"*2\r\n+127.0.0.1\r\n+%d\r\n" % primary.port)
        await reader.read()

    try:
        async with listening(sentinel) as place, opened(f"valkey+sentinel://{place}/index") as door:
            await door.healthy()
            primary = two
            one.follow(two)
            await until(lambda: one.info()["role"] == "slave")
            assert await kind_of_write(door) is IndexTrouble.READ_ONLY
            await door.healthy()
            assert await door.server.call(("SET", "k", 1)) == [b"OK"]
            assert two.cli("get", "k") == "1"
            assert len(door.resets) == 1
    finally:
        one.stop()
        two.stop()


async def test_password_is_read_again_when_it_was_refused(tmp_path: Path) -> None:
    server, path = ValkeyServer(tmp_path / "v", password="new-secret"), tmp_path / "password"
    path.write_text("old-secret\n")
    try:
        async with opened(server.url(), password_file=str(path)) as door:
            await door.down(IndexTrouble.DENIED)
            assert "valkey.password_file" in door.server.hint
            said = f"{door.server.problem} {door.server.hint} {door.server.trouble!r}"
            assert "secret" not in said
            path.write_text("new-secret\n")
            await door.healthy()
        async with opened(server.url()) as door:
            await door.down(IndexTrouble.DENIED)
            assert "asks for a password" in str(door.server.problem)
    finally:
        server.stop()


async def test_certificate_of_another_name_is_refused_unless_that_name_is_given(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    folder = authority.issue(tmp_path / "tls", "DNS:valkey.example")
    server = ValkeyServer(tmp_path / "v", certificates=folder)
    files: dict[str, Any] = {"ca_file": str(folder / "ca.crt")}
    try:
        async with opened(server.url(), **files) as door:
            await door.down(IndexTrouble.TLS)
            assert "127.0.0.1" in str(door.server.problem)
            assert "valkey.server_name" in door.server.hint
        async with opened(server.url(), server_name="other.example", **files) as door:
            await door.down(IndexTrouble.TLS)
        async with opened(server.url(), server_name="valkey.example", **files) as door:
            await door.healthy()
        async with opened(server.url().replace("valkeys", "valkey")) as door:
            await until(lambda: door.kind in (IndexTrouble.GARBAGE, IndexTrouble.UNREACHABLE))
    finally:
        server.stop()


GARBAGE = {
    "a web server": b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
    "a mail server": b"220 mail.example ESMTP\r\n",
    "zeros": b"\x00" * 100 + b"\r\n",
    "an endless line": b"x" * 300_000,
    "a greeting and then noise": GREETING + b"\xff\xfe\r\n",
    "a greeting and then text for everything": GREETING + b"+OK\r\n" * 100,
    "a greeting and a huge value": GREETING + b"$99999999\r\n",
    "more answers than questions": GREETING
    + b"+OK\r\n*2\r\n$1\r\n1\r\n$1\r\n1\r\n_\r\n+OK\r\n"
    + b":1\r\n" * 100,
}


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE.keys())
async def test_what_is_no_server_of_the_index_is_told_and_never_asked(said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        await writer.drain()
        await asyncio.sleep(60)

    async with listening(answer) as place, opened(f"valkey://{place}") as door:
        await door.down(IndexTrouble.GARBAGE)
        assert "valkeys://" in door.server.hint


async def test_server_without_a_free_connection_is_used_once_it_has_one(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path, settings={"maxclients": "2"})
    try:
        async with opened(server.url()) as one, opened(server.url()) as two:
            await one.healthy()
            await two.healthy()
            async with opened(server.url()) as third:
                await until(lambda: "maxclients" in str(third.server.problem))
                assert (one.server.healthy, two.server.healthy) == (True, True)
    finally:
        server.stop()


async def test_server_that_closes_idle_connections_is_connected_to_again_and_lost_nothing(
    valkey: ValkeyServer,
) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        valkey.configure(timeout="1")
        await until(lambda: door.failed != [])
        valkey.configure(timeout="0")
        await door.healthy()
        assert set(door.failed) == {IndexTrouble.UNREACHABLE}
        assert door.resets == []


async def test_server_that_goes_and_comes_is_followed(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        for _ in range(2):
            await door.healthy()
            valkey.kill()
            await door.down(IndexTrouble.UNREACHABLE)
            assert valkey.endpoint in str(door.server.problem)
            valkey.start()
        await door.healthy()
        assert len(door.resets) == 2


async def test_server_that_accepts_and_says_nothing_is_frozen_and_not_out_of_reach() -> None:
    async def answer(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with listening(answer) as place, opened(f"valkey://{place}", timeout_s=0.05) as door:
        await door.down(IndexTrouble.SLOW)
        assert "did not answer within 1000 ms" in str(door.server.problem)


async def test_server_whose_packets_are_dropped_is_out_of_reach() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:  # nobody accepts: the queue is full, and the kernel drops what comes
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        try:
            async with opened("valkey://{}:{}".format(*listener.getsockname()), timeout_s=0.05) as door:
                await door.down(IndexTrouble.UNREACHABLE)
                assert "in time" in str(door.server.problem)
                assert "NetworkPolicy" in door.server.hint
        finally:
            for each in waiting:
                each.close()


async def test_node_that_can_open_nothing_says_so_of_itself(valkey: ValkeyServer) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with opened(valkey.url()) as door:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
        try:
            await door.down(IndexTrouble.UNREACHABLE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert "this node can't open a connection" in str(door.server.problem)
        assert "limit of open files" in door.server.hint
        await door.healthy()
