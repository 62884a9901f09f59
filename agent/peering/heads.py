"""The heads of requests to peers and of their responses, as bytes. Pure.

This reads the HTTP/1.1 that agents speak and refuses everything else, because agents get answers from other
agents only. A general parser did more work for each head than the rest of a fetch (docs/decisions/0022).
Sources: RFC 9112, sections 4 to 6 and 9.3; RFC 9110, section 5.5.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

HEAD_MAX_BYTES = 32 * 1024
_INFORMATIONAL_MAX = 16  # 1xx heads before the final one; agents send none
_END = b"\r\n\r\n"
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")  # token ":" text


class Malformed(Exception):
    """The answer is not HTTP, or its head is too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """A response's status and headers (names in lower case), and the part of the body that came with them.

    ``first``: that part. ``ended``: it is the whole body. ``keep_alive``: the connection can serve another
    request once the body was read.
    """

    status: int
    headers: Mapping[str, str]
    first: bytes
    keep_alive: bool
    ended: bool


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request without a body. Raises ValueError for text that could end a line."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise ValueError("a request with unprintable text")
    return "\r\n".join([*lines, "", ""]).encode()


class HeadReader:
    """Reads the head of the response to one request. ``method``: the request's."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._received = b""
        self._informational = 0

    def feed(self, received: bytes) -> ResponseHead | None:
        """The head, once these bytes complete it. Raises `Malformed`."""
        self._received += received
        while (stop := self._received.find(_END, 0, HEAD_MAX_BYTES)) >= 0:
            head, rest = self._received[:stop], self._received[stop + len(_END) :]
            version, status, headers = _parse(head)
            if status >= 200:
                return _framed(self._method, version, status, headers, rest)
            self._informational += 1
            if status == 101 or self._informational > _INFORMATIONAL_MAX:
                raise Malformed("a switch of protocols" if status == 101 else "no end of 1xx heads")
            self._received = rest
        if len(self._received) >= HEAD_MAX_BYTES:
            raise Malformed(f"a head of more than {HEAD_MAX_BYTES} bytes")
        if not b"HTTP/1.".startswith(self._received[:7]):
            raise Malformed("not HTTP/1")  # do not wait for the end of something else
        return None


def _parse(head: bytes) -> tuple[bytes, int, dict[str, str]]:
    """The minor version, the status and the headers of a head. Raises `Malformed`."""
    first, *lines = head.split(b"\r\n")
    status_line = _STATUS_LINE.fullmatch(first)
    if status_line is None:
        raise Malformed("not a status line of HTTP/1")
    headers: dict[str, str] = {}
    for line in lines:
        field = _FIELD_LINE.fullmatch(line)
        if field is None:
            raise Malformed("not a line of a head")
        name, value = field[1].decode().lower(), field[2].decode("latin-1").strip(" \t")
        if name == "content-length" and name in headers:
            raise Malformed("more than one Content-Length")
        headers[name] = value
    return status_line[1], int(status_line[2]), headers


def _framed(method: str, version: bytes, status: int, headers: dict[str, str], rest: bytes) -> ResponseHead:
    """Where the body ends (RFC 9112, 6.3), and whether the connection stays good."""
    length = _length(method, status, headers)
    closes = version == b"0" or "close" in headers.get("connection", "").lower()
    return ResponseHead(
        status=status,
        headers=headers,
        first=rest if length is None else rest[:length],
        keep_alive=length is not None and not closes and len(rest) <= length,
        ended=length is not None and len(rest) >= length,
    )


def _length(method: str, status: int, headers: dict[str, str]) -> int | None:
    """How many bytes of body follow the head. None: as many as come. Raises `Malformed`."""
    text = headers.get("content-length")
    if text is not None and not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise Malformed("not a Content-Length")
    if method == "HEAD" or status in (204, 304):
        return 0
    if "transfer-encoding" in headers or text is None:
        return None  # agents send neither: the connection is of no use afterwards
    return int(text)
