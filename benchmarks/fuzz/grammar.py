"""Makes mutated requests: the same for the same number. Pure.

A case begins as requests that a client could send. Then parts of them are replaced by what parsers are known
to disagree about, and then bytes of the whole are changed. What a case is depends on its number alone, so a
failure is repeated with ``--only NUMBER``.
"""

import itertools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

from benchmarks.fuzz import words
from benchmarks.fuzz.words import Field

Prove = Callable[[str, str, Sequence[Field]], Sequence[Field]]
"""Headers that admit a request, by its method, target and other headers."""


class Ending(Enum):
    """What the client does after it has sent everything."""

    WAIT = "waits"  # until the server closes
    HALF_CLOSE = "half-closes"
    CLOSE = "closes"
    RESET = "resets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one connection sends. ``parts``: are written one after the other."""

    number: int
    parts: tuple[bytes, ...]
    ending: Ending

    @property
    def stream(self) -> bytes:
        """All that is sent."""
        return b"".join(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What is asked for. ``channels``: paths of WebSockets. ``prove``: admits four of five requests."""

    targets: tuple[str, ...]
    channels: tuple[str, ...] = ()
    prove: Prove = lambda method, target, fields: ()


def make_case(number: int, corpus: Corpus) -> Case:
    """The case of this number."""
    random = Random(number)
    channel = bool(corpus.channels) and random.random() < 0.4
    if channel:
        stream = _handshake(random, corpus) + _frames(random)
    else:
        stream = b"".join(_request(random, corpus) for _ in range(random.choice((1, 1, 1, 1, 1, 2, 3))))
    if random.random() < 0.2:
        stream = _garbled(random, stream)
    if random.random() < 0.1:
        stream = stream[: random.randrange(len(stream) + 1)]
    waits = Ending.CLOSE if channel else Ending.WAIT  # a standing connection stays while its peer does
    endings = (Ending.HALF_CLOSE,) * 14 + (waits, Ending.CLOSE, Ending.RESET, Ending.RESET)
    return Case(number=number, parts=_parts(random, stream), ending=random.choice(endings))


def _parts(random: Random, stream: bytes) -> tuple[bytes, ...]:
    cuts = sorted(random.randrange(len(stream) + 1) for _ in range(random.choice((0, 0, 0, 1, 2, 6))))
    edges = [0, *cuts, len(stream)]
    return tuple(stream[a:b] for a, b in itertools.pairwise(edges) if a < b)


def _request(random: Random, corpus: Corpus) -> bytes:
    method, target, version = (
        random.choice(words.METHODS),
        random.choice(corpus.targets).encode(),
        b"HTTP/1.1",
    )
    fields: list[Field] = [(b"Host", b"localhost")]
    body = b""
    for _ in range(random.choice((0, 0, 0, 1, 1, 1, 2, 4))):
        match random.randrange(9):
            case 0:
                method = random.choice(words.ODD_METHODS)
            case 1:
                version = random.choice(words.VERSIONS)
            case 2:
                target = random.choice(words.TARGETS)
            case 3:
                fields[0] = (b"Host", random.choice(words.HOSTS))
            case 4:
                fields.append((b"Host", random.choice((b"localhost", *words.HOSTS))))
            case 5:
                fields.insert(random.randrange(len(fields) + 1), random.choice(words.FRAMING))
                body = random.choice(words.BODIES)
            case 6:
                fields.insert(random.randrange(len(fields) + 1), random.choice(words.FIELDS))
            case 7:
                fields += [random.choice(fields)] * random.choice((1, 1, 200))
            case _:
                del fields[random.randrange(len(fields))]
                fields = fields or [(b"X", b"y")]
    if random.random() < 0.8:
        fields += corpus.prove(method.decode("latin-1"), target.decode("latin-1"), fields)
    end = random.choice((b"\r\n",) * 30 + (b"\n", b"\r", b"\r\n "))
    blank = random.choice((b" ",) * 30 + (b"  ", b"\t", b"\x0b"))
    lines = [blank.join((method, target, version)), *(name + b": " + value for name, value in fields)]
    return end.join(lines) + b"\r\n\r\n" + body


def _handshake(random: Random, corpus: Corpus) -> bytes:
    target = random.choice(corpus.channels)
    fields = [
        (b"Host", b"localhost"),
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"User-Agent", b"shorthaul"),
    ]
    if random.random() < 0.15:
        fields[random.randrange(len(fields))] = random.choice((*words.FRAMING, *words.FIELDS))
    fields += corpus.prove("GET", target, fields)
    head = [b"GET %s HTTP/1.1" % target.encode(), *(name + b": " + value for name, value in fields)]
    return b"\r\n".join(head) + b"\r\n\r\n"


def _frames(random: Random) -> bytes:
    return b"".join(_frame(random) for _ in range(random.choice((0, 1, 2, 4, 40))))


def _frame(random: Random) -> bytes:
    payload = (
        random.choice(words.QUESTIONS)
        if random.random() < 0.7
        else random.randbytes(random.choice((0, 1, 125, 126, 200)))
    )
    opcode = random.choice((2, 2, 2, 2, 0, 1, 8, 9, 10, 3, 11, 15))
    reserved = random.choice((0,) * 12 + (0x40, 0x20, 0x10, 0x70))
    first = opcode | reserved | (0x80 if random.random() < 0.8 else 0)
    masked = 0x80 if random.random() < 0.92 else 0
    said = (
        len(payload)
        if random.random() < 0.9
        else random.choice((0, 125, 126, 65535, 65536, (1 << 20) + 1, 1 << 31, (1 << 63) - 1, (1 << 64) - 1))
    )
    if said < 126:
        head = struct.pack(">BB", first, masked | said)
    elif said < 65536:
        head = struct.pack(">BBH", first, masked | 126, said)
    else:
        head = struct.pack(">BBQ", first, masked | 127, said)
    mask = random.randbytes(4)
    text = bytes(byte ^ mask[place & 3] for place, byte in enumerate(payload)) if masked else payload
    return head + (mask if masked else b"") + text


def _garbled(random: Random, stream: bytes) -> bytes:
    data = bytearray(stream)
    for _ in range(random.choice((1, 1, 2, 5))):
        place = random.randrange(len(data) + 1)
        match random.randrange(5):
            case 0:
                data[place : place + 1] = bytes((random.randrange(256),))
            case 1:
                data[place:place] = random.choice(words.BYTES)
            case 2:
                del data[place : place + random.choice((1, 1, 2, 20))]
            case 3:
                data[place:place] = data[place : place + random.choice((1, 10, 100))]
            case _:
                other = random.randrange(len(data) + 1)
                data[place : place + 4] = data[other : other + 4]
    return bytes(data)


def make_lines(number: int, node: str) -> Case:
    """A case of JSON lines, as they go over the hand-over's socket. ``node``: whom to name."""
    random = Random(number)
    lines = []
    if random.random() < 0.5:
        lines.append(b'{"say": "take", "node": "%s", "agent": "0.1.0"}' % node.encode())
    for _ in range(random.choice((0, 1, 2, 5))):
        keys = random.sample(
            ("node", "agent", "places", "cookies", "every", "ages", "programs", "kind", "number"),
            random.randrange(4),
        )
        more = b"".join(b', "%s": %s' % (key.encode(), random.choice(words.VALUES)) for key in keys)
        lines.append(b'{"say": "%s"%s}' % (random.choice(words.SAYINGS).encode(), more))
    stream = b"\n".join(lines) + random.choice((b"\n", b"\n", b"", b"\r\n", b"\0\n"))
    if random.random() < 0.4:
        stream = _garbled(random, stream)
    endings = (Ending.HALF_CLOSE,) * 8 + (Ending.CLOSE, Ending.RESET)
    return Case(number=number, parts=_parts(random, stream), ending=random.choice(endings))
