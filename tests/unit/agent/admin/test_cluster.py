"""``/api/cluster``: each node speaks for itself, and one that lies spoils no sum."""

from dataclasses import replace
from typing import Any

import pytest

from agent.admin.cluster import Gathered, cluster_view, is_plausible, told_states
from agent.admin.gatherer import Answer
from agent.admin.sums import sums_entry
from agent.documents.cluster import ClusterDocument, FiguresEntry
from agent.documents.map import NodeState
from agent.documents.sums import SumsEntry, TierBytesEntry
from agent.documents.times import Moment
from agent.members.roster import Roster
from tests.unit.twins import located, node, peer, peers
from topology.placement import NodeName

MOMENT = Moment(now_s=100.0, unix_s=1e9)
WINDOW = sums_entry((10, 0, 20, 30, 0, 60, 30, 0.5, 2.0, 5, 4, 1), 900.0)
TOTAL = sums_entry((100, 0, 200, 300, 0, 600, 300, 5.0, 20.0, 50, 40, 10), 3600.0)
FIGURES = FiguresEntry(
    version="1.0",
    uptime_s=3600.0,
    ready=True,
    why_not_ready="",
    phase="serving",
    proved=True,
    index_down=False,
    unreadable=0,
    corrupt=0,
    uploads=1,
    downloads=2,
    window=WINDOW,
    total=TOTAL,
)


def told(figures: FiguresEntry | None = FIGURES, at_s: float = 99.0, *, silent: bool = False) -> Answer:
    return Answer(at_s=at_s, figures=figures, silent=silent)


def gathered(
    answers: dict[str, Answer],
    *,
    asked: set[str] | None = None,
    silent: tuple[str, ...] = (),
    own: FiguresEntry = FIGURES,
) -> ClusterDocument:
    """With this node and a1 in zone a, b1 and b2 in zone b, x in none."""
    roster = Roster(own=node("own"), placement=located("r", "a"), clock=lambda: 100.0)
    members = (
        peer("a1", located("r", "a")),
        peer("b1", located("r", "b")),
        peer("b2", located("r", "b")),
        peer("x", located()),
    )
    roster.update(peers(*members))
    return cluster_view(
        Gathered(
            snapshot=roster.snapshot,
            own=own,
            asked={NodeName(name) for name in asked or {"a1", "b1", "b2", "x"}},
            answers={NodeName(name): answer for name, answer in answers.items()},
            silent=[NodeName(name) for name in silent],
            round_s=2.5,
            trouble="",
            window_s=900.0,
        ),
        MOMENT,
    )


def says(document: ClusterDocument) -> dict[str, str]:
    return {line.node: line.says for line in document.nodes}


def test_node_that_knows_no_other_is_not_called_all_one_nodes() -> None:
    roster = Roster(own=node("own"), placement=located("r", "a"), clock=lambda: 100.0)
    alone = Gathered(
        snapshot=roster.snapshot,
        own=FIGURES,
        asked=(),
        answers={},
        silent=(),
        round_s=2.5,
        trouble="",
        window_s=900.0,
    )
    assert cluster_view(alone, MOMENT).scope == "the sums are those of this node: it knows no other"


def test_sums_are_those_of_the_nodes_that_told() -> None:
    document = gathered({"a1": told(), "b1": told()})
    assert says(document) == {"a1": "told", "own": "told", "b1": "told", "b2": "waiting", "x": "waiting"}
    assert (document.members, document.asked, document.told) == (5, 5, 3)
    assert document.window.requests == 3 * WINDOW.requests
    assert document.total.saved_bytes == 3 * TOTAL.saved_bytes
    assert document.window.usd == pytest.approx(1.5)
    sizes = [each.size_bytes for each in document.window.bytes_by_tier]
    assert sizes == [30, 0, 60, 90, 0]
    assert "3 of 5 nodes" in document.scope


@pytest.mark.parametrize(("seconds", "shown_s"), [((30.0, 40.0), 40.0), ((30.0, 903.0), 900.0)])
def test_window_is_no_longer_than_the_oldest_agent_counted(
    seconds: tuple[float, float], shown_s: float
) -> None:
    young, older = (replace(FIGURES, window=replace(WINDOW, seconds=each)) for each in seconds)
    assert gathered({"a1": told(older)}, own=young).window_s == shown_s


