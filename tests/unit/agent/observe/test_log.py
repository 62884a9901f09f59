"""Log lines: the same facts for people and for machines, one line each."""

import json
import logging
import sys

from agent.observe.log import JsonFormatter, TextFormatter


def event(message: str = "pulled %s", *arguments: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("shorthaul.test", logging.INFO, __file__, 1, message, arguments, None)
    made.created, made.msecs = 0.0, 5.0
    made.fields = fields
    return made


def failed() -> logging.LogRecord:
    made = event("failed")
    try:
        raise ValueError("the reason")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def test_json_line_has_the_message_and_every_field() -> None:
    line = JsonFormatter().format(event("pulled %s", "it", node="near", bytes=0, reason=None))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.005Z",
        "level": "info",
        "logger": "shorthaul.test",
        "message": "pulled it",
        "node": "near",
        "bytes": 0,
        "reason": None,
    }


def test_field_that_is_no_json_is_written_as_text() -> None:
    assert json.loads(JsonFormatter().format(event("x", error=ValueError("odd"))))["error"] == "odd"


def test_text_line_leaves_empty_fields_out_but_not_zero() -> None:
    line = TextFormatter().format(event("pulled", node="near", bytes=0, reason=None, digest=""))
    assert line == "1970-01-01T00:00:00.005Z INFO    pulled node=near bytes=0"


def test_text_value_with_spaces_or_quotes_is_in_quotes_so_that_a_line_can_be_taken_apart() -> None:
    line = TextFormatter().format(
        event(
            "request", reason='tier zone, "rtt" 0.3 ms', target="/v2/", sources=[], ports=[1, 2], zone="r=a"
        )
    )
    told = line.partition("request ")[2]
    assert told == 'reason="tier zone, \\"rtt\\" 0.3 ms" target=/v2/ ports=[1, 2] zone="r=a"'


def test_text_line_is_one_line_without_escapes_that_a_terminal_obeys() -> None:
    line = TextFormatter().format(
        event("odd \x1b[2J\nname", node="a\x1b]0;x\x07\n2026 ERROR made up", city="Zürich")
    )
    assert line.isprintable()
    assert "\\u001b" in line
    assert "city=Zürich" in line


def test_message_with_line_breaks_is_one_line_of_json() -> None:
    assert "\n" not in JsonFormatter().format(event("one\ntwo", target="a\nb"))


def test_traceback_is_a_field_of_the_json_and_follows_the_text() -> None:
    assert "the reason" in json.loads(JsonFormatter().format(failed()))["traceback"]
    first, *rest = TextFormatter().format(failed()).splitlines()
    assert first.endswith("failed")
    assert rest[-1] == "ValueError: the reason"
