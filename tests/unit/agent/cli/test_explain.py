"""``shorthaul explain``: the request to the agent, and what a user sees."""

import json

import pytest

from agent.cli import main
from tests.unit.agent.cli.admin import DIGEST, ODD, SHOWN_ODD, Json, admin, explanation

Captured = pytest.CaptureFixture[str]


def shown(capsys: Captured, answer: Json, *arguments: str) -> str:
    with admin(answer) as twin:
        status = main(["explain", "nginx", "--url", twin.url, *arguments])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


def rows(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line[0] == "│"]


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        (DIGEST, "digest=sha256%3A" + "ab" * 32),
        ("blake3:" + "0" * 32, "digest=blake3%3A" + "0" * 32),
        (f"r.example:5000/app:v1@{DIGEST}", "digest=sha256%3A" + "ab" * 32),
        ("r.example:5000/app:v1", "image=r.example%3A5000%2Fapp%3Av1"),
        ("nginx", "image=nginx"),
        ("cafe:" + "0" * 31, "image=cafe%3A" + "0" * 31),
        ("a&digest=b", "image=a%26digest%3Db"),
    ],
)
def test_argument_is_asked_as_a_digest_or_as_an_image(capsys: Captured, what: str, asked: str) -> None:
    with admin(explanation()) as twin:
        assert main(["explain", what, "--url", twin.url]) == 0
        assert twin.asked == [f"/api/explain?{asked}"]
    capsys.readouterr()


@pytest.mark.parametrize(
    "what", ["", " ", "sha256:abababababab", f"{DIGEST}\n", "nginx@v1", f"nginx@{DIGEST}\n"]
)
def test_argument_that_can_be_neither_is_wrong_usage(what: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["explain", what])
    assert caught.value.code == 2


def test_image_has_its_digest_choice_holders_and_content(capsys: Captured) -> None:
    out = shown(capsys, explanation())
    assert out.startswith(f"docker.io/library/nginx:1.27\n  is {DIGEST}\n  as node a1 sees it\nchoice: a2\n")
    assert rows(out) == [
        ["1", "a2", "zone", "0.31 ms", "0", "1 of 2 equals"],
        ["2", "b1", "region", "–", "3", "further"],
        ["abababababab", "config", "1.2 kB", "this node", "in this node's store"],
        ["cdcdcdcdcdcd", "layer", "29.1 MB", "the registry", "nobody holds it"],
    ]
    assert "not asked in full:\n  a3: failed a moment ago\n" in out


@pytest.mark.parametrize(
    ("tag", "line"),
    [
        (
            {"told_by": "a1", "vouched_by": "a1", "age_s": 61.4, "imported": False},
            "  because a1 saw it at the registry 61 s ago\n",
        ),
        (
            {"told_by": "a2", "vouched_by": "b1", "age_s": 0.0, "imported": False},
            "  because b1 saw it at the registry 0 s ago, a2 passed that on\n",
        ),
        (
            {"told_by": "a1", "vouched_by": "a1", "age_s": 99.0, "imported": True},
            "  because a1 imported it 99 s ago\n",
        ),
    ],
)
def test_image_by_tag_says_whose_word_it_is(capsys: Captured, tag: Json, line: str) -> None:
    assert f"  as node a1 sees it\n{line}" in shown(capsys, explanation(tag=tag))


def test_holders_are_in_the_order_of_their_rank(capsys: Captured) -> None:
    holders = list(reversed(explanation()["holders"]))
    assert [row[0] for row in rows(shown(capsys, explanation(holders=holders, content=[])))] == ["1", "2"]


def test_own_copy_is_the_choice(capsys: Captured) -> None:
    out = shown(capsys, explanation(local=True, choice="a1", holders=[]))
    assert "choice: a1, its own store has it\n" in out


def test_nobody_holding_it_is_said_plainly(capsys: Captured) -> None:
    out = shown(capsys, explanation(image=None, choice=None, holders=[], not_asked_in_full=[], content=[]))
    assert out.splitlines() == [
        DIGEST,
        "  as node a1 sees it",
        "nobody holds it: containerd will go to the registry",
    ]


def test_holders_that_no_pull_tries_are_told_apart_from_nobody(capsys: Captured) -> None:
    passed_over = [{"node": "bad", "reason": "gave wrong bytes"}]
    out = shown(capsys, explanation(choice=None, holders=[], passed_over=passed_over))
    assert "choice: none of the holders: containerd will go to the registry\n" in out
    assert "hold it, but no pull of it tries them now:\n  bad: gave wrong bytes\n" in out


def test_nobody_is_said_of_those_only_that_were_asked_in_full(capsys: Captured) -> None:
    reason = "no reply to a question within 0.5 s, 4 s ago"
    out = shown(
        capsys,
        explanation(
            image=None,
            choice=None,
            holders=[],
            not_asked_in_full=[{"node": "a2", "reason": reason}],
            content=[],
        ),
    )
    assert out.splitlines()[2:] == [
        "nobody that was asked in full holds it: containerd will go to the registry",
        "not asked in full:",
        f"  a2: {reason}",
    ]


