"""The responses in a stream of bytes, read as strictly as RFC 9112 allows. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_HEAD = re.compile(
    rb"HTTP/1\.[01] ([1-9][0-9]{2}) [\t\x20-\x7e]*\r\n((?:[!-9;-~]+:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n"
)
_LENGTH = re.compile(rb"(?im)^content-length: *([0-9]+) *\r$")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding: *chunked *\r$")
_CHUNK = re.compile(rb"([0-9a-fA-F]+)\r\n")
_NO_BODY = (204, 304)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response's status, and its head and body as they came. ``whole``: the body is not cut short."""

    status: int
    head: bytes
    body: bytes
    whole: bool = True


class ResponseInvalid(Exception):
    """The stream is no sequence of responses: a head is wrong, or there are bytes that nobody announced."""


def responses(stream: bytes, methods: Sequence[bytes | None]) -> list[Response]:
    """The final responses to requests with these methods. Raises `ResponseInvalid`.

    They end with a 101: what follows is another protocol. A stream may end anywhere.
    """
    found: list[Response] = []
    place = 0
    while place < len(stream):
        head = _HEAD.match(stream, place)
        if head is None:
            if b"\r\n\r\n" not in stream[place:]:
                return found  # cut within a head
            raise ResponseInvalid(f"no head of a response: {stream[place : place + 120]!r}")
        status, place = int(head[1]), head.end()
        if status == 101:
            found.append(Response(status=status, head=head[0], body=stream[place:]))
            return found
        if status < 200:
            continue
        method = methods[len(found)] if len(found) < len(methods) else None
        start = place
        if not (status in _NO_BODY or _is_headless(method, stream, place)):
            place, whole = _body_end(head[2], stream, place)
        else:
            whole = True
        found.append(Response(status=status, head=head[0], body=stream[start:place], whole=whole))
    return found


def _is_headless(method: bytes | None, stream: bytes, place: int) -> bool:
    """Whether the response has no body because its request was a HEAD.

    A HEAD that was not understood is answered with a body, after which the connection ends.
    """
    return method == b"HEAD" and (place == len(stream) or stream.startswith(b"HTTP/1.", place))


def _body_end(fields: bytes, stream: bytes, place: int) -> tuple[int, bool]:
    lengths = _LENGTH.findall(fields)
    if _CHUNKED.search(fields):
        if lengths:
            raise ResponseInvalid("both Content-Length and Transfer-Encoding")
        return _chunked_end(stream, place)
    if not lengths:
        return len(stream), True  # until the connection ends
    if len(lengths) > 1:
        raise ResponseInvalid("two Content-Lengths")
    end = place + int(lengths[0])
    return min(end, len(stream)), end <= len(stream)


def _chunked_end(stream: bytes, place: int) -> tuple[int, bool]:
    while (head := _CHUNK.match(stream, place)) is not None:
        size = int(head[1], 16)
        place = head.end() + size + 2
        if size == 0:
            return place, True
    return len(stream), False
