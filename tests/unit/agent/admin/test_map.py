"""``/api/map``: each node once, in the gravest of its states; and what changes, without a look at each."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from agent.admin.map import MapView
from agent.documents.codec import encode
from agent.documents.map import MapDocument, NodeState
from agent.documents.times import Moment
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.pull.policy import Policy
from tests.unit.twins import located, make_policy, node, peer, peers
from topology.placement import NodeName, Placement

NOW_S = 100.0
MOMENT = Moment(now_s=NOW_S, unix_s=1e9)


class Scene:
    """A map and what it is made of."""

    def __init__(self, *members: Peer, own: Placement | None = None) -> None:
        self.clock_s = NOW_S
        self.roster = Roster(own=node("own"), placement=own or located("r", "a"), clock=lambda: self.clock_s)
        self.policy: Policy = make_policy()
        self.roster.on_change(self.policy.regard.members_changed)
        self.roster.update(peers(*members))
        self.words = ""
        self.told: Mapping[NodeName, NodeState] = {}
        self.view = MapView(
            roster=self.roster, policy=self.policy, trouble=lambda _: self.words, told=lambda: self.told
        )

    def document(self) -> MapDocument:
        return asyncio.run(self.view.document(MOMENT))

    def measure(self, name: str, rtt_us: float) -> None:
        for _ in range(3):
            self.roster.sample(node(name), rtt_us)
        self.roster.refresh()


THREE = (peer("a1", located("r", "a")), peer("b1", located("r", "b")), peer("x", located()))


def states(document: MapDocument) -> dict[str, str]:
    return dict(zip(document.names, document.states, strict=True))


def test_each_node_is_there_once_zone_by_zone_with_all_columns() -> None:
    document = Scene(*THREE).document()
    assert document.names == ("a1", "own", "b1", "x")
    assert document.zone_index == (0, 0, 1, 2)
    assert [(zone.zone, zone.nodes) for zone in document.zones] == [("a", 2), ("b", 1), (None, 1)]
    assert {len(document.names)} == {
        len(column) for column in (document.zone_index, document.racks, document.states, document.rtt_us)
    }
    assert [len(row) for row in document.matrix_us] == [len(row) for row in document.matrix_source] == [3] * 3
    assert document.matrix_us[2] == (None, None, None)


def test_cluster_without_labels_is_one_zone_without_a_name() -> None:
    document = Scene(peer("x", located()), own=located()).document()
    assert [(zone.region, zone.zone, zone.nodes) for zone in document.zones] == [(None, None, 2)]
    assert (document.zone_index, document.matrix_us) == ((0, 0), ((None,),))


def test_state_says_whether_the_way_was_measured() -> None:
    scene = Scene(*THREE)
    scene.measure("b1", 900.0)
    document = scene.document()
    assert states(document) == {"own": "self", "a1": "unmeasured", "b1": "ok", "x": "unmeasured"}
    assert document.rtt_us == (None, None, 900.0, None)


def test_peer_that_failed_is_cooling_and_one_without_a_sign_of_life_is_silent() -> None:
    scene = Scene(*THREE)
    regard = scene.policy.regard
    regard.refused(node("a1"), "status 500", NOW_S)
    regard.failed(node("a1"), NOW_S)
    regard.unanswered(node("b1"), "connection refused", NOW_S)
    document = scene.document()
    assert states(document) == {"own": "self", "a1": "cooling", "b1": "silent", "x": "unmeasured"}
    assert [(zone.silent, zone.cooling, zone.answering) for zone in document.zones] == [
        (0, 1, 1),
        (1, 0, 0),
        (0, 0, 1),
    ]
    regard.heard(node("b1"), NOW_S + 1)
    assert states(scene.document())["b1"] == "cooling"


def test_nobody_is_called_dead_while_this_node_can_not_ask() -> None:
    scene = Scene(*THREE)
    scene.policy.regard.unanswered(node("b1"), "no route to host", NOW_S)
    scene.words = "this node's network is unreachable"
    document = scene.document()
    assert document.own_trouble == scene.words
    assert states(document)["b1"] == "doubtful"


def test_who_failed_when_nobody_answered_stays_doubtful_until_it_is_asked_again() -> None:
    scene = Scene(*THREE)
    scene.policy.regard.unanswered(node("b1"), "no answer", NOW_S)
    view = replace(scene.view, doubtful=lambda: {node("a1"), node("b1")})
    document = asyncio.run(view.document(MOMENT))
    assert (states(document)["a1"], states(document)["b1"]) == ("unmeasured", "doubtful")


def test_what_a_node_says_of_itself_is_its_state_if_nothing_graver_is_known() -> None:
    scene = Scene(*THREE)
    scene.told = {node("a1"): NodeState.DRAINING, node("b1"): NodeState.UNREADY}
    scene.policy.regard.unanswered(node("b1"), "connection refused", NOW_S)
    assert states(scene.document()) == {
        "own": "self",
        "a1": "draining",
        "b1": "silent",
        "x": "unmeasured",
    }


def test_node_that_told_something_and_left_is_in_no_map() -> None:
    scene = Scene(*THREE)
    scene.told = {node("gone"): NodeState.DRAINING}
    drawn = asyncio.run(scene.view.draw(MOMENT, 1))
    assert "gone" not in drawn.names
    assert scene.view.changes(drawn, MOMENT) is None


def test_chosen_are_the_nearest_that_are_well() -> None:
    scene = Scene(*THREE)
    scene.policy.regard.unanswered(node("a1"), "connection refused", NOW_S)
    scene.clock_s += 1
    assert [each.node for each in scene.document().chosen] == ["b1", "x", "a1"]
    assert all(each.reason for each in scene.document().chosen)


def test_changes_name_the_nodes_that_changed_and_no_other() -> None:
    scene = Scene(*THREE)
    drawn = asyncio.run(scene.view.draw(MOMENT, 7))
    assert scene.view.changes(drawn, MOMENT) is None
    scene.measure("b1", 900.0)
    scene.policy.regard.unanswered(node("x"), "connection refused", NOW_S)
    changes = scene.view.changes(drawn, MOMENT)
    assert changes is not None
    assert (changes.map, changes.indexes, changes.states) == (7, (2, 3), ("ok", "silent"))
    assert changes.rtt_us == (900.0, None)
    assert scene.view.changes(drawn, MOMENT) is None
    assert states(drawn.document(node("own"), MOMENT)) == states(scene.document())


def test_peer_that_is_well_again_is_told() -> None:
    scene = Scene(*THREE)
    scene.policy.regard.noted(node("x"), "no answer", NOW_S, silent=True)
    drawn = asyncio.run(scene.view.draw(MOMENT, 1))
    scene.policy.regard.heard(node("x"), NOW_S + 1)
    changes = scene.view.changes(drawn, MOMENT)
    assert changes is not None
    assert changes.states == ("unmeasured",)


def test_noise_of_a_few_per_cent_is_not_told() -> None:
    scene = Scene(*THREE)
    scene.measure("b1", 900.0)
    drawn = asyncio.run(scene.view.draw(MOMENT, 1))
    scene.measure("b1", 890.0)
    assert scene.view.changes(drawn, MOMENT) is None
    scene.measure("b1", 500.0)
    assert scene.view.changes(drawn, MOMENT) is not None


def test_own_trouble_alone_is_worth_telling_and_so_is_its_end() -> None:
    scene = Scene(*THREE)
    drawn = asyncio.run(scene.view.draw(MOMENT, 1))
    for words in ("network is unreachable", "connection refused", ""):
        scene.words = words
        changes = scene.view.changes(drawn, MOMENT)
        assert changes is not None
        assert (changes.own_trouble, changes.indexes) == (words, ())


def test_node_that_left_after_the_map_was_drawn_is_no_change() -> None:
    scene = Scene(*THREE)
    drawn = asyncio.run(scene.view.draw(MOMENT, 1))
    scene.roster.update(peers(*THREE[:2], peer("new", located("r", "b"))))
    changes = scene.view.changes(drawn, MOMENT)
    assert changes is None or len(drawn.names) > max(changes.indexes, default=0)


@pytest.mark.parametrize("name", ["\x00", '"', "é\u202e", "<img src=x>"])
def test_hostile_names_are_text(name: str) -> None:
    scene = Scene(peer(name, located("r", name)))
    assert "\n" not in encode(scene.document())


def test_map_of_five_thousand_nodes_is_made_in_many_steps() -> None:
    members = [peer(f"n{number}", located("r", f"z{number % 3}")) for number in range(5000)]
    scene = Scene(*members)

    async def others_ran() -> int:
        ran = 0

        async def other() -> None:
            nonlocal ran
            while True:
                ran += 1
                await asyncio.sleep(0)

        running = asyncio.create_task(other())
        document = await scene.view.document(MOMENT)
        running.cancel()
        assert len(document.names) == 5001
        return ran

    assert asyncio.run(others_ran()) >= 12
