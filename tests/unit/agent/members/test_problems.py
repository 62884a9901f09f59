"""Problems are listed while they last, and logged when they come and when they are over."""

import pytest

from agent.members.problems import Problem, Problems
from tests.unit.twins import node


def problem(text: str) -> Problem:
    return Problem(node=node("n"), problem=text, hint="do something")


def test_problems_of_a_source_are_replaced_as_a_whole_and_others_stay() -> None:
    problems = Problems()
    problems.found("one", [problem("a"), problem("b")])
    problems.found("other", [problem("c")])
    problems.found("one", [problem("b")])
    assert [each.problem for each in problems.all] == ["b", "c"]


def test_problem_is_logged_when_it_comes_and_when_it_is_over_and_not_between(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "shorthaul")
    problems = Problems()
    for found in ([problem("a")], [problem("a")], [problem("a"), problem("b")], []):
        problems.found("source", found)
    assert [record.message for record in caplog.records] == [
        "source: a",
        "source: b",
        "source: over: a",
        "source: over: b",
    ]


def test_thousand_problems_at_once_are_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    problems = Problems()
    problems.found("source", [problem(str(number)) for number in range(1000)])
    assert len(problems.all) == 20
    assert len(caplog.records) == 21
    assert "980 more" in caplog.records[-1].message


def test_number_of_further_problems_is_told_when_it_has_more_than_doubled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems = Problems()
    for many in (25, 25, 26, 30, 31, 25, 20, 26):
        problems.found("source", [problem(str(number)) for number in range(many)])
    more = [record.message for record in caplog.records if "more" in record.message]
    assert more == ["source: 5 more problems", "source: 11 more problems", "source: 6 more problems"]


def test_thousand_problems_that_come_and_go_one_by_one_are_a_few_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "shorthaul")
    problems, all_of_them = Problems(), [problem(str(number)) for number in range(1000)]
    for many in range(1001):
        problems.found("source", all_of_them[:many])
    assert len(problems) == 1000
    for gone in range(1001):
        problems.found("source", all_of_them[gone:])
    assert len(caplog.records) < 60
    said = [record.message for record in caplog.records]
    assert sum(message.startswith("source: over: ") for message in said) == 20
    assert problems.all == ()
