"""The floods: what one attacker sends, as bytes, on how many connections."""

import base64
import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MIB = 1 << 20
_EMPTY, _PING, _BINARY, _FINAL, _COMPRESSED, _MASKED = 0x00, 0x09, 0x02, 0x80, 0x40, 0x80

Head = Callable[[str, str, dict[str, str]], bytes]
"""Makes a request's head of a method, a path and further headers, with the attacker's credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """A flood of one kind.

    ``listener``: the agent's. ``member``: only a member's key gets so far; a stranger is refused before.
    ``first``: what a connection sends once. ``then``: what it sends again and again. ``reads``: whether it
    reads what comes. ``every_s``: it sends again after so long; 0: at once. ``lasts``: false: the connection
    is closed as soon as ``first`` was sent, and opened again.
    """

    name: str
    connections: int
    listener: str = "peer"
    member: bool = False
    first: Callable[[Head], bytes] = lambda _head: b""
    then: Callable[[Head], bytes] = lambda _head: b""
    reads: bool = True
    every_s: float = 0.0
    lasts: bool = True


def frame(payload: bytes, *, opcode: int = _BINARY, flags: int = _FINAL) -> bytes:
    """A client's WebSocket frame. A mask of zeros is a valid one."""
    length = len(payload)
    if length < 126:
        head = struct.pack(">BB", flags | opcode, _MASKED | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", flags | opcode, _MASKED | 126, length)
    else:
        head = struct.pack(">BBQ", flags | opcode, _MASKED | 127, length)
    return head + bytes(4) + payload


def question(number: int = 1) -> bytes:
    """A full question: 256 digests and 256 tags."""
    digests = [f"sha256:{os.urandom(32).hex()}" for _ in range(256)]
    tags = [["registry.example.com", f"group/project/service-{each}", f"v1.{each}"] for each in range(256)]
    return json.dumps({"number": number, "digests": digests, "tags": tags}, separators=(",", ":")).encode()


def _report() -> bytes:
    nodes = [[f"node-{number}", 500] for number in range(256)]
    return json.dumps({"node": "m", "zones": [], "nodes": nodes, "load": 1}, separators=(",", ":")).encode()


def _upgrade(path: str) -> Callable[[Head], bytes]:
    def head_of(head: Head) -> bytes:
        key = base64.b64encode(os.urandom(16)).decode()
        fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        return head("GET", path, {**fields, "Sec-WebSocket-Key": key})

    return head_of


def _sent(data: bytes) -> Callable[[Head], bytes]:
    return lambda _head: data


def _asked(path: str, many: int = 1, fields: Mapping[str, str] | None = None) -> Callable[[Head], bytes]:
    return lambda head: b"".join(head("GET", path, dict(fields or {})) for _ in range(many))


_HOLDERS, _LATENCY, _REACH = (f"/shorthaul/v1/{name}" for name in ("holders", "latency", "reach"))
_BLOB = f"/v2/bench/blobs/sha256:{'0' * 64}"
_BAD = "Shorthaul-HMAC-SHA256 key=00000000, from=a, to=b, time=1, nonce=x, signature=AAAA"

FLOODS: tuple[Flood, ...] = (
    # What a stranger can do.
    Flood(name="10,000 idle connections", connections=10_000),
    Flood(name="connects, nothing sent", connections=64, lasts=False),
    Flood(
        name="slow heads",
        connections=1000,
        first=_sent(b"GET /v2/ HTTP/1.1\r\nHost: "),
        then=_sent(b"x"),
        every_s=1.0,
    ),
    Flood(name="requests without credentials", connections=10, then=_asked(_BLOB)),
    Flood(name="the same, a connection each", connections=10, first=_asked(_BLOB), lasts=False),
    Flood(
        name="requests with a bad signature",
        connections=10,
        then=_asked(_BLOB, fields={"Authorization": _BAD}),
    ),
    Flood(
        name="big heads",
        connections=10,
        then=_asked(_BLOB, fields={f"X-{n}": "x" * 8000 for n in range(100)}),
    ),
    Flood(name="thousands of requests at once", connections=4, then=_asked(_BLOB, 1000)),
    Flood(name="the same, nothing read", connections=50, then=_asked(_BLOB, 1000), reads=False),
    Flood(name="WebSocket handshakes", connections=10, first=_upgrade(_HOLDERS), lasts=False),
    Flood(
        name="chunked bodies of single bytes",
        connections=10,
        first=lambda head: head("GET", _BLOB, {"Transfer-Encoding": "chunked"}),
        then=_sent(b"1\r\nx\r\n" * 10_000),
    ),
    Flood(
        name="NodePort: requests without credentials", connections=10, listener="nodeport", then=_asked(_BLOB)
    ),
    Flood(name="NodePort: 10,000 idle connections", connections=10_000, listener="nodeport"),
    # What takes a member's key.
    Flood(
        name="full questions, 10 connections",
        member=True,
        connections=10,
        first=_upgrade(_HOLDERS),
        then=lambda _: frame(question()),
    ),
    Flood(
        name="full questions, 50 connections",
        member=True,
        connections=50,
        first=_upgrade(_HOLDERS),
        then=lambda _: frame(question()),
    ),
    Flood(
        name="small questions",
        member=True,
        connections=10,
        first=_upgrade(_HOLDERS),
        then=_sent(frame(b'{"number":1}') * 100),
    ),
    Flood(
        name="full questions, no reply read",
        member=True,
        connections=50,
        first=_upgrade(_HOLDERS),
        then=lambda _: frame(question()),
        reads=False,
    ),
    Flood(
        name="empty continuation frames",
        member=True,
        connections=1,
        first=lambda head: _upgrade(_HOLDERS)(head) + frame(b"x", flags=0),
        then=_sent(frame(b"", opcode=_EMPTY, flags=0) * 10_000),
    ),
    Flood(
        name="pings",
        member=True,
        connections=10,
        first=_upgrade(_HOLDERS),
        then=_sent(frame(b"", opcode=_PING) * 1000),
    ),
    Flood(
        name="empty messages",
        member=True,
        connections=10,
        first=_upgrade(_LATENCY),
        then=_sent(frame(b"") * 1000),
    ),
    Flood(
        name="400 unfinished messages of 1 MiB",
        member=True,
        connections=400,
        first=lambda head: _upgrade(_HOLDERS)(head) + frame(b" " * MIB)[: MIB - 100],
    ),
    Flood(
        name="the same, in fragments",
        member=True,
        connections=400,
        first=lambda head: (
            _upgrade(_HOLDERS)(head)
            + frame(b" " * 60_000, flags=0)
            + frame(b" " * 60_000, opcode=_EMPTY, flags=0) * 16
        ),
    ),
    Flood(
        name="compressed frames",
        member=True,
        connections=10,
        first=_upgrade(_HOLDERS),
        then=_sent(frame(b"x" * 1000, flags=_FINAL | _COMPRESSED) * 10),
    ),
    Flood(
        name="reports", member=True, connections=10, first=_upgrade(_LATENCY), then=lambda _: frame(_report())
    ),
    Flood(name="questions of reach", member=True, connections=10, then=_asked(_REACH)),
    Flood(name="requests for content", member=True, connections=10, then=_asked(_BLOB)),
    Flood(name="slow readers", member=True, connections=200, first=_asked("LARGE"), reads=False),
)
