"""The lab's servers of the index do what the tests of the agent count on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.lab.certificates import Authority
from benchmarks.lab.process import LabError
from benchmarks.lab.valkey import Sentinels, ValkeyCluster, ValkeyServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    made = ValkeyServer(tmp_path / "server")
    yield made
    made.stop()


def test_restarted_server_is_empty_and_at_the_same_place(server: ValkeyServer) -> None:
    server.cli("set", "key", "value")
    endpoint, pid = server.endpoint, server.pid
    server.restart()
    assert (server.cli("get", "key"), server.endpoint) == ("", endpoint)
    assert server.pid != pid


def test_full_server_refuses_what_is_new_and_tells_what_it_has(server: ValkeyServer) -> None:
    server.cli("set", "key", "value")
    server.fill()
    with pytest.raises(LabError, match="OOM command not allowed"):
        server.cli("set", "other", "value")
    assert server.cli("get", "key") == "value"


def test_frozen_server_answers_once_it_goes_on(server: ValkeyServer) -> None:
    server.freeze()
    server.thaw()
    assert server.cli("ping") == "PONG"
    assert server.usage().commands > 0


def test_server_has_users_a_password_and_tls(tmp_path: Path) -> None:
    certificates = Authority(tmp_path).issue(tmp_path / "tls", "IP:127.0.0.1")
    server = ValkeyServer(
        tmp_path / "server",
        certificates=certificates,
        password="secret",
        users={"reader": "on >other ~a:* +get"},
    )
    try:
        assert server.cli("acl", "whoami") == "default"
        assert "user reader on" in server.cli("acl", "list")
        assert server.url("reader:other") == f"valkeys://reader:other@{server.endpoint}"
        with pytest.raises(LabError, match="WRONGPASS"):
            server.cli("auth", "reader", "wrong")
    finally:
        server.stop()


def test_sentinels_make_the_replica_the_primary_of_a_dead_one(tmp_path: Path) -> None:
    primary = ValkeyServer(tmp_path / "one", password="secret")
    replica = ValkeyServer(tmp_path / "two", password="secret", replica_of=primary)
    sentinels = Sentinels(tmp_path / "sentinels", primary)
    try:
        sentinels.wait_until_ready()
        primary.kill()
        sentinels.wait_for_primary(replica)
        assert replica.info()["role"] == "master"
    finally:
        sentinels.close()
        replica.stop()
        primary.stop()


def test_cluster_of_three_has_each_slot_once(tmp_path: Path) -> None:
    cluster = ValkeyCluster(tmp_path)
    try:
        owner = cluster.owner("key")
        owner.cli("set", "key", "value")
        others = [server for server in cluster.servers if server is not owner]
        for server in others:
            with pytest.raises(LabError, match=f"MOVED .*:{owner.port}"):
                server.cli("get", "key")
        cluster.move(int(owner.cli("cluster", "keyslot", "empty")), others[0])
        assert cluster.owner("empty") is others[0]
    finally:
        cluster.close()
