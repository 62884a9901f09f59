"""``shorthaul claims``: the request to the agent, and what a user sees."""

import json

import pytest

from agent.cli import main
from tests.unit.agent.cli.admin import DIGEST, LAYER, ODD, SHOWN_ODD, Json, admin

Captured = pytest.CaptureFixture[str]


def claims(**changes: object) -> Json:
    return {
        "time": "2026-08-01T12:00:00.250Z",
        "node": "a1",
        "mode": "claims",
        "scope": "cluster",
        "held": [{"digest": DIGEST, "scope": "zone", "bytes": 61_000_000, "age_s": 3.2}],
        "awaited": [{"digest": LAYER, "scope": "zone", "arbiter": "a2", "age_s": 0.4}],
        "decided": [
            {
                "digest": LAYER,
                "scope": "cluster",
                "node": "b1",
                "bytes": 0,
                "complete": False,
                "waiting": 4,
                "ways": [{"source_zone": "r/b", "destination_zone": "r/a"}],
            }
        ],
        "followers": 2,
        **changes,
    }


def shown(capsys: Captured, answer: Json, *arguments: str) -> str:
    with admin(answer) as twin:
        status = main(["claims", "--url", twin.url, *arguments])
        assert twin.asked == ["/api/claims"]
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


def rows(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line[0] == "│"]


def test_claims_are_listed_by_this_nodes_part_in_them(capsys: Captured) -> None:
    out = shown(capsys, claims())
    assert out.startswith("as node a1 knows it, with cold_start.scope: cluster\n")
    assert "it passes on 2 bodies of what still arrives here" in out
    assert rows(out) == [
        ["abababababab", "zone", "61.0 MB", "3 s ago"],
        ["cdcdcdcdcdcd", "zone", "a2", "0 s ago"],
        ["cdcdcdcdcdcd", "cluster", "b1", "nothing yet", "4"],
    ]
    assert out.endswith("cdcdcdcdcdcd travels r/b → r/a\n")


def test_node_without_claims_says_that_nothing_is_being_fetched(capsys: Captured) -> None:
    out = shown(capsys, claims(held=[], awaited=[], decided=[], followers=0))
    assert out.endswith("no claims now: nothing is being fetched that nobody has\n")


def test_node_that_takes_no_claims_names_the_setting(capsys: Captured) -> None:
    assert shown(capsys, claims(mode="off")) == "node a1 takes no claims (cold_start.mode: off)\n"


def test_claim_that_is_over_is_told_apart_from_one_under_way(capsys: Captured) -> None:
    decided = {**claims()["decided"][0], "bytes": 5, "ways": []}
    under_way, over = decided, {**decided, "complete": True}
    out = shown(capsys, claims(held=[], awaited=[], decided=[under_way, over]))
    assert [row[3] for row in rows(out)] == ["5 B", "all"]


def test_many_claims_are_counted_and_not_all_shown(capsys: Captured) -> None:
    out = shown(capsys, claims(held=claims()["held"] * 30))
    assert "… and 10 more (--json)" in out


def test_names_are_shown_as_they_are_and_control_nothing(capsys: Captured) -> None:
    out = shown(capsys, claims(node=ODD))
    assert SHOWN_ODD in out


def test_json_is_the_agents_answer_unchanged(capsys: Captured) -> None:
    assert json.loads(shown(capsys, claims(), "--json")) == claims()


def test_agent_that_is_not_there_is_said_with_a_hint(capsys: Captured) -> None:
    assert main(["claims", "--url", "http://127.0.0.1:1"]) == 1
    assert "hint:" in capsys.readouterr().err
