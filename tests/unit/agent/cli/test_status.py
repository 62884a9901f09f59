"""``shorthaul status``: what a user sees of a node and its cluster, and the exit status."""

import io
import json
import threading
import time
from contextlib import redirect_stdout
from dataclasses import replace

import pytest

from agent.admin.cluster import Gathered, cluster_view
from agent.admin.gatherer import Answer
from agent.cli import main
from agent.documents.codec import to_plain
from agent.documents.times import Moment
from agent.members.roster import Roster
from tests.unit.agent.admin.test_cluster import FIGURES, WINDOW
from tests.unit.agent.cli.admin import ODD, SHOWN_ODD, Json, admin
from tests.unit.twins import located, node, peer, peers

Captured = pytest.CaptureFixture[str]

LATENCY = {"source": "all", "tier": None, "count": 3, "p50_s": 0.0004, "p95_s": 0.004, "p99_s": 1.5}
NONE = {"source": "all", "tier": None, "count": 0, "p50_s": None, "p95_s": None, "p99_s": None}


def overview(**changes: object) -> Json:
    return {
        "time": "2026-08-01T12:00:00.250Z",
        "node": "own",
        "region": "r",
        "zone": "a",
        "version": "1.0",
        "instance": "i",
        "since": "2026-08-01T10:00:00.000Z",
        "uptime_s": 7200.0,
        "ready": True,
        "why_not_ready": None,
        "phase": "serving",
        "components": [],
        "problems": [],
        "own_trouble": "",
        "members": 3,
        "peers_reachable": 1,
        "peers_cooling": 0,
        "peers_silent": 1,
        "window_s": 900.0,
        "window": to_plain(WINDOW),
        "total": to_plain(FIGURES.total),
        "requests": [],
        "success": [
            {"path": "hostport", "asked": 5, "served": 4, "missed": 1, "failed": 0, "share": 0.8},
            {"path": "nodeport", "asked": 0, "served": 0, "missed": 0, "failed": 0, "share": None},
        ],
        "first_byte": [LATENCY],
        "lookup": NONE,
        "proof": {"probe": True, "proved": True, "why": "canaries and requests went direct", "canaries": []},
        "index": {"index": "scatter", "state": "peers", "words": "asked", "problem": None, "hint": ""},
        "claims": {"held": 0, "awaited": 0, "decided": 0, "followers": 0},
        "transfers": {"downloads": 0, "uploads": 0, "uploads_refused": 0},
        "content": {"blobs": 2, "bytes": 3000, "unreadable": 0, "corrupt": 0, "scrub": "off"},
        "tabs": 0,
        **changes,
    }


def cluster() -> Json:
    """Of this node and two others, one of which does not answer."""
    roster = Roster(own=node("own"), placement=located("r", "a"))
    roster.update(peers(peer("a1", located("r", "a")), peer("b1", located("r", "b"))))
    gathered = Gathered(
        snapshot=roster.snapshot,
        own=FIGURES,
        asked={node("a1"), node("b1")},
        answers={node("a1"): Answer(at_s=0.0, figures=replace(FIGURES, version="1.1"))},
        silent=[node("b1")],
        round_s=2.5,
        trouble="",
        window_s=900.0,
    )
    plain: Json = to_plain(cluster_view(gathered, Moment(now_s=1.0, unix_s=1e9)))
    return plain


def both(**changes: object) -> Json:
    """What both pages answer here: each reads its own keys."""
    return {**cluster(), **overview(**changes)}


def shown(capsys: Captured, answer: Json, *arguments: str, status: int = 0) -> str:
    with admin(answer) as twin:
        assert main(["status", "--url", twin.url, *arguments]) == status
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_node_and_cluster_are_shown_with_units_and_windows(capsys: Captured) -> None:
    lines = shown(capsys, both()).splitlines()
    assert lines == [
        "node own in r/a, agent 1.0, started 2 h ago: ready",
        "  works       in the last 15 min: "
        "hostport 100.0% answered of what some node has (4 of 4; 1 for what no node has)",
        "  near        60 B: 17% node, 33% zone, 50% region",
        "  local       proved: canaries and requests went direct",
        "  saves       since 2026-08-01T10:00:00.000Z: 600 B from the registry, 20.00 USD; "
        "bytes between zones cost 5.00 USD",
        "  first byte  p50 0.4 ms, p95 4 ms, p99 1.5 s (3 times)",
        "  look-up     none",
        "  peers       1 of 2 reachable, 1 silent",
        "  index       scatter: asked",
        "  content     2 blobs, 3.0 kB",
        "no problems",
        "cluster, in the last 15 min: the sums are those of 2 of 3 nodes: the others did not tell",
        "  zone  nodes  told  ready  proved  bytes  from this zone  saved  failed  agents",
        "  r/a   2      2     2      2       120 B  50%             120 B  2       1.0, 1.1",
        "  r/b   1      0     0      0       0 B    –               0 B    0",
        "  all   3      2                    60 B   50%             60 B   1",
        "  b1 does not answer",
    ]