def test_zone_has_its_own_sums_versions_and_oldest_answer() -> None:
    document = gathered(
        {"b1": told(at_s=80.0), "b2": told(replace(FIGURES, version="2.0", proved=None, ready=False))}
    )
    zones = {zone.zone: zone for zone in document.zones}
    assert (zones["b"].nodes, zones["b"].told, zones["b"].ready) == (2, 2, 1)
    assert (zones["b"].proved, zones["b"].no_probe) == (1, 1)
    assert (zones["b"].versions, zones["b"].oldest_s) == (("1.0", "2.0"), 20.0)
    assert zones["b"].window.requests == 2 * WINDOW.requests
    assert (zones[None].nodes, zones[None].told, zones[None].oldest_s) == (1, 0, None)
    assert [document.zones[line.zone_index].zone for line in document.nodes] == ["a", "a", "b", "b", None]


def test_who_does_not_answer_is_in_no_sum_and_called_silent() -> None:
    document = gathered({"a1": told(silent=True), "b1": told()}, silent=("b1",))
    assert (says(document)["a1"], says(document)["b1"], document.silent) == ("silent", "silent", 2)
    assert document.window == replace(WINDOW, seconds=document.window.seconds)


def test_older_release_says_nothing_and_that_is_no_failure() -> None:
    document = gathered({"a1": told(None)})
    assert says(document)["a1"] == "nothing"
    assert document.silent == 0


def lying(**changes: Any) -> FiguresEntry:
    return replace(FIGURES, **changes)


@pytest.mark.parametrize(
    "figures",
    [
        lying(uptime_s=-1.0),
        lying(uptime_s=1e12),
        lying(uptime_s=float("inf")),
        lying(unreadable=-1),
        lying(uploads=1 << 62),
        lying(window=replace(WINDOW, seconds=1e9)),
        lying(window=replace(WINDOW, saved_bytes=1 << 60)),
        lying(window=replace(WINDOW, crossing_bytes=-5)),
        lying(window=replace(WINDOW, usd=float("inf"))),
        lying(window=replace(WINDOW, usd_saved=1e15)),
        lying(window=replace(WINDOW, requests=1 << 50)),
        lying(window=replace(WINDOW, served=6)),
        lying(window=replace(WINDOW, bytes_by_tier=())),
        lying(window=replace(WINDOW, bytes_by_tier=(TierBytesEntry(tier="node", size_bytes=1),) * 5)),
        lying(total=replace(TOTAL, saved_bytes=10**18)),
    ],
)
def test_what_can_not_be_true_is_in_no_sum_and_said_to_be_so(figures: FiguresEntry) -> None:
    assert not is_plausible(figures)
    document = gathered({"a1": told(figures)})
    assert says(document)["a1"] == "absurd"
    assert document.window == replace(WINDOW, seconds=document.window.seconds)
    assert document.total == replace(TOTAL, seconds=document.total.seconds)


def test_busy_node_is_believed() -> None:
    day_s = 86_400.0
    busy = SumsEntry(
        seconds=day_s,
        requests=10**9,
        served=10**9,
        failed=0,
        bytes_by_tier=replace(WINDOW).bytes_by_tier,
        saved_bytes=10**15,
        crossing_bytes=10**14,
        usd=2e3,
        usd_saved=45e3,
        net_usd_saved=43e3,
    )
    assert is_plausible(replace(FIGURES, uptime_s=day_s, total=busy))


def test_sample_says_so_in_words_and_scales_nothing() -> None:
    document = gathered({"b1": told()}, asked={"b1"})
    assert document.sampled
    assert "a sample of each zone: 2 of the cluster's 5 nodes are asked" in document.scope
    assert document.window.requests == 2 * WINDOW.requests
    assert [zone.asked for zone in document.zones] == [1, 1, 0]


def test_node_that_is_no_member_any_more_is_left_out() -> None:
    document = gathered({"gone": told()}, asked={"gone"})
    assert says(document) == {"own": "told"}


def test_node_that_is_not_ready_or_stops_says_so_in_the_map() -> None:
    states = told_states(
        {
            node("a"): told(),
            node("b"): told(replace(FIGURES, ready=False, phase="starting")),
            node("c"): told(replace(FIGURES, ready=False, phase="stopping")),
            node("d"): told(None),
        }
    )
    assert states == {"b": NodeState.UNREADY, "c": NodeState.DRAINING}
