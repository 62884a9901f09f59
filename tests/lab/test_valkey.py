"""The lab's servers of the index do what the tests of the agent count on.

Sentinels and Clusters: tests/unit/agent/holders/valkey/test_connecting.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.lab.certificates import Authority
from benchmarks.lab.process import LabError
from benchmarks.lab.valkey import ValkeyServer


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
