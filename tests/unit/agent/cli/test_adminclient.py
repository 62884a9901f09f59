"""The client of the admin port: answers, and an error with a hint for everything that is no answer."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agent.cli.adminclient import printable, read, read_topology, request_json
from agent.cli.errors import CommandError
from agent.documents.explain import ExplainDocument
from tests.unit.agent.cli.admin import ODD, SHOWN_ODD, admin, explanation, labels, own, small, topology


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def failure(url: str, *, deadline_s: float = 10) -> CommandError:
    with pytest.raises(CommandError) as caught:
        request_json(url, "/api/topology", deadline_s=deadline_s)
    assert caught.value.hint
    return caught.value


def test_answer_is_the_object_that_the_agent_sent() -> None:
    with admin({"a": [1, None]}) as twin:
        assert request_json(twin.url, "/api/topology") == {"a": [1, None]}
        assert twin.asked == ["/api/topology"]


def test_query_is_encoded() -> None:
    with admin({}) as twin:
        request_json(twin.url, "/api/explain", {"image": "a&b=c d/ü:1"})
        assert twin.asked == ["/api/explain?image=a%26b%3Dc+d%2F%C3%BC%3A1"]


def test_path_of_the_url_comes_before_the_page() -> None:
    with admin({}) as twin:
        request_json(f"{twin.url}/behind/a/proxy/", "/api/topology")
        assert twin.asked == ["/behind/a/proxy/api/topology"]


def test_refused_connection_asks_whether_the_agent_runs(listener: socket.socket) -> None:
    url = url_of(listener)
    listener.close()
    error = failure(url)
    assert f"no agent answers at {url}" in str(error)
    assert "is it running?" in error.hint
    assert "--url" in error.hint
    assert error.status == 1


def test_server_that_never_answers_costs_no_more_than_the_deadline(listener: socket.socket) -> None:
    assert "within 0.05 s" in str(failure(url_of(listener), deadline_s=0.05))


@contextmanager
def endless(listener: socket.socket, part: bytes) -> Iterator[str]:
    """A server that begins an answer and never ends it."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            while True:
                connection.sendall(part)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield url_of(listener)
    finally:
        thread.join()


def test_answer_that_never_ends_costs_no_more_than_the_deadline(listener: socket.socket) -> None:
    with endless(listener, b" ") as url:
        assert "within 0.05 s" in str(failure(url, deadline_s=0.05))


def test_answer_that_is_too_large_is_given_up(listener: socket.socket) -> None:
    with endless(listener, b" " * (1 << 20)) as url:
        assert "more than 64 MiB" in str(failure(url, deadline_s=60))


def test_connection_that_is_closed_without_an_answer_is_an_error() -> None:
    with admin(b"") as twin:
        twin.status = 0  # no status line that HTTP knows
        assert "does not speak HTTP" in str(failure(twin.url))


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:9090",
        "localhost:9090",
        "ftp://127.0.0.1",
        "http://",
        "http://a:port",
        "http://a:99999",
        "http://[::1",
        "http://a/?q=1",
        "http://user@a/",
        "",
    ],
)
def test_url_that_is_none_is_wrong_usage_and_its_hint_shows_one(url: str) -> None:
    error = failure(url)
    assert error.status == 2
    assert "http://127.0.0.1:9090" in error.hint


def test_https_is_wrong_usage_because_the_admin_port_has_none() -> None:
    error = failure("https://127.0.0.1:9090")
    assert (error.status, error.hint) == (2, "write http://")


@pytest.mark.parametrize("url", ["http://a b/", "http://\x00/", "http://" + "a" * 70 + "/", "http://x..y/"])
def test_host_that_no_resolver_takes_is_an_error_and_no_crash(url: str) -> None:
    assert "\x00" not in str(failure(url))


def test_older_agent_without_the_page_is_told_from_a_page_that_found_nothing() -> None:
    with admin(
        {"code": "NOT_FOUND", "message": "there is no page /x", "hint": "there are /metrics"}, status=404
    ) as twin:
        error = failure(twin.url)
    assert "has no /api/topology" in str(error)
    assert "as new as this command" in error.hint


