"""The tables of our hosts, as containerd takes them."""

import tomllib
from dataclasses import replace

import pytest

from agent.config import Endpoint
from agent.hosts.mirror import Mirror, is_duration
from tests.unit.agent.hosts.texts import CLOSED, FIRST, SECOND


def test_each_endpoint_is_a_table_in_order() -> None:
    mirror = Mirror(
        endpoints=(Endpoint(host="127.0.0.1", port=1), Endpoint(host="fd00::1", port=2)),
        capabilities=("pull",),
        dial_timeout="500ms",
    )
    said = tomllib.loads("\n".join(mirror.tables(mirror.urls)))["host"]
    assert list(said) == ["http://127.0.0.1:1", "http://[fd00::1]:2"]
    assert said["http://[fd00::1]:2"] == {"capabilities": ["pull"], "dial_timeout": "500ms"}


def test_no_time_out_is_no_line() -> None:
    mirror = Mirror(endpoints=(Endpoint(host="127.0.0.1", port=1),))
    assert "dial_timeout" not in "\n".join(mirror.tables(mirror.urls))


@pytest.mark.parametrize(("text", "good"), [("1s", True), ("500ms", True), ("1m30s", True), ("1.5s", True),
    ("1", False), ("s", False), ("", False), ("-1s", False), ("1 s", False), ("1sec", False)])  # fmt: skip
def test_only_what_go_takes_for_a_time_is_one(text: str, good: bool) -> None:
    assert is_duration(text) is good


def test_only_closed_endpoints_get_the_token_in_a_table_of_headers() -> None:
    said = tomllib.loads("\n".join(CLOSED.tables(CLOSED.urls)))["host"]
    assert "header" not in said[FIRST]
    assert said[SECOND]["header"] == {"Authorization": ["Bearer s3cret-token"]}
    assert [CLOSED.has_token(url) for url in CLOSED.urls] == [False, True]


def test_without_a_token_nothing_is_sent() -> None:
    assert "header" not in "\n".join(replace(CLOSED, token="").tables(CLOSED.urls))


def test_text_form_of_a_mirror_does_not_show_the_token() -> None:
    assert "s3cret" not in repr(CLOSED)
