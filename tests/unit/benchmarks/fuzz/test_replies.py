"""Responses, read strictly: what is none is found."""

import pytest

from benchmarks.fuzz.replies import ResponseInvalid, responses

_HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def _statuses(stream: bytes, *methods: bytes | None) -> list[int]:
    return [response.status for response in responses(stream, methods)]


def test_responses_in_a_row_are_told_apart() -> None:
    nothing = b"HTTP/1.1 304 Not Modified\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert _statuses(_HELLO + nothing + chunked + _HELLO, *[b"GET"] * 4) == [200, 304, 200, 200]


def test_a_head_request_has_no_body() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert _statuses(head + _HELLO, b"HEAD", b"GET") == [200, 200]


def test_bytes_that_nobody_announced_are_found() -> None:
    with pytest.raises(ResponseInvalid):
        responses(_HELLO + b"more\r\n\r\n", [b"GET"])
    with pytest.raises(ResponseInvalid):
        responses(b"HTTP/2.0 200 OK\r\n\r\n", [b"GET"])
    with pytest.raises(ResponseInvalid):
        responses(_HELLO.replace(b"\r\n\r\n", b"\r\nContent-Length: 4\r\n\r\n"), [b"GET"])


def test_a_body_that_is_cut_is_told() -> None:
    (response,) = responses(_HELLO[:-1], [b"GET"])
    assert not response.whole
    assert responses(_HELLO[:20], [b"GET"]) == []


def test_what_follows_an_upgrade_is_no_http() -> None:
    assert _statuses(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x82\x00", b"GET") == [101]