def test_what_failed_is_judged_by_what_some_node_has_as_on_the_page(capsys: Captured) -> None:
    success = [
        {"path": "hostport", "asked": 9, "served": 3, "missed": 5, "failed": 1, "share": 0.333333},
        {"path": "nodeport", "asked": 2, "served": 0, "missed": 2, "failed": 0, "share": 0.0},
    ]
    out = shown(capsys, overview(success=success), "--here")
    assert "hostport 75.0% answered of what some node has (3 of 4; 5 for what no node has)" in out
    assert "nodeport – answered of what some node has (0 of 0; 2 for what no node has)" in out


def test_only_this_node_is_asked_if_wanted(capsys: Captured) -> None:
    with admin(overview()) as twin:
        assert main(["status", "--here", "--url", twin.url]) == 0
        assert twin.asked == ["/api/overview"]
    assert "cluster" not in capsys.readouterr().out


@pytest.mark.parametrize(("grave", "status", "word"), [(True, 1, "bad"), (False, 0, "warning")])
def test_what_pulls_suffer_from_is_the_exit_status(
    capsys: Captured, grave: bool, status: int, word: str
) -> None:
    trouble = {"grave": grave, "what": "the store", "node": None, "problem": "gone", "hint": "look at it"}
    out = shown(capsys, overview(problems=[trouble]), "--here", status=status)
    assert f"  [{word}] the store: gone\n      hint: look at it\n" in out


def test_of_very_many_problems_a_few_are_shown_and_the_rest_counted(capsys: Captured) -> None:
    trouble = {"grave": False, "what": "labels", "node": "n", "problem": "none", "hint": ""}
    out = shown(capsys, overview(problems=[trouble] * 40), "--here")
    assert out.count("[warning]") == 12
    assert "28 more" in out


def test_node_that_is_not_ready_and_had_no_request_says_so(capsys: Captured) -> None:
    nobody = [{"path": "hostport", "asked": 0, "served": 0, "missed": 0, "failed": 0, "share": None}]
    out = shown(
        capsys,
        overview(ready=False, why_not_ready="no store", success=nobody, zone=None, region=None),
        "--here",
    )
    assert "node own in no zone" in out
    assert "not ready: no store" in out
    assert "no request for content" in out


def test_hostile_names_reach_no_terminal(capsys: Captured) -> None:
    out = shown(capsys, overview(node=ODD), "--here")
    assert SHOWN_ODD in out
    assert "\x1b" not in out


def test_json_is_the_agents_answers(capsys: Captured) -> None:
    answer = both()
    assert json.loads(shown(capsys, answer, "--json")) == {"overview": answer, "cluster": answer}


def test_agent_that_knows_no_such_page_is_too_old_and_the_hint_says_so(capsys: Captured) -> None:
    error = {"code": "NOT_FOUND", "message": "there is no page", "hint": ""}
    with admin(error, status=404) as twin:
        assert main(["status", "--url", twin.url]) == 1
    assert "as new as this command" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "0.5"])
def test_watch_that_would_never_pause_is_wrong_usage(seconds: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["status", f"--watch={seconds}", "--url", "http://127.0.0.1:1"])
    assert caught.value.code == 2


class Pipe(io.StringIO):
    """A reader that presses Ctrl-C after three lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def write(self, text: str) -> int:
        self.lines += [line for line in text.split("\n") if line]
        if len(self.lines) >= 3:
            raise KeyboardInterrupt
        return len(text)


def test_watch_in_a_pipe_is_a_line_each_time_and_survives_an_agent_that_is_away() -> None:
    pipe = Pipe()
    lines = pipe.lines
    with admin(overview()) as twin:

        def away() -> None:
            while not lines:
                time.sleep(0.02)
            twin.body, twin.status = b"{}", 500
            while len(lines) < 2:
                time.sleep(0.02)
            twin.body, twin.status = json.dumps(overview()).encode(), 200

        going = threading.Thread(target=away)
        going.start()
        with redirect_stdout(pipe):
            assert main(["status", "--watch", "1", "--here", "--url", twin.url]) == 130
        going.join()
    assert lines[0].startswith("2026-08-01T12:00:00.250Z own: ready; hostport 100.0% answered of what")
    assert "500" in lines[1]
