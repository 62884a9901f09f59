"""``shorthaul scrub``: what a user sees, and the exit status."""

import json
from typing import Any

import pytest

from agent.cli import main
from tests.unit.agent.cli.admin import DIGEST, ODD, SHOWN_ODD, Json, admin

Captured = pytest.CaptureFixture[str]


def scrub(**changes: Any) -> Json:
    """An answer of /api/scrub."""
    return {
        "time": "2026-08-01T12:00:00.000Z",
        "bytes_per_s": 1000,
        "state": "waiting",
        "held_up": None,
        "paused": False,
        "reading": None,
        "round": {"done": 2, "of": 5, "finished": 1},
        "withdrawn": [],
        "unreadable": [],
        "unreadable_blobs": 0,
        **changes,
    }


def shown(capsys: Captured, answer: Json, *arguments: str, status: int = 0) -> str:
    with admin(answer) as twin:
        assert main(["scrub", "--url", twin.url, *arguments]) == status
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (scrub(), "waiting for the next round"),
        (scrub(reading=DIGEST, state="reading"), "reading"),
        (scrub(reading=DIGEST, paused=True, state="paused"), "paused"),
        (scrub(state="queued"), "a round begins"),
        (scrub(bytes_per_s=0, state="off"), "off (scrub.bytes_per_s is 0)"),
    ],
)
def test_state_is_one_line(capsys: Captured, answer: Json, state: str) -> None:
    assert shown(capsys, answer) == f"{state}: 2 of 5 blobs, 1 round finished\n"


def test_round_that_waits_for_the_store_says_so(capsys: Captured) -> None:
    out = shown(capsys, scrub(state="queued", held_up=f"no {ODD}"), "start")
    assert out == f"a round begins: 2 of 5 blobs, 1 round finished\nheld up: no {SHOWN_ODD}\n"
    assert "held up" not in shown(capsys, scrub(state="off", held_up="gone"))


def test_actions_are_posts_with_the_header_that_no_browser_sends(capsys: Captured) -> None:
    for action in ("start", "pause", "resume"):
        with admin(scrub()) as twin:
            assert main(["scrub", action, "--url", twin.url]) == 0
        assert twin.acted == [(f"/api/scrub/{action}", "1")]
    capsys.readouterr()


def test_corrupt_blobs_are_listed_and_make_the_status_1(capsys: Captured) -> None:
    found = scrub(withdrawn=[DIGEST, ODD])
    out = shown(capsys, found, status=1)
    assert out.splitlines()[1:] == [f"corrupt, withdrawn: {text}" for text in (DIGEST, SHOWN_ODD)]
    assert json.loads(shown(capsys, found, "--json", status=1)) == found


def test_unreadable_blobs_are_listed_with_their_reasons_and_make_the_status_1(capsys: Captured) -> None:
    entry = {"digest": DIGEST, "reason": ODD}
    out = shown(capsys, scrub(unreadable=[entry], unreadable_blobs=3), status=1)
    assert out.splitlines()[1:] == [
        f"unreadable, not offered: {DIGEST} ({SHOWN_ODD})",
        "… and 2 unreadable blobs more",
    ]


def test_answer_of_another_shape_is_an_error(capsys: Captured) -> None:
    with admin(scrub(round=None)) as twin:
        assert main(["scrub", "--url", twin.url]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "hint: agent and command may be of different versions" in err


def test_an_action_that_there_is_not_is_answered_with_those_that_there_are(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["scrub", "begin"])
    assert (
        "argument ACTION: invalid choice: 'begin' (choose from 'status', 'start'" in capsys.readouterr().err
    )
