"""What the stream tells: all of it to who comes, and to the others what changed, each thing once."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agent.admin.sections import (
    PULLS_MAX,
    REQUESTS_FIRST,
    Cluster,
    History,
    Map,
    NewRequests,
    Pulls,
    Told,
    Watched,
)
from agent.documents.cluster import ClusterDocument
from agent.documents.events import NodesDocument
from agent.documents.history import HistoryDocument
from agent.documents.map import MapDocument
from agent.documents.pulls import PullsDocument
from agent.documents.requests import RequestDocument
from agent.documents.times import Moment
from agent.documents.topology import ZoneEntry
from agent.observe.pulls import ImagePulls
from agent.observe.requests import RecentRequests
from agent.oci.reference import Named, Repository, Tag
from tests.unit.agent.admin.test_cluster import gathered, told
from tests.unit.agent.admin.test_history import OWN, played
from tests.unit.agent.admin.test_map import THREE, Scene
from tests.unit.agent.observe.test_tally import local
from tests.unit.twins import located, node, peer, peers

START = Moment(now_s=100.0, unix_s=1e9)


def later(seconds: float, *, jump_s: float = 0.0) -> Moment:
    return Moment(now_s=START.now_s + seconds, unix_s=START.unix_s + seconds + jump_s)


class Looked:
    """A document that a test changes."""

    def __init__(self) -> None:
        self.nodes = 0
        self.looks = 0

    def __call__(self, moment: Moment) -> ZoneEntry:
        self.looks += 1
        return ZoneEntry(region=moment.text, zone="z", nodes=self.nodes)


def timeless(entry: ZoneEntry) -> ZoneEntry:
    return replace(entry, region=None)


async def test_document_is_told_when_it_changed_and_not_for_its_time() -> None:
    looked = Looked()
    section = Watched("zone", looked, every_s=1.0, same=timeless)
    assert len(await section.whole(START)) == 1
    assert not await section.news(later(1))
    looked.nodes = 1
    ((event, document),) = await section.news(later(2))
    assert (event, document) == ("zone", ZoneEntry(region=later(2).text, zone="z", nodes=1))
    assert not await section.news(later(3))


async def test_document_is_not_looked_at_more_often_than_it_may_be_told() -> None:
    looked = Looked()
    section = Watched("zone", looked, every_s=1.0, same=timeless)
    await section.whole(START)
    for tenth in range(1, 10):
        looked.nodes += 1
        assert not await section.news(later(tenth / 10))
    assert looked.looks == 1


async def test_tab_that_comes_takes_no_change_from_the_others() -> None:
    looked = Looked()
    section = Watched("zone", looked, every_s=1.0, same=timeless)
    await section.whole(START)
    looked.nodes = 1
    await section.whole(later(0.5))
    assert len(await section.news(later(1))) == 1


async def test_cheap_mark_saves_the_look() -> None:
    looked, mark = Looked(), 0
    section = Watched("zone", looked, every_s=0.0, mark=lambda _: mark)
    await section.whole(START)
    assert not await section.news(later(1))
    assert looked.looks == 1
    mark = 1
    assert len(await section.news(later(2))) == 1


def targets(told: Sequence[Told]) -> list[str]:
    found = []
    for event, documents in told:
        assert event == "requests"
        assert isinstance(documents, tuple)
        for each in documents:
            assert isinstance(each, RequestDocument)
            found.append(each.target)
    return found


async def test_requests_come_once_oldest_first() -> None:
    recent = RecentRequests()
    recent.add(local(target="before"))
    section = NewRequests(recent)
    assert targets(await section.whole(START)) == ["before"]
    for name in ("1", "2"):
        recent.add(local(target=name))
    assert targets(await section.whole(START)) == ["before"]  # the others' news have the rest
    assert targets(await section.news(later(1))) == ["1", "2"]
    assert not await section.news(later(2))
    assert targets(await section.whole(later(3))) == ["before", "1", "2"]


async def test_request_whose_connection_is_judged_later_comes_again() -> None:
    recent = RecentRequests()
    section = NewRequests(recent)
    record = local(target="judged")
    recent.add(record)
    assert targets(await section.news(later(1))) == ["judged"]
    record.verdict = "direct"
    assert targets(await section.news(later(2))) == ["judged"]
    assert not await section.news(later(3))


async def test_request_that_is_never_judged_is_not_waited_for() -> None:
    recent = RecentRequests()
    section = NewRequests(recent)
    record = local()
    recent.add(record)
    await section.news(later(1))
    await section.news(later(60))
    record.verdict = "direct"
    assert not await section.news(later(61))


async def test_of_a_flood_of_requests_the_last_are_told() -> None:
    recent = RecentRequests()
    section = NewRequests(recent)
    for number in range(2000):
        recent.add(local(target=str(number)))
    assert targets(await section.news(later(1)))[-1] == "1999"
    assert len(targets(await section.whole(later(1)))) == REQUESTS_FIRST


def ids(told: Sequence[Told]) -> list[str]:
    found = []
    for _, document in told:
        assert isinstance(document, PullsDocument)
        found += [pull.id for pull in document.pulls]
    return found


async def test_pulls_that_changed_are_told_and_no_others() -> None:
    pulls = ImagePulls(clock=lambda: START.now_s)
    section = Pulls(OWN, pulls)
    for name in ("one", "two"):
        record = local(id=name)
        pulls.asked(record, Named(registry=None, repository=Repository(name), tag=Tag("v1")), "client")
        pulls.ended(record)
    assert ids(await section.whole(START)) == ["two", "one"]
    await section.news(later(1))
    assert not await section.news(later(2))
    pulls.judged(local(id="one", verdict="direct"))
    assert ids(await section.news(later(3))) == ["one"]
    assert ids(await section.whole(later(3))) == ["two", "one"]


async def test_pull_that_ends_after_many_newer_ones_is_told_to_have_ended() -> None:
    pulls = ImagePulls(clock=lambda: START.now_s)
    section = Pulls(OWN, pulls)
    old = local(id="old")
    pulls.asked(old, Named(registry=None, repository=Repository("old"), tag=Tag("v1")), "client")
    for number in range(PULLS_MAX):
        record = local(id=f"new {number}")
        tag = Named(registry=None, repository=Repository(f"new/{number}"), tag=Tag("v1"))
        pulls.asked(record, tag, "client")
        pulls.ended(record)
    await section.news(later(1))
    pulls.ended(old)
    assert ids(await section.news(later(2))) == ["old"]


def points(told: Sequence[Told]) -> list[tuple[float, int]]:
    found = []
    for _, document in told:
        assert isinstance(document, HistoryDocument)
        found.append((document.step_s, document.points))
    return found


async def test_history_is_whole_at_first_and_then_one_new_step_at_a_time() -> None:
    tally, clock = played(11)
    section = History(OWN, tally)
    assert points(await section.whole(START)) == [(5, 11), (60, 0)]
    assert not await section.news(later(1))
    clock.now_s += 5
    tally.end_steps(clock.now_s)
    assert points(await section.news(later(2))) == [(5, 1), (60, 1)]
    assert not await section.news(later(3))


async def test_history_of_a_process_that_was_stopped_is_told_whole() -> None:
    tally, clock = played(3)
    section = History(OWN, tally)
    clock.now_s += 20
    tally.end_steps(clock.now_s)
    assert points(await section.news(later(1))) == [(5, 7)]


@pytest.mark.parametrize("jump_s", [-3600.0, 86_400.0])
async def test_history_is_told_again_when_the_clock_of_the_day_was_set(jump_s: float) -> None:
    tally, _ = played(3)
    section = History(OWN, tally)
    await section.news(later(1))
    assert points(await section.news(later(2, jump_s=jump_s))) == [(5, 3), (60, 0)]
    assert not await section.news(later(3, jump_s=jump_s))


async def test_figures_are_told_when_they_changed_and_at_once_when_somebody_falls_silent() -> None:
    silent: frozenset[str] = frozenset()
    answers = {name: told() for name in ("a1", "b1", "b2", "x")}
    section = Cluster(lambda _: gathered(answers, silent=tuple(silent)), silent=lambda: silent)
    assert len(await section.whole(START)) == 1
    assert len(await section.news(later(1))) == 1
    assert not await section.news(later(2))
    silent = frozenset({"b1"})
    ((event, document),) = await section.news(later(3))
    assert event == "cluster"
    assert isinstance(document, ClusterDocument)
    assert (document.silent, document.told) == (1, 4)
    assert not await section.news(later(4))


async def test_map_is_told_once_and_then_its_changes() -> None:
    scene = Scene(*THREE)
    section = Map(scene.view)
    ((_, drawn),) = await section.whole(START)
    assert isinstance(drawn, MapDocument)
    scene.measure("b1", 900.0)
    ((event, changes),) = await section.news(later(1))
    assert event == "nodes"
    assert isinstance(changes, NodesDocument)
    assert changes.map == drawn.map
    assert not await section.news(later(2))
    ((_, again),) = await section.whole(later(2))
    assert isinstance(again, MapDocument)
    assert (again.map, again.states[2]) == (drawn.map, "ok")


async def test_new_map_follows_when_nodes_come_and_its_number_is_another() -> None:
    scene = Scene(*THREE)
    section = Map(scene.view)
    await section.whole(START)
    scene.roster.update(peers(*THREE, peer("new", located("r", "c"))))
    ((event, drawn),) = await section.news(later(1))
    assert event == "map"
    assert isinstance(drawn, MapDocument)
    assert drawn.map == 2
    assert "new" in drawn.names


async def test_costs_and_choice_that_changed_are_told_twice_a_minute_at_most() -> None:
    scene = Scene(*THREE)
    section = Map(scene.view)
    await section.whole(START)
    await section.news(later(1))
    scene.measure("b1", 900.0)
    assert [event for event, _ in await section.news(later(29))] == ["nodes"]
    ((event, drawn),) = await section.news(later(30))
    assert event == "map"
    assert isinstance(drawn, MapDocument)
    assert (drawn.map, drawn.states[2], drawn.matrix_source[0][1]) == (1, "ok", "measured")
    assert not await section.news(later(60))


async def test_map_of_many_nodes_is_drawn_again_at_most_every_ten_seconds() -> None:
    members = [peer(f"n{number}", located("r", "a")) for number in range(501)]
    scene = Scene(*members)
    section = Map(scene.view)
    await section.whole(START)
    scene.roster.update(peers(*members, peer("new", located("r", "a"))))
    assert [event for event, _ in await section.news(later(5))] != ["map"]
    assert [event for event, _ in await section.news(later(10))] == ["map"]


async def test_killed_node_is_told_within_a_second_of_its_failure() -> None:
    scene = Scene(*THREE)
    section = Map(scene.view)
    await section.whole(START)
    scene.policy.regard.noted(node("b1"), "connection refused", START.now_s, silent=True)
    ((_, changes),) = await section.news(later(1))
    assert isinstance(changes, NodesDocument)
    assert changes.states == ("silent",)
