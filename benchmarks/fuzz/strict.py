"""How many requests a stream of bytes is, by RFC 9112. The oracle of the fuzz run. Pure.

It allows every leniency that the RFC allows a server (single LF, runs of blanks in the request line, empty
lines before it), and none in what frames a message: Content-Length, Transfer-Encoding, chunks. The first
message that must be refused counts once, for its error. What comes behind it is no request.
"""

import re
from dataclasses import dataclass

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE = re.compile(rb"\r?\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
_SPACES = re.compile(rb"[ \t\x0b\x0c\r]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One request. ``method``: None if it must be refused. ``whole``: all of it is there."""

    method: bytes | None
    whole: bool = True


def messages(stream: bytes) -> list[Message]:
    """The requests of a stream, in order. After one that must be refused, or is not whole, there are none."""
    found: list[Message] = []
    place = 0
    while True:
        while stream[place : place + 2] == b"\r\n" or stream[place : place + 1] == b"\n":
            place += 2 if stream[place : place + 1] == b"\r" else 1
        if place >= len(stream):
            return found
        message, place = _message(stream, place)
        found.append(message)
        if message.method is None or not message.whole or message.method == b"CONNECT":
            return found


def _message(stream: bytes, place: int) -> tuple[Message, int]:
    lines: list[bytes] = []
    while (end := _LINE.search(stream, place)) is not None:
        line = stream[place : end.start()]
        place = end.end()
        if not line:
            return _with_body(lines, stream, place)
        lines.append(line)
    words = _SPACES.split((lines or [stream[place:]])[0])
    return Message(method=words[0] if _TOKEN.fullmatch(words[0]) else None, whole=False), len(stream)


def _with_body(lines: list[bytes], stream: bytes, place: int) -> tuple[Message, int]:
    refused = Message(method=None), len(stream)
    words = _SPACES.split(lines[0].strip(b" \t\r"))
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]):
        return refused
    fields = _fields(lines[1:])
    if fields is None:
        return refused
    method = words[0]
    lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
    if codings:
        if lengths or words[2] == b"HTTP/1.0" or _codings(codings)[-1] != b"chunked":
            return refused
        return _chunks(method, stream, place)
    if not lengths:
        return Message(method=method), place
    values = {one.strip(b" \t") for value in lengths for one in value.split(b",")}
    (length,) = values if len(values) == 1 else (b"",)
    if not re.fullmatch(rb"[0-9]+", length):
        return refused
    end = place + int(length)
    return Message(method=method, whole=end <= len(stream)), min(end, len(stream))


def _codings(values: list[bytes]) -> list[bytes]:
    return [one.strip(b" \t").lower() for value in values for one in value.split(b",")]


def _fields(lines: list[bytes]) -> dict[bytes, list[bytes]] | None:
    """The fields by their names in lower case. None for what is no field, or a folded one."""
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or b"\0" in value or b"\r" in value:
            return None
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return fields


def _chunks(method: bytes, stream: bytes, place: int) -> tuple[Message, int]:
    unfinished = Message(method=method, whole=False), len(stream)
    while True:
        head = _CHUNK.match(stream, place)
        if head is None:
            return unfinished  # or wrong: either way, nothing behind it is a request
        size = int(head[1], 16)
        place = head.end()
        if size == 0:
            return _trailers(method, stream, place)
        place += size
        end = _LINE.match(stream, place)
        if end is None:
            return unfinished
        place = end.end()


def _trailers(method: bytes, stream: bytes, place: int) -> tuple[Message, int]:
    while (end := _LINE.search(stream, place)) is not None:
        line, place = stream[place : end.start()], end.end()
        if not line:
            return Message(method=method), place
    return Message(method=method, whole=False), len(stream)
