"""How many requests a stream is: the oracle of the fuzz run, held against examples of RFC 9112."""

import pytest

from benchmarks.fuzz.strict import messages

_GET = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
_POST = b"POST /v2/ HTTP/1.1\r\nHost: localhost\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"


def _methods(stream: bytes) -> list[bytes | None]:
    return [message.method for message in messages(stream)]


def test_requests_in_a_row_are_counted() -> None:
    assert _methods(_GET * 3) == [b"GET"] * 3
    assert _methods(b"\r\n\r\n" + _GET) == [b"GET"]
    assert _methods(b"") == []


def test_bodies_are_no_requests() -> None:
    length = _POST + b"Content-Length: %d\r\n\r\n" % len(_GET)
    assert _methods(length + _GET + _GET) == [b"POST", b"GET"]
    assert _methods(_CHUNKED + b"%x\r\n" % len(_GET) + _GET + b"\r\n0\r\n\r\n" + _GET) == [b"POST", b"GET"]
    assert _methods(_CHUNKED + b"0\r\nA: b\r\n\r\n" + _GET) == [b"POST", b"GET"]


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 0\r\nContent-Length: 5\r\n",
        b"Content-Length: +0\r\n",
        b"Content-Length: 0x0\r\n",
        b"Content-Length: \r\n",
        b"Transfer-Encoding: \r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X: a\r\n folded: b\r\n",
        b"no colon\r\n",
    ],
)
def test_nothing_follows_a_message_whose_end_is_in_doubt(fields: bytes) -> None:
    assert _methods(_POST + fields + b"\r\n" + _GET * 2) == [None]


def test_nothing_follows_what_is_not_whole() -> None:
    for stream in (
        _GET[:10],
        _POST + b"Content-Length: 9\r\n\r\nhello",
        _CHUNKED + b"5\r\nhel",
        _CHUNKED + b"zz\r\n\r\n",
    ):
        (message,) = messages(stream)
        assert not message.whole


def test_a_coding_in_http_1_0_is_refused() -> None:
    assert _methods(_CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n" + _GET) == [None]


def test_nothing_follows_a_tunnel() -> None:
    assert _methods(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" + _GET) == [b"CONNECT"]