@pytest.mark.parametrize("status", [400, 404, 502])
def test_error_of_the_agent_is_handed_on_with_its_hint(status: int) -> None:
    with admin(
        {"code": "MANIFEST_UNKNOWN", "message": "unknown tag \x1b[2J", "hint": "pull it"}, status=status
    ) as twin:
        error = failure(twin.url)
    assert (str(error), error.hint, error.status) == ("unknown tag \\x1b[2J", "pull it", 1)


@pytest.mark.parametrize("body", [b"", b"ok\n", b"[]", b"\xff", b"[" * 100_000])
def test_answer_that_is_no_json_object_is_an_error(body: bytes) -> None:
    with admin(body) as twin:
        assert "no JSON object" in str(failure(twin.url))


@pytest.mark.parametrize("status", [204, 302, 404, 500])
def test_other_status_without_an_explanation_is_an_error(status: int) -> None:
    with admin(b"", status=status) as twin:
        assert twin.url in str(failure(twin.url))


def test_texts_of_an_answer_are_made_printable() -> None:
    view = read_topology(topology([own(ODD, labels(ODD, ODD))]))
    assert view.nodes[0].name == view.zones[0].zone == SHOWN_ODD
    assert view.nodes[0].placement[0] == ("region", SHOWN_ODD)


def test_half_a_character_is_made_printable_too() -> None:
    assert printable(json.loads('"a\\ud800b\\n"')) == "a\\ud800b\\n"


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": None},
        {"nodes": [1]},
        {"nodes": [{}]},
        {"zones": "text"},
        {"matrix_us": []},
        {"matrix_us": [[1.0]] * 3},
        {"matrix_us": [["1"] * 3] * 3},
        {"matrix_source": [[None] * 3] * 3},
        {"node": True},
        {"age_s": True},
        {"problems": [[]]},
    ],
)
def test_answer_of_another_shape_is_an_error_that_points_to_the_versions(change: dict[str, Any]) -> None:
    with pytest.raises(CommandError) as caught:
        read_topology({**small(), **change})
    assert "version" in caught.value.hint


def test_zones_of_which_nothing_is_known_have_neither_cost_nor_source() -> None:
    costs_us, sources = [[1.0, None, 1.0]] * 3, [["measured", None, "told"]] * 3
    view = read_topology({**small(), "matrix_us": costs_us, "matrix_source": sources})
    assert view.matrix_us[0] == (1.0, None, 1.0)
    assert view.matrix_source[0] == ("measured", None, "told")


def test_fields_of_a_newer_agent_are_passed_over() -> None:
    assert read_topology({**small(), "new": 1}) == read_topology(small())


def test_number_that_is_infinite_or_none_counts_as_unknown() -> None:
    answer = json.loads(json.dumps({**small(), "matrix_us": [[float("inf"), float("nan"), 10**400]] * 3}))
    assert read_topology(answer).matrix_us[0] == (None, None, None)


def test_explanation_of_an_older_agent_is_read_without_what_it_lacks() -> None:
    answer = explanation()
    for key in ("image", "content", "not_asked_in_full"):
        del answer[key]
    for holder in answer["holders"]:
        del holder["rtt_us"], holder["load"]
    view = read(ExplainDocument, answer)
    assert (view.image, view.content, view.holders[0].rtt_us, view.holders[0].load) == (None, (), None, None)


def test_the_token_is_shown_only_to_who_asks_for_it() -> None:
    asked: list[int] = []

    def token() -> str:
        asked.append(1)
        return "t0k3n"

    with admin({}) as twin:
        request_json(twin.url, "/api/topology", token=token)
        assert (twin.shown, asked) == ([None], [])
    with admin({"code": "UNAUTHORIZED", "message": "m", "hint": "h"}, status=401) as twin:
        with pytest.raises(CommandError):
            request_json(twin.url, "/api/topology", token=token)
        assert twin.shown == [None, "Bearer t0k3n"]
        with pytest.raises(CommandError) as caught:
            request_json(twin.url, "/api/topology")
        assert (str(caught.value), caught.value.hint) == ("m", "h")


def test_a_unix_socket_that_is_not_there_is_an_error_with_a_hint(tmp_path: Path) -> None:
    error = failure(f"unix:{tmp_path}/none.sock")
    assert "no agent answers at unix:" in str(error)
    assert "health.socket" in error.hint
