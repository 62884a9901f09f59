"""``shorthaul requests``: the questions to the agent, and what a user sees."""

import json

import pytest

from agent.cli import main
from tests.unit.agent.cli.admin import LAYER, ODD, SHOWN_ODD, Json, admin

Captured = pytest.CaptureFixture[str]

ID, THERE = "0123456789abcdef", "fedcba9876543210"


def step(kind: str, start_s: float, seconds: float, **changes: object) -> Json:
    return {
        "kind": kind,
        "start_s": start_s,
        "seconds": seconds,
        "node": None,
        "tier": None,
        "bytes": None,
        "outcome": "ok",
        "why": "",
        "hedge": False,
        "resume": False,
        "request": None,
        **changes,
    }


STEPS = [
    step("lookup", 0.0, 0.001, why="the nearest peers were asked: 2 nodes have it"),
    step("headers", 0.001, 0.007, node="a2", tier="zone", outcome="lost"),
    step(
        "headers", 0.005, 0.003, node="b1", tier="region", hedge=True, why="hedge after 4 ms", request=THERE
    ),
    step("bytes", 0.008, 0.092, node="b1", tier="region", bytes=61_000_000),
]


def request(**changes: object) -> Json:
    return {
        "id": ID,
        "under_way": False,
        "started_at": "2026-08-01T12:00:00.250Z",
        "path": "hostport",
        "method": "GET",
        "kind": "blob",
        "target": f"registry.test/library/app@{LAYER}",
        "digest": LAYER,
        "status": 200,
        "result": "ok",
        "tag": None,
        "source": "peer",
        "node": "b1",
        "tier": "region",
        "reason": "nearest",
        "bytes": 61_000_000,
        "sources": [],
        "resumes": 0,
        "way": "splice",
        "first_byte_s": 0.008,
        "seconds": 0.1,
        "verdict": "DIRECT",
        "steps": STEPS,
        "steps_left_out": 0,
        **changes,
    }


def pulls(*entries: Json) -> Json:
    return {"time": "2026-08-01T12:00:00.250Z", "node": "a1", "pulls": list(entries)}


def pull(**changes: object) -> Json:
    return {
        "id": ID,
        "image": "registry.test/library/app",
        "references": ["v1"],
        "path": "hostport",
        "client": "127.0.0.1",
        "started_at": "2026-08-01T12:00:00.250Z",
        "seconds": 12.5,
        "under_way": True,
        "requests": [ID],
        "request_count": 5,
        "bytes": 61_000_000,
        "bytes_by_tier": [{"tier": "node", "bytes": 1000}, {"tier": "region", "bytes": 60_999_000}],
        "not_found": 1,
        "failed": 0,
        "verdict": "DIRECT",
        "slowest": {"request": ID, "step": STEPS[-1]},
        "running": [],
        **changes,
    }


def shown(capsys: Captured, answer: object, *arguments: str, asked: str) -> list[str]:
    with admin(json.dumps(answer).encode()) as twin:
        status = main(["requests", "--url", twin.url, *arguments])
        assert twin.asked == [asked]
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out.splitlines()


def test_last_requests_are_a_line_each_with_the_step_that_took_longest(capsys: Captured) -> None:
    heading, line = shown(capsys, [request()], asked="/api/requests?limit=20")
    assert heading.split()[:3] == ["arrived", "id", "what"]
    for part in (ID, "200 ok", "b1 (region)", "61.0 MB", "8.00 ms", "100 ms", "bytes b1 92.00 ms"):
        assert part in line


