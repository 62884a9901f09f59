"""What the log says of a part that stops working and works again."""

import asyncio
import logging

import pytest

from agent.observe.components import Component, Watch, follow_components
from tests.unit.twins import run_in_virtual_time


def said(*problems: str | None, every_s: float = 0.5) -> list[str]:
    """What is logged of a component that is looked at twice a second."""
    watch = Watch()
    messages = [watch.look(problem, number * every_s) for number, problem in enumerate(problems)]
    return [message for message in messages if message is not None]


def test_a_part_that_works_is_not_worth_a_line() -> None:
    assert said(*[None] * 100) == []


def test_a_moment_is_not_worth_a_line() -> None:
    assert said("starting", "starting", "starting", None, "gone", None) == []


def test_a_part_that_fails_is_said_once_and_that_it_is_back_once() -> None:
    assert said(*["gone"] * 20, *[None] * 20) == ["does not work: gone", "works again, after 10 s"]


def test_a_part_that_never_worked_is_said() -> None:
    assert said(*["no such socket"] * 1000) == ["does not work: no such socket"]


def test_another_reason_is_said_but_not_more_than_once_a_minute() -> None:
    reasons = [f"reason {number}" for number in range(600)]
    assert len(said(*reasons)) == 5  # in five minutes


def test_each_failure_is_said_anew() -> None:
    one = [*["gone"] * 10, *[None] * 10]
    assert len(said(*one, *one)) == 4


def test_the_lines_name_the_part_and_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    problem: list[str | None] = ["no such socket"]

    async def main() -> None:
        component = Component(
            name="the store", key="store", problem=lambda: problem[0], hint="does containerd run?"
        )
        clock = asyncio.get_running_loop().time
        task = asyncio.create_task(follow_components([component], clock=clock))
        await asyncio.sleep(5.0)
        problem[0] = None
        await asyncio.sleep(5.0)
        task.cancel()

    with caplog.at_level(logging.INFO, logger="shorthaul"):
        run_in_virtual_time(main())
    failed, back = caplog.records
    assert (failed.levelno, failed.getMessage()) == (
        logging.WARNING,
        "the store does not work: no such socket",
    )
    assert failed.__dict__["fields"] == {"hint": "does containerd run?"}
    assert (back.levelno, back.getMessage()) == (logging.INFO, "the store works again, after 5 s")


def test_what_works_and_should_be_changed_is_not_said_not_to_work() -> None:
    watch, words = Watch(), {"wrong": "should be changed", "right": "is as it should be"}
    assert [watch.look("no maxmemory", now_s, **words) for now_s in (0.0, 5.0, 6.0)] == [
        None,
        "should be changed: no maxmemory",
        None,
    ]
    assert watch.look(None, 9.0, **words) == "is as it should be, after 9 s"
