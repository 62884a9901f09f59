"""What is read again is counted by its result, and logged with what changed or why not."""

import pytest

from agent.observe.reloads import Reloads, first_names


def test_each_result_is_counted_and_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "shorthaul")
    counted: list[tuple[str, str]] = []
    reloads = Reloads(lambda what, result: counted.append((what, result)))
    reloads.changed("peers", {"peers": 1})
    reloads.unchanged("labels")
    reloads.failed("settings", [f"mistake {number}" for number in range(7)], "correct it")
    assert counted == [("peers", "changed"), ("labels", "unchanged"), ("settings", "failed")]
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "ERROR"]
    assert "mistake 4 (and 2 more mistakes)" in caplog.records[2].message
    assert caplog.records[2].__dict__["fields"] == {"hint": "correct it"}


def test_first_names_are_few_and_in_order() -> None:
    assert first_names({"b", "a"}) == "a, b"
    assert first_names(str(number) for number in range(7)) == "0, 1, 2, 3, 4 and 2 more"
    assert first_names(()) == ""
