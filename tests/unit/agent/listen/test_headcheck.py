"""Heads that the HTTP library accepts and that two servers could understand in two ways."""

import pytest
from multidict import CIMultiDict

from agent.listen.headcheck import head_problem


def _problem(
    target: str = "/v2/", *fields: tuple[str, str], method: str = "GET", version: tuple[int, int] = (1, 1)
) -> str | None:
    return head_problem(method, target, version, CIMultiDict([("Host", "localhost:30020"), *fields]))


def test_what_clients_send_is_no_problem() -> None:
    assert _problem("/v2/a/manifests/v1?ns=docker.io", ("Range", "bytes=0-"), ("User-Agent", "x")) is None
    assert _problem("/v2/", version=(1, 0)) is None
    assert _problem("*", method="OPTIONS") is None


@pytest.mark.parametrize("version", [(0, 9), (1, 2), (2, 0), (11, 1)])
def test_other_versions_are_refused(version: tuple[int, int]) -> None:
    assert _problem(version=version) is not None


def test_tunnels_and_fragments_are_refused() -> None:
    assert _problem("localhost:80", method="CONNECT") is not None
    assert _problem("/v2/#x") is not None


@pytest.mark.parametrize("target", ["http://localhost:30020/v2/", "HTTP://LOCALHOST:30020/v2/?a#"[:27]])
def test_an_absolute_target_of_the_same_host_is_no_problem(target: str) -> None:
    assert _problem(target) is None


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/v2/",
        "http://a:b@localhost:30020/v2/",
        "http://localhost/v2/",
        "http:///v2/",
        "ftp://localhost:30020/v2/",
        "localhost:30020",
        "v2/",
    ],
)
def test_a_target_that_names_another_host_than_its_field_is_refused(target: str) -> None:
    assert _problem(target) is not None


def test_an_absolute_target_without_a_host_field_is_refused() -> None:
    assert head_problem("GET", "http:///v2/", (1, 1), CIMultiDict()) is not None


@pytest.mark.parametrize("value", ["", "identity", "gzip, chunked", '"chunked"', "chunked, chunked"])
def test_transfer_codings_but_chunked_are_refused(value: str) -> None:
    assert _problem("/v2/", ("Transfer-Encoding", value)) is not None


def test_chunked_is_for_http_1_1_and_once() -> None:
    chunked = ("Transfer-Encoding", "Chunked")
    assert _problem("/v2/", chunked) is None
    assert _problem("/v2/", chunked, chunked) is not None
    assert _problem("/v2/", chunked, version=(1, 0)) is not None


@pytest.mark.parametrize(
    "name", ["Authorization", "range", "If-Range", "origin", "Sec-Fetch-Site", "User-Agent"]
)
def test_what_decides_something_may_be_there_once(name: str) -> None:
    assert _problem("/v2/", (name, "x")) is None
    assert _problem("/v2/", (name, "x"), (name.upper(), "x")) is not None
