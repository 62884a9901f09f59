"""Heads as bytes: what is sent, what is understood, what is refused, and where a body ends."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.peering.heads import HEAD_MAX_BYTES, HeadReader, Malformed, ResponseHead, request_head

BODY = b"0123456789"


def read(*pieces: bytes, method: str = "GET") -> ResponseHead:
    """The head in these pieces, which the last one completes."""
    reader = HeadReader(method)
    for piece in pieces[:-1]:
        assert reader.feed(piece) is None
    head = reader.feed(pieces[-1])
    assert head is not None
    return head


def response(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1")


def test_request_is_its_line_its_headers_and_an_empty_line() -> None:
    assert request_head("GET", "/v2/a?ns=b", {"Host": "n1:1", "Range": "bytes=5-"}) == (
        b"GET /v2/a?ns=b HTTP/1.1\r\nHost: n1:1\r\nRange: bytes=5-\r\n\r\n"
    )


@pytest.mark.parametrize("text", ["a\r\nX: y", "a\nb", "a\0", "ä"])
def test_request_with_text_that_could_end_a_line_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unprintable"):
        request_head("GET", "/", {"Range": text})
    with pytest.raises(ValueError, match="unprintable"):
        request_head("GET", f"/{text}", {})


def test_head_has_its_status_and_its_headers_in_lower_case() -> None:
    head = read(response("Content-Length: 10", "X-Some:\t Thing, other \t", "Empty:"))
    assert head.status == 200
    assert head.headers == {"content-length": "10", "x-some": "Thing, other", "empty": ""}


def test_body_that_came_with_the_head_is_its_first_part() -> None:
    head = read(response("Content-Length: 10") + BODY[:4])
    assert (head.first, head.ended, head.keep_alive) == (BODY[:4], False, True)
    head = read(response("Content-Length: 10") + BODY)
    assert (head.first, head.ended, head.keep_alive) == (BODY, True, True)


@given(st.data())
def test_head_is_the_same_however_it_is_cut(data: st.DataObject) -> None:
    whole = response("A: b", "Content-Length: 10")
    cut = data.draw(st.integers(min_value=1, max_value=len(whole) - 1))
    assert read(whole[:cut], whole[cut:] + BODY) == read(whole + BODY)


def test_bytes_behind_a_body_are_no_part_of_it_and_end_the_connection() -> None:
    head = read(response("Content-Length: 10") + BODY + b"more")
    assert (head.first, head.ended, head.keep_alive) == (BODY, True, False)


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "204 None"), ("GET", "304 Same")])
def test_head_without_a_body_has_none_whatever_its_length(method: str, status: str) -> None:
    head = read(response("Content-Length: 999", status=f"HTTP/1.1 {status}"), method=method)
    assert (head.first, head.ended, head.keep_alive) == (b"", True, True)


@pytest.mark.parametrize(
    "answer",
    [
        response("Content-Length: 10", "Connection: close"),
        response("Content-Length: 10", "Connection: keep-alive, Close"),
        response("Content-Length: 10", status="HTTP/1.0 200 OK"),
        response("Transfer-Encoding: chunked"),
        response("Transfer-Encoding: chunked", "Content-Length: 10"),
        response(),
    ],
    ids=["close", "close among others", "HTTP/1.0", "chunked", "chunked and a length", "no length"],
)
def test_connection_whose_body_has_no_sure_end_or_that_closes_is_not_to_be_kept(answer: bytes) -> None:
    assert not read(answer + BODY).keep_alive


@pytest.mark.parametrize("encoding", ["chunked", "gzip"])
def test_encoded_body_is_not_read_as_if_it_were_not(encoding: str) -> None:
    head = read(response(f"Transfer-Encoding: {encoding}", "Content-Length: 3") + b"abc")
    assert (head.ended, head.headers["transfer-encoding"]) == (False, encoding)


def test_interim_heads_are_passed_over() -> None:
    interim = response(status="HTTP/1.1 100 Continue") + response("Link: <x>", status="HTTP/1.1 103 Early")
    assert read(interim + response("Content-Length: 10") + BODY).first == BODY
    assert read(interim, response("Content-Length: 10")).status == 200


def test_interim_heads_without_an_end_are_malformed() -> None:
    with pytest.raises(Malformed):
        HeadReader("GET").feed(response(status="HTTP/1.1 100 Continue") * 100)


@pytest.mark.parametrize(
    "received",
    [
        b"SSH-2.0-OpenSSH_9.7\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        response(status="HTTP/1.1 101 Switching Protocols"),
        response("Content-Length: 5, 6"),
        response("Content-Length: -5"),
        response("Content-Length: +5"),
        response("Content-Length: 0x5"),
        response("Content-Length: \xb2"),
        response("Content-Length: " + "9" * 20),
        response("Content-Length:"),
        response("Content-Length: 5", "content-length: 5"),
        response("No colon"),
        response(": no name"),
        response("Space : before the colon"),
        response("A: b", " folded"),
        response("A: b\0c"),
        response("A: b\rc"),
        response("A: b\nContent-Length: 5"),
        bytes(range(256)),
    ],
)
def test_what_agents_do_not_send_is_malformed(received: bytes) -> None:
    with pytest.raises(Malformed):
        HeadReader("GET").feed(received)


@pytest.mark.parametrize(
    "piece", [b"HTTP/1.1 200 OK\r\nx: " + b"y" * 4096, b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 999]
)
def test_head_without_an_end_is_malformed_and_does_not_grow(piece: bytes) -> None:
    reader, fed = HeadReader("GET"), len(piece)
    assert reader.feed(piece) is None
    while fed + len(piece) < HEAD_MAX_BYTES:
        assert reader.feed(piece[17:]) is None
        fed += len(piece) - 17
    with pytest.raises(Malformed):
        reader.feed(piece[17:] * 2)


@given(st.binary(max_size=200))
def test_noise_is_malformed_or_incomplete_and_never_another_error(noise: bytes) -> None:
    for prefix in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: "):
        with suppress(Malformed):
            HeadReader("GET").feed(prefix + noise + b"\r\n\r\n")
