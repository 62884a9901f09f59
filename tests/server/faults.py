"""Holders that serve true bytes by the rules, up to the fault that a test gave them: what, and where.

An `Impostor` is the sockets; a `Holder` here is what it serves and claims:
``Impostor(address, holder.serve, questioned=holder.claim)``.
"""

import fcntl
import re
import socket
import struct
import termios
import threading
from collections import defaultdict, deque
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from .agents import Node, digest_of, make_image
from .impostor import Asked, Behaviour, Impostor, claims, response
from .wire import reset

TRICKLE_S = 0.1  # between two bytes of a trickle
_PIECE_BYTES = 1 << 16
_RATED_PIECE_S = 0.01
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Kind(Enum):
    """What goes wrong with one response."""

    # Without a head.
    HANGS_UP = "hangs up"
    IS_SILENT = "is silent"
    # Behind the head and as many bytes of the body as `Fault.at` says.
    CLOSES = "closes"
    RESETS = "resets"
    STALLS = "stalls"
    TRICKLES = "trickles"  # ten bytes a second: it never stalls
    DRIPS = "drips"  # one byte a second
    VANISHES = "vanishes"  # with all its connections, and refuses new ones
    GARBLES = "garbles"  # one wrong byte there, all others right
    # The head says so; the body keeps to the head.
    SHORTER = "too short by one"
    LONGER = "too long by one"
    # Right for another request than the one for a part.
    WHOLE = "200 for a part"
    SHIFTED = "another part"
    PARTIAL = "half of the part"
    OTHER_TOTAL = "another total"
    NO_RANGE = "no Content-Range"
    # Another status.
    UNSATISFIED = "416"
    MISSING = "404"
    BUSY = "429"
    ERROR = "500"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One response's fault.

    ``at``: behind how many of its body bytes; negative ones count from the end; modulo the length.
    """

    kind: Kind
    at: int = 0

    def __str__(self) -> str:
        return f"{self.kind.value} at {self.at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    """What was asked for, and the way back."""

    impostor: Impostor
    connection: socket.socket
    head_only: bool
    content: bytes
    start: int
    stop: int
    partial: bool

    @property
    def body(self) -> bytes:
        return self.content[self.start : self.stop]

    def head(self, *, by: int = 0) -> bytes:
        """The right head, of a content that is longer ``by`` so many bytes."""
        length, total = self.stop - self.start + by, len(self.content) + by
        if not self.partial:
            return response(200, length=length)
        return _partial_head(self.start, self.start + length, total)


def _partial_head(start: int, stop: int, total: int) -> bytes:
    return response(206, length=stop - start, Content_Range=f"bytes {start}-{stop - 1}/{total}")


class Holder:
    """Contents, and the faults that requests for them meet, in order; once they are used up, none.

    ``bytes_per_s``: how fast each connection is, 0 as fast as it can be.
    """

    def __init__(self, *contents: bytes, bytes_per_s: int = 0) -> None:
        self._bytes_per_s = bytes_per_s
        self._contents: dict[str, bytes] = {}
        self._faults: dict[str, deque[Fault | None]] = {}
        self._afterwards: dict[str, Fault | None] = {}
        self._answers_from: dict[str, int] = {}
        self._sent: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()
        self.claim: Behaviour = claims(self._contents.__contains__)
        self.put(*contents)

    def put(
        self,
        *contents: bytes,
        faults: tuple[Fault | None, ...] = (),
        afterwards: Fault | None = None,
        answers_from: int = 0,
    ) -> None:
        """Have these from now on.

        ``faults``: None is no fault. ``afterwards``: the fault of each request behind those of ``faults``.
        ``answers_from``: requests that start before that byte are not answered at all, so that somebody else
        must give the first bytes.
        """
        for content in contents:
            digest = digest_of(content)
            self._faults[digest] = deque(faults)
            self._afterwards[digest] = afterwards
            self._answers_from[digest] = answers_from
            self._contents[digest] = content

    def sent_bytes(self, content: bytes) -> int:
        """How many body bytes of this content the kernel took from us, over all responses."""
        with self._lock:
            return self._sent[digest_of(content)]

    def serve(self, impostor: Impostor, connection: socket.socket, asked: Asked) -> None:
        """Answer one request."""
        digest = digest_in(asked)
        content = self._contents.get(digest)
        if content is None:
            connection.sendall(response(404))
            return
        reply = _asked_for(impostor, connection, asked, content)
        if reply.start < self._answers_from[digest]:
            impostor.closing.wait()
            return
        if reply.head_only:
            connection.sendall(reply.head())
            return
        with self._lock:
            faults = self._faults[digest]
            fault = faults.popleft() if faults else self._afterwards[digest]
        if fault is None:
            connection.sendall(reply.head())
            self._send(reply, digest, reply.body)
        else:
            self._fail(reply, digest, fault)

    def _send(self, reply: _Response, digest: str, body: bytes) -> None:
        piece_bytes = int(self._bytes_per_s * _RATED_PIECE_S) or _PIECE_BYTES
        view = memoryview(body)
        for place in range(0, len(body), piece_bytes):
            piece = view[place : place + piece_bytes]
            reply.connection.sendall(piece)
            with self._lock:
                self._sent[digest] += len(piece)
            if self._bytes_per_s and reply.impostor.closing.wait(len(piece) / self._bytes_per_s):
                return

    def _fail(self, reply: _Response, digest: str, fault: Fault) -> None:
        connection, body, total = reply.connection, reply.body, len(reply.content)
        at = fault.at % len(body)
        match fault.kind:
            case Kind.HANGS_UP:
                pass
            case Kind.IS_SILENT:
                reply.impostor.closing.wait()
            case Kind.CLOSES | Kind.RESETS | Kind.STALLS | Kind.TRICKLES | Kind.DRIPS | Kind.VANISHES:
                connection.sendall(reply.head())
                self._send(reply, digest, body[:at])
                self._break_off(reply, digest, fault.kind, body[at:])
            case Kind.GARBLES:
                wrong = body[:at] + bytes((body[at] ^ 1,)) + body[at + 1 :]
                connection.sendall(reply.head())
                self._send(reply, digest, wrong)
            case Kind.SHORTER:
                connection.sendall(reply.head(by=-1) + body[:-1])
            case Kind.LONGER:
                connection.sendall(reply.head(by=1) + body + b"\0")
            case Kind.WHOLE:
                connection.sendall(response(200, reply.content))
            case Kind.SHIFTED:
                start = reply.start + 1 if reply.start + 1 < reply.stop else 0
                connection.sendall(
                    _partial_head(start, reply.stop, total) + reply.content[start : reply.stop]
                )
            case Kind.PARTIAL:
                stop = reply.start + (len(body) + 1) // 2
                connection.sendall(
                    _partial_head(reply.start, stop, total) + reply.content[reply.start : stop]
                )
            case Kind.OTHER_TOTAL:
                connection.sendall(_partial_head(reply.start, reply.stop, total + 1) + body)
            case Kind.NO_RANGE:
                connection.sendall(response(206, body))
            case Kind.UNSATISFIED:
                connection.sendall(response(416, Content_Range=f"bytes */{reply.start}"))
            case Kind.MISSING:
                connection.sendall(response(404))
            case Kind.BUSY:
                connection.sendall(response(429, Retry_After="1", Shorthaul_Wait_Ms="50"))
            case Kind.ERROR:
                connection.sendall(response(500))
            case _:
                assert_never(fault.kind)

    def _break_off(self, reply: _Response, digest: str, kind: Kind, rest: bytes) -> None:
        impostor, connection = reply.impostor, reply.connection
        match kind:
            case Kind.RESETS:
                while _unacknowledged_bytes(connection) and not impostor.closing.wait(0.005):
                    pass  # an RST would take back what the other side has not got yet
                reset(connection)
            case Kind.STALLS:
                impostor.closing.wait()
            case Kind.VANISHES:
                impostor.vanish()
            case Kind.TRICKLES | Kind.DRIPS:
                pause_s = TRICKLE_S if kind is Kind.TRICKLES else 1.0
                for byte in rest:
                    self._send(reply, digest, bytes((byte,)))
                    if impostor.closing.wait(pause_s):
                        return
            case _:
                pass  # our caller closes


def digest_in(asked: Asked) -> str:
    """The digest that a request is about."""
    return asked.path.partition("?")[0].rpartition("/")[2]


def asked_for(impostor: Impostor, content: bytes, method: str = "GET") -> list[Asked]:
    """The requests for this content that the impostor received."""
    digest = digest_of(content)
    return [asked for asked in impostor.fetches if asked.method == method and digest_in(asked) == digest]


def first_bytes_asked(impostor: Impostor, content: bytes) -> list[int]:
    """From which byte on each of these requests wanted the content."""
    return [_range_in(asked, len(content))[0] for asked in asked_for(impostor, content)]


def tell_sizes(node: Node, archive: Node, *layers: bytes, note: str = "") -> None:
    """Have the node see a manifest of these layers, which the archive gets, before holders of them stand."""
    image = make_image(*layers, note=note)
    archive.put(image.manifest)
    assert node.ask(f"/v2/library/app/manifests/{image.digest}").body == image.manifest
    # It looks for all of them now: whoever asks for one waits for that, and would find nobody.
    assert node.blob(layers[-1]).status == 404


def _asked_for(impostor: Impostor, connection: socket.socket, asked: Asked, content: bytes) -> _Response:
    start, stop = _range_in(asked, len(content))
    return _Response(
        impostor=impostor,
        connection=connection,
        head_only=asked.method == "HEAD",
        content=content,
        start=start,
        stop=stop,
        partial="Range" in asked.headers,
    )


def _range_in(asked: Asked, size_bytes: int) -> tuple[int, int]:
    found = _RANGE.fullmatch(asked.headers.get("Range", "bytes=0-"))
    assert found, f"not a range that agents ask for: {asked.headers['Range']}"
    last = int(found[2]) if found[2] else size_bytes - 1
    return int(found[1]), min(last + 1, size_bytes)


def _unacknowledged_bytes(connection: socket.socket) -> int:
    packed = fcntl.ioctl(connection, termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", packed)[0])
