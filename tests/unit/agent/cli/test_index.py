"""``shorthaul index``: the request to the agent, what a user sees, and the exit status."""

import json

import pytest

from agent.cli import main
from tests.unit.agent.cli.admin import ODD, SHOWN_ODD, Json, admin

Captured = pytest.CaptureFixture[str]


def index(**changes: object) -> Json:
    return {
        "time": "2026-08-01T12:00:00.250Z",
        "node": "a1",
        "index": "valkey://index.shorthaul:6379",
        "state": "server",
        "problem": None,
        "hint": "",
        "warnings": [],
        "server": "valkey 8.1.1",
        "cluster": "4f1c",
        "number": 17,
        "announced": 2000,
        "pending": 0,
        "resets": 0,
        "reset_at": None,
        "reset_reason": None,
        "silent_count": 0,
        "silent": [],
        "latency_us": 400.0,
        "used_bytes": 61_000_000,
        "most_bytes": 256_000_000,
        "policy": "noeviction",
        **changes,
    }


def shown(capsys: Captured, answer: Json, *arguments: str, status: int = 0) -> str:
    with admin(answer) as twin:
        assert main(["index", "--url", twin.url, *arguments]) == status
        assert twin.asked == ["/api/index"]
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_server_that_works_is_shown_with_what_it_was_told_and_what_it_is(capsys: Captured) -> None:
    assert shown(capsys, index()).splitlines() == [
        "node a1: valkey://index.shorthaul:6379",
        "the server is asked who has what",
        "  announced  2000 digests",
        "  server     valkey 8.1.1, answers in 0.40 ms",
        "  memory     61.0 MB of 256.0 MB",
        "  policy     noeviction",
        "  cluster    4f1c",
        "  number     17, this node's bit in all bitmaps",
    ]


def test_server_that_is_not_used_is_said_with_the_reason_the_remedy_and_status_1(capsys: Captured) -> None:
    answer = index(state="down", problem="no answer within 0.15 s", hint="is it frozen?", server=None)
    lines = shown(capsys, answer, status=1).splitlines()
    assert lines[1:4] == [
        "near peers are asked in place of the server; pulls work",
        "  no answer within 0.15 s",
        "      hint: is it frozen?",
    ]


def test_reset_is_told_with_its_time_its_reason_and_what_is_left_to_say(capsys: Captured) -> None:
    answer = index(
        state="warming", pending=7, resets=1, reset_at="2026-08-01T11:59:00.000Z", reset_reason="restarted"
    )
    out = shown(capsys, answer)
    assert "  announced  2000 digests, 7 changes to go\n" in out
    assert "  resets     1, last at 2026-08-01T11:59:00.000Z: restarted\n" in out


def test_nodes_that_tell_the_server_nothing_are_named(capsys: Captured) -> None:
    out = shown(capsys, index(silent_count=3, silent=["a4", "a7"]))
    assert "  silent     3 nodes of this zone tell it nothing, and are asked: a4, a7, …\n" in out


def test_warnings_are_shown_and_are_no_failure(capsys: Captured) -> None:
    warning = {"problem": "it evicts keys (allkeys-lru)", "hint": "set maxmemory-policy noeviction"}
    out = shown(capsys, index(warnings=[warning]))
    assert "  it evicts keys (allkeys-lru)\n      hint: set maxmemory-policy noeviction\n" in out


def test_node_without_a_server_says_that_the_peers_are_asked(capsys: Captured) -> None:
    out = shown(capsys, index(index="scatter", state="peers", server=None))
    assert out == "node a1: scatter\nthe peers are asked who has what; there is no server\n"


def test_state_of_a_newer_agent_is_shown_as_it_is(capsys: Captured) -> None:
    assert "\nmoving\n" in shown(capsys, index(state="moving"))


def test_names_are_shown_as_they_are_and_control_nothing(capsys: Captured) -> None:
    assert SHOWN_ODD in shown(capsys, index(node=ODD))


def test_json_is_the_agents_answer_unchanged_and_the_status_is_the_same(capsys: Captured) -> None:
    assert json.loads(shown(capsys, index(), "--json")) == index()
    shown(capsys, index(problem="no"), "--json", status=1)


def test_agent_that_is_not_there_is_said_with_a_hint(capsys: Captured) -> None:
    assert main(["index", "--url", "http://127.0.0.1:1"]) == 1
    assert "hint:" in capsys.readouterr().err