def test_failure_that_is_over_is_told_as_such(capsys: Captured) -> None:
    failure = {"node": "n1", "failure": "connection refused", "age_s": 4.0}
    failures = [failure, {**failure, "node": "n2", "answered_since": True}]
    out = shown(capsys, explanation(failures=failures, content=[]))
    assert "n1: connection refused, 4 s ago\n" in out
    assert "n2: connection refused, 4 s ago; it has answered since\n" in out


def test_last_failures_of_peers_are_told_with_their_age_twenty_at_most(capsys: Captured) -> None:
    failures = [{"node": f"n{number}", "failure": "no byte for 3 s", "age_s": 4.0} for number in range(25)]
    lines = shown(capsys, explanation(failures=failures, content=[])).splitlines()
    start = lines.index("last failures of peers, whatever they were asked for:")
    assert lines[start + 1] == "  n0: no byte for 3 s, 4 s ago"
    assert lines[start + 21] == "  … and 5 more (--json)"


def test_in_a_cluster_of_thousands_twenty_peers_are_named(capsys: Captured) -> None:
    unasked = [{"node": f"n{number}", "reason": "no reply, 4 s ago"} for number in range(5000)]
    lines = shown(capsys, explanation(not_asked_in_full=unasked, content=[])).splitlines()
    assert "  … and 4980 more (--json)" in lines
    assert len(lines) < 60


def test_odd_characters_are_shown_as_they_are(capsys: Captured) -> None:
    answer = explanation(image=ODD, choice=ODD, not_asked_in_full=[{"node": ODD, "reason": ODD}])
    answer["holders"][0] |= {"node": ODD, "tier": ODD, "reason": ODD}
    answer["content"][0] |= {"kind": ODD, "reason": ODD, "local": False, "choice": ODD}
    out = shown(capsys, answer)
    assert out.count(SHOWN_ODD) == 10
    assert "\x1b" not in out


def test_own_copy_that_is_not_used_is_told_with_the_reason(capsys: Captured) -> None:
    out = shown(capsys, explanation(flaw=f"held, but unreadable: {ODD}"))
    assert f"choice: a2\nthis node's own copy is held, but unreadable: {SHOWN_ODD}\n" in out
    assert "own copy" not in shown(capsys, explanation())


def test_names_under_which_the_own_copy_is_given_are_told(capsys: Captured) -> None:
    out = shown(
        capsys, explanation(given="under the names of ghcr.io/acme/app alone, as the registry decides")
    )
    assert "this node gives its own copy under the names of ghcr.io/acme/app alone" in out
    assert "gives its own copy" not in shown(capsys, explanation())


def test_content_that_is_arriving_here_is_told(capsys: Captured) -> None:
    out = shown(capsys, explanation(arriving=f"61 % (1.2 of 2.0 MB), from {ODD}"))
    assert f"it is arriving here: 61 % (1.2 of 2.0 MB), from {SHOWN_ODD}" in out
    assert "arriving" not in shown(capsys, explanation())


def test_digest_of_another_algorithm_keeps_its_name_when_shortened(capsys: Captured) -> None:
    answer = explanation()
    answer["content"][0]["digest"] = "sha512:" + "12" * 64
    assert "sha512:121212121212 " in shown(capsys, answer)


def test_json_is_the_agents_answer(capsys: Captured) -> None:
    assert json.loads(shown(capsys, explanation(), "--json")) == explanation()


def test_error_of_the_agent_is_printed_with_its_hint(capsys: Captured) -> None:
    with admin(
        {"code": "MANIFEST_UNKNOWN", "message": "nobody knows that tag", "hint": "name the registry too"},
        status=404,
    ) as twin:
        assert main(["explain", "nginx:nix", "--url", twin.url]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "shorthaul: nobody knows that tag\n      hint: name the registry too\n")


def test_claim_on_what_nobody_has_is_told(capsys: Captured) -> None:
    answer = explanation() | {
        "holders": [],
        "choice": None,
        "claim": "a2 decides which node of this zone fetches it",
    }
    out = shown(capsys, answer)
    assert "\na2 decides which node of this zone fetches it (shorthaul claims)\n" in out


def test_who_named_the_holders_is_told_where_there_is_a_server(capsys: Captured) -> None:
    words = "near peers named them: the index's server is not asked (it is frozen)"
    assert f"\n{words} (shorthaul index)\n" in shown(capsys, explanation() | {"learnt": words})
    assert "shorthaul index" not in shown(capsys, explanation())


def test_blobs_say_from_whom_their_holders_are_known_where_there_is_a_server(capsys: Captured) -> None:
    answer = explanation()
    first, second = answer["content"]
    answer["content"] = [first | {"learnt": "server"}, second | {"learnt": "fallback"}]
    assert [row[4] for row in rows(shown(capsys, answer))[-2:]] == ["the server", "near peers"]
    assert "known from" not in shown(capsys, explanation())
