"""What the doctor says of the index's server, of real ones and without one."""

from pathlib import Path
from typing import Any

import pytest

from agent.config import Settings
from agent.config.load import make_settings
from agent.keyring import new_key
from agent.preflight.check import Check, Status
from agent.preflight.gather import Unknown
from agent.preflight.index import index_server, look_at_index
from benchmarks.lab.valkey import ValkeyServer, free_port


def settings(url: str, folder: Path, **more: Any) -> Settings:
    document = {
        "node": {"name": "n1", "address": "10.0.0.1"},
        "index": url,
        "valkey": {"cluster": "lab", "timeout_s": 5.0, **more},
    }
    return make_settings(document, [], base=folder)


def found(url: str, folder: Path, **more: Any) -> Check:
    made = settings(url, folder, **more)
    (check,) = index_server(look_at_index(made), made.index)
    return check


def test_server_that_can_be_used_is_told_with_its_version_memory_policy_and_speed(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "v", settings={"maxmemory": "64mb"})
    try:
        check = found(server.url(), tmp_path)
    finally:
        server.stop()
    assert check.status is Status.GOOD
    for word in (server.url(), " answers in ", " of 67 MB used", "noeviction", "no agent has used it yet"):
        assert word in check.detail


@pytest.mark.parametrize("name", ["frozen", "away", "wrong password"])
def test_server_that_is_no_use_is_a_warning_because_pulls_work_without_it(name: str, tmp_path: Path) -> None:
    if name == "away":
        check = found(f"valkey://127.0.0.1:{free_port()}", tmp_path)
    else:
        server = ValkeyServer(tmp_path / "v", password="right")
        try:
            if name == "frozen":
                server.freeze()
            check = found(server.url(":wrong"), tmp_path, **({"timeout_s": 0.05} if name == "frozen" else {}))
        finally:
            server.stop()
    assert check.status is Status.WARN
    assert "near peers are asked in its place" in check.detail
    assert check.hint
    assert "wrong" not in check.detail.replace("***", "")


def test_another_clusters_keys_are_told_with_both_names(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(new_key())
    server = ValkeyServer(tmp_path / "v")
    try:
        server.cli("set", "shorthaul:1:cluster", "1 name:theirs 0123456789abcdef 1")
        check = found(server.url(), tmp_path)
    finally:
        server.stop()
    assert check.status is Status.WARN
    assert "name:theirs" in check.detail
    assert "name:lab" in check.detail


def test_node_without_a_server_has_no_line_and_a_look_that_failed_is_no_success() -> None:
    assert index_server(None, "scatter") == ()
    (check,) = index_server(Unknown(why="no answer within 9 s"), "scatter")
    assert check.status is Status.UNKNOWN
