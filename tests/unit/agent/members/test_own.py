"""This node's own placement: from settings and labels, which may come late or change."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.config import PlacementSettings
from agent.config.values import Labels
from agent.members.own import Learned, OwnPlacement
from tests.unit.twins import located, node, run_in_virtual_time
from topology.labels import FINER_LEVELS, REGION_LABEL, ZONE_LABEL, LabelProblem
from topology.placement import Placement

Told = list[tuple[Placement, tuple[LabelProblem, ...]]]


def own(settings: PlacementSettings) -> OwnPlacement:
    return OwnPlacement(node("own"), settings, FINER_LEVELS)


def write(path: Path, region: str, zone: str) -> None:
    """As the kubelet does: a new file takes the place of the old one."""
    new = path.with_suffix(".new")
    new.write_text(f'{REGION_LABEL}="{region}"\n{ZONE_LABEL}="{zone}"\n')
    new.replace(path)


def following(placement: OwnPlacement, scenario: Callable[[Told], Awaitable[None]]) -> Told:
    """What is told of a placement that is followed during the scenario. Time jumps."""

    async def follow() -> Told:
        told: Told = []
        task = asyncio.create_task(placement.run(lambda *found: told.append(found)))
        await asyncio.sleep(1.0)
        await scenario(told)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return told

    return run_in_virtual_time(follow())


def test_settings_win_over_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    write(path, "r", "from the file")
    placement, problems = own(PlacementSettings(zone="set", labels_file=path)).read()
    assert placement == located("r", "set")
    assert len(problems) == 1, "that they differ is told"


def test_label_in_both_places_is_a_problem_and_the_settings_count(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    write(path, "r", "file")
    labels = Labels(items=((ZONE_LABEL, "settings"),))
    placement, problems = own(PlacementSettings(labels=labels, labels_file=path)).read()
    assert placement == located("r", "settings")
    assert "the first one is used" in problems[0].problem


@pytest.mark.parametrize("labels_file", [None])
def test_without_a_file_there_is_nothing_to_follow(labels_file: None) -> None:
    placement = own(PlacementSettings(zone="a", labels_file=labels_file))

    async def scenario(told: Told) -> None:
        await asyncio.sleep(10.0)

    assert following(placement, scenario) == []


def test_labels_that_come_late_or_change_move_the_node(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    placement = own(PlacementSettings(labels_file=path))
    assert placement.read()[0] == located()

    async def scenario(told: Told) -> None:
        write(path, "r", "a")
        await asyncio.sleep(1.0)
        assert told[-1] == (located("r", "a"), ())
        write(path, "r", "a")
        await asyncio.sleep(1.0)
        write(path, "r", "b")
        await asyncio.sleep(1.0)

    told = following(placement, scenario)
    assert [found[0] for found in told] == [located("r", "a"), located("r", "b")]


def test_file_that_goes_away_leaves_the_node_where_it_was_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    write(path, "r", "a")
    placement = own(PlacementSettings(labels_file=path))
    assert placement.read()[0] == located("r", "a")

    async def scenario(told: Told) -> None:
        path.unlink()
        await asyncio.sleep(1.0)

    ((where, (problem,)),) = following(placement, scenario)
    assert where == located("r", "a")
    assert "No such file" in problem.problem


def test_labels_that_the_membership_learns_place_this_node_late_and_again() -> None:
    placement = own(PlacementSettings())

    async def scenario(told: Told) -> None:
        assert told == []
        placement.learn(Learned.SLICE, {ZONE_LABEL: "a"})
        await asyncio.sleep(1.0)
        placement.learn(Learned.NODE, {ZONE_LABEL: "b", REGION_LABEL: "r", "rack": "7"})
        await asyncio.sleep(1.0)
        placement.learn(Learned.NODE, {ZONE_LABEL: "b", REGION_LABEL: "r", "rack": "7", "unrelated": "x"})
        await asyncio.sleep(1.0)

    told = following(placement, scenario)
    assert [where for where, _ in told] == [located(None, "a"), located("r", "b", ("rack", "7"))]
    assert all(problems == () for _, problems in told)


def test_node_wins_over_the_file_that_was_written_once_and_that_over_the_slice(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    write(path, "r", "file")
    placement = own(PlacementSettings(labels_file=path))
    placement.learn(Learned.SLICE, {ZONE_LABEL: "slice"})
    assert placement.read() == (located("r", "file"), ())
    placement.learn(Learned.NODE, {ZONE_LABEL: "node"})
    assert placement.read() == (located("r", "node"), ())


def test_zone_that_the_node_lost_does_not_come_back_from_the_slice() -> None:
    placement = own(PlacementSettings())
    placement.learn(Learned.SLICE, {ZONE_LABEL: "slice"})
    placement.learn(Learned.NODE, {REGION_LABEL: "r"})
    assert placement.read() == (located("r", None), ())


def test_settings_win_over_the_node_and_that_they_differ_is_told() -> None:
    labels = Labels(items=((ZONE_LABEL, "set"),))
    placement = own(PlacementSettings(labels=labels))
    placement.learn(Learned.NODE, {ZONE_LABEL: "node"})
    where, (problem,) = placement.read()
    assert where == located(None, "set")
    assert "in its Node" in problem.problem


def test_file_that_can_not_be_read_is_told_and_the_node_counts(tmp_path: Path) -> None:
    placement = own(PlacementSettings(labels_file=tmp_path / "missing"))
    placement.learn(Learned.NODE, {ZONE_LABEL: "node"})
    where, (problem,) = placement.read()
    assert where == located(None, "node")
    assert "No such file" in problem.problem
