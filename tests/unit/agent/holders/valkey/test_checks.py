"""What is looked at before pulls ask the server: the cluster's id, the version, rights, and what is full."""

from pathlib import Path

import pytest

from agent.holders.valkey.checks import needed
from agent.holders.valkey.factory import glance
from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble
from benchmarks.lab.valkey import ValkeyServer
from tests.unit.agent.holders.valkey.rig import opened, settings, until
from tests.unit.agent.holders.valkey.test_connecting import RIGHTS

MARKER = "shorthaul:1:cluster"


async def test_second_cluster_with_the_same_prefix_is_refused_and_the_first_one_goes_on(
    valkey: ValkeyServer,
) -> None:
    async with opened(valkey.url(), cluster="one") as first:
        await first.healthy()
        async with opened(valkey.url(), cluster="two") as second:
            await second.down(IndexTrouble.FOREIGN)
            assert "name:one" in str(second.server.problem)
            assert "valkey.prefix" in second.server.hint
            assert first.server.healthy
        async with opened(valkey.url(), cluster="two", prefix="other") as third:
            await third.healthy()
    assert sorted(valkey.cli("keys", "*cluster").split()) == ["other:1:cluster", MARKER]


async def test_cluster_that_came_while_this_one_works_is_noticed(valkey: ValkeyServer) -> None:
    async with opened(valkey.url(), cluster="one") as door:
        await door.healthy()
        valkey.cli("flushall")
        valkey.cli("set", MARKER, "1 name:two 0123456789abcdef 1")
        await door.down(IndexTrouble.FOREIGN)


@pytest.mark.parametrize("value", ["2 name:lab 0123456789abcdef 1", "what", ""])
async def test_marker_of_another_version_or_program_is_refused(valkey: ValkeyServer, value: str) -> None:
    valkey.cli("set", MARKER, value)
    async with opened(valkey.url()) as door:
        await door.down(IndexTrouble.FOREIGN)
        assert MARKER in str(door.server.problem)
    assert valkey.cli("get", MARKER) == value


async def test_marker_of_another_type_is_refused(valkey: ValkeyServer) -> None:
    valkey.cli("lpush", MARKER, "x")
    async with opened(valkey.url()) as door:
        await door.down(IndexTrouble.FOREIGN)


async def test_command_without_a_right_is_named(tmp_path: Path) -> None:
    lacking = RIGHTS.replace("+setbit ", "").replace("+eval ", "")
    users = {"agent": f"on >p resetkeys ~shorthaul:* -@all {lacking}"}
    server = ValkeyServer(tmp_path, users=users)
    try:
        async with opened(server.url("agent:p")) as door:
            await door.down(IndexTrouble.DENIED)
            assert "may not use SETBIT, EVAL on the keys shorthaul:*" in str(door.server.problem)
            server.cli("acl", "setuser", "agent", "+setbit", "+eval")
            await door.healthy()
        async with opened(server.url("agent:p"), prefix="other") as door:
            await until(lambda: door.kind is IndexTrouble.DENIED)
    finally:
        server.stop()


async def test_right_that_is_taken_away_is_named_though_it_was_there_before(tmp_path: Path) -> None:
    users = {"agent": f"on >p resetkeys ~shorthaul:* -@all {RIGHTS}"}
    server = ValkeyServer(tmp_path, users=users)
    try:
        async with opened(server.url("agent:p")) as door:
            await door.healthy()
            server.cli("acl", "setuser", "agent", "-setbit", "-evalsha")
            with pytest.raises(IndexDown, match="may not run SETBIT"):
                await door.server.call(("SETBIT", "shorthaul:1:x", 1, 1))
            await until(lambda: "may not use SETBIT, EVALSHA" in str(door.server.problem))
            assert not door.server.healthy
            server.cli("acl", "setuser", "agent", "+setbit", "+evalsha")
            await door.healthy()
    finally:
        server.stop()


async def test_agent_that_connects_again_asks_only_for_what_may_have_changed(valkey: ValkeyServer) -> None:
    async with opened(valkey.url()) as door:
        await door.healthy()
        before = valkey.usage().commands
        valkey.cli("client", "kill", "type", "normal", "skipme", "yes")
        await until(lambda: door.failed != [])
        await door.healthy()
        assert valkey.usage().commands - before < 20  # 8, and those of whoever counts them


async def test_command_that_was_renamed_away_is_named(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path, settings={"rename-command EVALSHA": '""'})
    try:
        async with opened(server.url()) as door:
            await door.down(IndexTrouble.OTHER)
            assert "does not know EVALSHA" in str(door.server.problem)
    finally:
        server.stop()


async def test_server_without_info_and_tracking_is_used_without_them(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path, settings={"rename-command INFO": '""', "rename-command CLIENT": '""'})
    try:
        async with opened(server.url()) as door:
            await door.healthy()
            assert not door.server.tracking
            assert door.server.facts.run_id is None
            assert await door.server.call(("PING",), tracked=True) == [b"PONG"]
    finally:
        server.stop()


async def test_every_command_that_is_tried_is_one_that_the_documented_rights_allow() -> None:
    names = {str(command[0]).lower() for command in needed("k")}
    assert names <= {right.removeprefix("+") for right in RIGHTS.split()}


async def test_policy_that_evicts_is_a_warning(valkey: ValkeyServer) -> None:
    valkey.configure(maxmemory="100mb", maxmemory_policy="allkeys-lru")
    async with opened(valkey.url()) as door:
        await door.healthy()
        (warning,) = door.server.warnings
        assert "allkeys-lru" in warning.problem
    seen = await glance(settings(valkey.url()), ())
    assert (seen.trouble, seen.warnings, seen.cluster) == (None, (warning,), "name:lab")
