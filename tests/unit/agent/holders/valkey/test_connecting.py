"""Finds real servers: alone, by Sentinels, as a Cluster; with users, TLS, IPv6, and names."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble
from benchmarks.lab.certificates import Authority
from benchmarks.lab.valkey import Sentinels, ValkeyCluster, ValkeyServer, free_port
from tests.unit.agent.holders.valkey.rig import Door, opened, until

RIGHTS = (
    "+ping +hello +select +client|tracking +client|caching +client|setname +set +get +mget +setbit +getrange "
    "+setrange +strlen +expire +pexpire +expireat +ttl +del +eval +evalsha +time"
)


async def test_user_with_the_documented_rights_is_enough(tmp_path: Path) -> None:
    users = {"agent": f"on >p@ss/word resetkeys ~shorthaul:* resetchannels -@all {RIGHTS}"}
    server = ValkeyServer(tmp_path, password="other", users=users)
    try:
        async with opened(server.url("agent:p%40ss%2Fword")) as door:
            await door.healthy()
            assert door.server.tracking
            assert door.server.facts.version is None  # it may not ask for INFO, which is no problem
            assert await door.server.call(("SET", "shorthaul:1:x", 1)) == [b"OK"]
    finally:
        server.stop()


async def test_database_and_name_of_the_connection_are_as_they_are_set(valkey: ValkeyServer) -> None:
    async with opened(valkey.url(database=3)) as door:
        await door.healthy()
        await door.server.call(("SET", "k", 1))
        assert valkey.cli("-n", "3", "get", "k") == "1"
        assert "name=shorthaul:node-1" in valkey.cli("client", "list")


async def test_tls_with_a_certificate_of_this_node_and_a_ca_that_is_replaced(tmp_path: Path) -> None:
    one, other = Authority(tmp_path, "one"), Authority(tmp_path, "other")
    folder = one.issue(tmp_path / "server", "DNS:valkey.example")
    mine = one.issue(tmp_path / "agent", "DNS:node-1")
    server = ValkeyServer(tmp_path / "v", certificates=folder)
    (tmp_path / "ca.crt").write_bytes(one.pem)
    files: dict[str, Any] = {
        "ca_file": str(tmp_path / "ca.crt"),
        "certificate_file": str(mine / "tls.crt"),
        "key_file": str(mine / "tls.key"),
        "server_name": "valkey.example",
    }
    try:
        async with opened(server.url(), **files) as door:
            await door.healthy()
            server.configure(tls_auth_clients="yes")  # the lab's own client has no certificate
            other.issue(folder, "DNS:valkey.example", more_authorities=[one])
            server.restart()
            await door.down(IndexTrouble.TLS)
            assert "no CA that is known" in str(door.server.problem)
            (tmp_path / "ca.crt").write_bytes(other.pem)
            await door.healthy()
    finally:
        server.stop()


async def test_server_is_reached_over_ipv6(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path, address="::1")
    try:
        async with opened(server.url()) as door:
            await door.healthy()
            assert await door.server.call(("PING",)) == [b"PONG"]
    finally:
        server.stop()


async def test_name_is_followed_to_whichever_of_its_addresses_answers(valkey: ValkeyServer) -> None:
    async with opened(f"valkey://localhost:{valkey.port}") as door:  # ::1 comes first, and nobody is there
        await door.healthy()


async def test_name_that_is_not_known_is_told(valkey: ValkeyServer) -> None:
    async with opened("valkey://nowhere.invalid") as door:
        await door.down(IndexTrouble.UNREACHABLE)
        await until(lambda: "nowhere.invalid:6379 can't be looked up" in str(door.server.problem))


async def test_sentinels_lead_to_the_new_primary_after_a_failover(tmp_path: Path) -> None:
    primary = ValkeyServer(tmp_path / "one", password="secret")
    replica = ValkeyServer(tmp_path / "two", password="secret", replica_of=primary)
    sentinels = Sentinels(tmp_path / "sentinels", primary, count=1)
    try:
        sentinels.wait_until_ready()
        dead = free_port()
        url = sentinels.url(":secret").replace("@", f"@127.0.0.1:{dead},")  # one Sentinel is gone
        async with opened(url) as door:
            await door.healthy()
            await door.server.call(("SET", "shorthaul:1:x", 1))
            await asyncio.to_thread(primary.kill)
            await until(lambda: door.resets != [])
            await door.healthy()
            assert "failed over" in door.resets[0]
            assert replica.info()["role"] == "master"
            assert await door.server.call(("SET", "shorthaul:1:x", 2)) == [b"OK"]
    finally:
        sentinels.close()
        replica.stop()
        primary.stop()


async def test_sentinels_that_do_not_know_the_name_are_told(tmp_path: Path) -> None:
    primary = ValkeyServer(tmp_path / "one")
    sentinels = Sentinels(tmp_path / "sentinels", primary, count=1)
    try:
        async with opened(sentinels.url().replace("/index", "/wrong")) as door:
            await door.down(IndexTrouble.OTHER)
            assert "no server with the name wrong" in str(door.server.problem)
        async with opened(f"valkey+sentinel://{primary.endpoint}/index") as door:
            await door.down(IndexTrouble.OTHER)
            assert "a server of its own, and the URL says otherwise" in str(door.server.problem)
        async with opened(f"valkey://127.0.0.1:{sentinels.ports[0]}") as door:
            await door.down(IndexTrouble.OTHER)
            assert "is a Sentinel" in str(door.server.problem)
            assert "valkey+sentinel://" in door.server.hint
    finally:
        sentinels.close()
        primary.stop()


async def test_cluster_is_asked_where_the_keys_are_and_follows_slots_that_move(tmp_path: Path) -> None:
    cluster = ValkeyCluster(tmp_path, password="secret")
    try:
        async with opened(cluster.url(":secret")) as door:
            await door.healthy()
            server = door.server
            assert (server.clustered, server.tracking) == (True, False)
            keys = [f"shorthaul:1:{{{n}}}" for n in range(30)]
            assert len({cluster.owner(key).port for key in keys[:10]}) == 3
            await server.call(*(("SET", key, key) for key in keys))
            assert await server.call(*(("GET", key) for key in keys)) == [key.encode() for key in keys]
            owner = cluster.owner("moved")
            other = next(each for each in cluster.servers if each is not owner)
            cluster.move(int(owner.cli("cluster", "keyslot", "moved")), other)
            await until_moved(door)
            assert await server.call(("SET", "moved", 1)) == [b"OK"]
            assert other.cli("get", "moved") == "1"
            assert door.resets == []
            await asyncio.to_thread(owner.kill)
            await until(lambda: not server.healthy)
    finally:
        cluster.close()


async def until_moved(door: Door) -> None:
    """The first question about a slot that moved fails, and changes nothing else."""
    with pytest.raises(IndexDown) as moved:
        await door.server.call(("GET", "moved"))
    assert moved.value.passes
    assert door.server.healthy


async def test_cluster_url_to_a_server_that_is_none_is_told_and_the_other_way_round(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    async with opened(f"valkey+cluster://{valkey.endpoint}") as door:
        await door.down(IndexTrouble.OTHER)
        assert "a server of its own" in str(door.server.problem)
    settings = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    single = ValkeyServer(tmp_path / "cluster", settings=settings)
    try:
        async with opened(single.url()) as door:
            await door.down(IndexTrouble.OTHER)
            assert "is a Cluster" in str(door.server.problem)
            assert "valkey+cluster://" in door.server.hint
        async with opened(f"valkey+cluster://{single.endpoint}") as door:
            await until(lambda: "all slots" in str(door.server.problem))
    finally:
        single.stop()
