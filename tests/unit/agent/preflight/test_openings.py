"""What the doctor says of what the settings leave open."""

from pathlib import Path
from typing import Any

import pytest

from agent.config import Settings
from agent.config.load import make_settings
from agent.preflight.check import Check, Status
from agent.preflight.openings import ADMIN, CALLERS, PEERS, openings

KEY = {"peering": {"key": "keys"}}


def settings(tmp_path: Path, **more: Any) -> Settings:
    listen = {"peer": "10.0.0.1:30020", "nodeport": "10.0.0.1:30022", **more.pop("listen", {})}
    node = {"name": "a1", "address": "10.0.0.1", **more.pop("node", {})}
    return make_settings({"node": node, "listen": listen, **more}, [], base=tmp_path)


def found(tmp_path: Path, **more: Any) -> dict[str, Check]:
    return {check.name: check for check in openings(settings(tmp_path, **more))}


def test_defaults_with_a_key_are_closed(tmp_path: Path) -> None:
    checks = found(tmp_path, **KEY)
    assert {name: check.status for name, check in checks.items()} == {CALLERS: Status.GOOD}
    assert "root" in checks[CALLERS].detail


@pytest.mark.parametrize("key", [{}, KEY])
def test_open_peering_is_said_with_whom_it_lets_in(tmp_path: Path, key: dict[str, Any]) -> None:
    peering = {**key.get("peering", {}), "open": True}
    check = found(tmp_path, peering=peering)[PEERS]
    assert check.status is Status.WARN
    assert "whoever reaches 10.0.0.1:30020 reads any image" in check.detail
    assert check.hint


def test_hostport_for_every_process_is_said(tmp_path: Path) -> None:
    check = found(tmp_path, listen={"local_callers": "any"}, **KEY)[CALLERS]
    assert check.status is Status.WARN
    assert "every process" in check.detail


def test_callers_that_can_not_be_known_need_a_token(tmp_path: Path) -> None:
    with_key = found(tmp_path, node={"pod_network": True}, **KEY)[CALLERS]
    assert with_key.status is Status.GOOD
    assert "can't tell who asks" in with_key.detail
    without = found(tmp_path, node={"pod_network": True})[CALLERS]
    assert without.status is Status.WARN
    assert "--pod-network --key-file" in without.hint


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "[::]"])
def test_admin_port_that_others_reach_is_said_and_what_they_get(tmp_path: Path, host: str) -> None:
    with_key = found(tmp_path, listen={"admin": f"{host}:9090"}, **KEY)[ADMIN]
    assert with_key.status is Status.GOOD
    assert "for who has the admin token" in with_key.detail
    assert found(tmp_path, listen={"admin": f"{host}:9090"})[ADMIN].status is Status.WARN
