"""What is said when a measurement goes wrong."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import pytest
from rich.console import Console

from benchmarks.coldstart.fetches import Fetches
from benchmarks.coldstart.fleet import Outcome
from benchmarks.lab.process import LabError
from benchmarks.pull.measuring import ALONE, Measurement, problems
from benchmarks.pull.plan import FIELD, Way
from benchmarks.pull.stage import Pulls
from benchmarks.reporting.recorder import Recorder


def _outcome(*failures: str) -> Outcome:
    values = {field.name: 0 for field in fields(Outcome)}
    return Outcome(
        **{
            **values,
            "seconds": {"a1": 1.0, "b1": 2.0},
            "failures": failures,
            "fetches": Fetches(manifests={}, blobs={}),
        }  # type: ignore[arg-type]
    )


def test_nothing_is_said_of_pulls_that_are_whole() -> None:
    assert not [*problems("x", _outcome(), ())]


def test_failed_pulls_are_counted_and_their_reason_is_said() -> None:
    (words,) = problems("nginx, 10 MB", _outcome("c1: PullImage: no space left on device"), ())
    assert words.startswith("nginx, 10 MB: 1 of 3 pulls failed, so this round is left out: ")
    assert words.endswith("no space left on device")


def test_agent_that_ended_is_named_even_if_every_pull_was_whole() -> None:
    (words,) = problems("x", _outcome(), ("the agent of a1",))
    assert "the agent of a1 ended meanwhile" in words


@dataclass(slots=True)
class _Node:
    name: str = "a1"


@dataclass(slots=True)
class _Stage:
    """A lab whose second turn fails: before the nodes are ready, or at its first pull."""

    fails: str
    turns: int = 0
    nodes: list[_Node] = field(default_factory=lambda: [_Node()])

    def release(self, *_: object) -> object:
        return object()

    @contextmanager
    def ready(self, way: Way) -> Iterator[None]:
        self.turns += 1
        if self.turns == 2 and self.fails == "ready":
            raise LabError("no nginx here")
        yield

    def pull(self, *_: Any) -> Pulls:
        if self.turns == 2 and self.fails == "pull":
            raise LabError("the registry is gone")
        return Pulls(outcome=_outcome(), mirror_cpu_s=1.0, all_cpu_s=2.0)


@pytest.mark.parametrize("fails", ["ready", "pull"])
def test_turn_that_fails_has_its_place_in_every_figure_also_in_that_of_a_node_alone(fails: str) -> None:
    recorder = Recorder(Console(file=io.StringIO()))
    Measurement(recorder, _Stage(fails), "so").run({FIELD[0]: 3}, [Way.SHORTHAUL])  # type: ignore[arg-type]
    assert [section.name for section in recorder.sections] == [ALONE, "pull: 10 MB in 1 layer"]
    for section in recorder.sections:
        for figure in section.figures:
            (series,) = figure.series
            assert [each is None for each in series.values] == [False, True, False], figure.what
    assert len(recorder.problems) == 1