def test_one_request_is_a_waterfall_of_its_steps(capsys: Captured) -> None:
    lines = shown(capsys, [request()], "--id", ID, asked=f"/api/requests?id={ID}")
    assert lines[0] == f"{ID}  GET registry.test/library/app@{LAYER}"
    assert "  answered    200 ok, 61.0 MB in 100 ms, first byte after 8.00 ms" in lines
    assert "  connection  DIRECT" in lines
    steps = [line for line in lines if "▕" in line]
    assert [line.split("▏")[1].split()[2] for line in steps] == ["lookup", "headers", "headers", "bytes"]
    assert "headers a2 (zone) [lost]" in steps[1]
    assert "headers b1 (region) [hedge] – hedge after 4 ms" in steps[2]
    assert steps[3].endswith("bytes b1 (region) 61.0 MB")
    bars = [line[line.index("▕") + 1 : line.index("▏")] for line in steps]
    assert {len(bar) for bar in bars} == {24}
    assert [bar.index("█") for bar in bars] == [0, 0, 1, 1]
    assert bars[3].endswith("█")
    assert lines[-1] == f"  b1 knows it as {THERE}: run `shorthaul requests --id {THERE}` there"


def test_request_under_way_and_one_without_steps_say_so(capsys: Captured) -> None:
    lines = shown(capsys, [request(under_way=True, steps=[])], "--id", ID, asked=f"/api/requests?id={ID}")
    assert "  under way   61.0 MB so far" in lines
    assert "  no steps are known" in lines


def test_steps_that_were_left_out_are_counted(capsys: Captured) -> None:
    lines = shown(capsys, [request(steps_left_out=3)], "--id", ID, asked=f"/api/requests?id={ID}")
    assert "  3 steps more" in lines


def test_answer_of_an_older_agent_is_shown_without_ids_and_steps(capsys: Captured) -> None:
    old = {
        key: value
        for key, value in request().items()
        if key not in ("id", "under_way", "steps", "steps_left_out")
    }
    _, line = shown(capsys, [old], asked="/api/requests?limit=20")
    assert "200 ok" in line


def test_pulls_are_a_line_each(capsys: Captured) -> None:
    heading, line = shown(capsys, pulls(pull()), "--pulls", "--limit", "3", asked="/api/pulls?limit=3")
    assert heading.split()[:2] == ["began", "image"]
    for part in (
        "registry.test/library/app:v1",
        "1.0 kB node, 61.0 MB region",
        "12.5 s",
        "under way, 1 left to the registry",
        "DIRECT",
        f"bytes b1 92.00 ms of {ID}",
    ):
        assert part in line


def test_nothing_yet_is_said_in_words(capsys: Captured) -> None:
    assert shown(capsys, [], asked="/api/requests?limit=20") == ["no request yet: pull an image on this node"]
    assert shown(capsys, pulls(), "--pulls", asked="/api/pulls?limit=20") == [
        "no pull on node a1 yet: pull an image there"
    ]


def test_names_that_others_choose_do_nothing_to_a_terminal(capsys: Captured) -> None:
    hostile = request(target=ODD, node=ODD, reason=ODD, steps=[step(ODD, 0.0, 0.1, node=ODD, why=ODD)])
    lines = shown(capsys, [hostile], "--id", ID, asked=f"/api/requests?id={ID}")
    assert "\x1b" not in "".join(lines)
    assert f"{ID}  GET {SHOWN_ODD}" in lines
    (row,) = [
        line
        for line in shown(capsys, pulls(pull(image=ODD)), "--pulls", asked="/api/pulls?limit=20")
        if "v1" in line or "<b>" in line
    ]
    assert "\x1b" not in row


def test_json_is_the_agents_answer_as_it_is(capsys: Captured) -> None:
    lines = shown(capsys, [request()], "--json", asked="/api/requests?limit=20")
    assert json.loads("\n".join(lines)) == [request()]


def test_unknown_id_is_told_with_the_agents_hint(capsys: Captured) -> None:
    error = {"code": "REQUEST_UNKNOWN", "message": "no request 'x' is remembered", "hint": "the last 512 are"}
    with admin(error, status=404) as twin:
        assert main(["requests", "--url", twin.url, "--id", "x"]) == 1
    err = capsys.readouterr().err
    assert "no request 'x' is remembered" in err
    assert "the last 512 are" in err


def test_id_and_limit_exclude_each_other(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["requests", "--id", ID, "--limit", "3"])
    assert ended.value.code == 2
    assert "leave out --limit" in capsys.readouterr().err
