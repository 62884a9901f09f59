"""The questions between agents, and the replies: messages on ``/shorthaul/v1/holders`` of the peer listener.

A message is JSON. A question has many digests and tags, and a number that the reply repeats. Ages are sent as
durations, because the clocks of two nodes may differ. A reply names a digest by its position in the question,
so that its length grows only with the number of hits.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from agent.config.values import parse_name
from agent.content.offer import KnownTag
from agent.documents.cluster import FiguresEntry
from agent.documents.codec import DocumentInvalid, decode, to_plain
from agent.holders.claimwire import ClaimCall, ClaimReply, decode_call, encode_call
from agent.holders.claimwire import decode_reply as decode_claim_reply
from agent.holders.claimwire import encode_reply as encode_claim_reply
from agent.oci.digest import Digest, parse_digest
from agent.oci.errors import OciError, RequestInvalid
from agent.oci.manifest import Descriptor
from agent.oci.reference import Named, parse_repository, parse_tag
from agent.oci.registry import parse_registry
from agent.peering.channel import Codec, MessageInvalid
from topology.labels import clean_value
from topology.placement import NodeName

PATH = "/shorthaul/v1/holders"
DIGESTS_MAX = 256  # an image has at most 127 layers
QUESTION_MAX_BYTES = 256 * 1024  # 256 digests and 256 names of the greatest length take 200 kB
AT_ONCE = 32  # digests and tags that are looked at in one go: a fraction of a millisecond
REPLY_MAX_BYTES = 1 << 20
_WORDS_MAX = 120  # characters of a text in a peer's figures
_TIERS_MAX = 16  # in a peer's figures, which are kept while a page is open; this release has five


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Asks a peer which of these digests it has, and which of these tags it knows.

    ``claims``: what it is told and asked as an arbiter of claims. Such a question may be answered late, and
    is about nothing else. ``figures``: what it has to tell about itself is asked for, too.
    """

    digests: tuple[Digest, ...] = ()
    tags: tuple[Named, ...] = ()
    claims: ClaimCall | None = None
    figures: bool = False

    def parts(self) -> "Iterator[Question]":
        """The same as several questions that take little time each."""
        tags = tuple(dict.fromkeys(self.tags))
        for start in range(0, max(len(self.digests), len(tags), 1), AT_ONCE):
            yield Question(
                digests=self.digests[start : start + AT_ONCE],
                tags=tags[start : start + AT_ONCE],
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flying:
    """A content that is arriving: its first ``available_bytes`` are there, of ``size_bytes`` in all."""

    available_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The digests and tags of a question that the asked node has.

    ``in_flight``: those that it is fetching now. None of them is in ``held``. ``claims``: None: the peer
    decides on no claims. ``figures``: None: it was not asked for them, or knows no such question.
    """

    held: frozenset[Digest] = frozenset()
    tags: tuple[KnownTag, ...] = ()
    in_flight: Mapping[Digest, Flying] = field(default_factory=dict)
    claims: ClaimReply | None = None
    figures: FiguresEntry | None = None


class ReplyInvalid(MessageInvalid):
    """A peer's reply that can't be understood."""


def encode_question(number: int, question: Question) -> bytes:
    """The question as a message."""
    return b'{"number":%d,%b' % (number, _encoded(question))


@lru_cache(maxsize=8)
def _encoded(question: Question) -> bytes:
    """What follows the number. It is the same for every peer that is asked."""
    tags = [[tag.registry, tag.repository, tag.tag] for tag in question.tags]
    document: dict[str, Any] = {"digests": question.digests, "tags": tags}
    if question.claims is not None:
        document["claims"] = encode_call(question.claims)
    if question.figures:
        document["figures"] = True
    return json.dumps(document, separators=(",", ":")).encode()[1:]


def decode_question(body: bytes) -> tuple[int, Question]:
    """The number and the question in a message. Raises `OciError` if it is no question."""
    reading = QuestionReading(body)
    while reading.read_on():
        pass
    return reading.number, reading.question


class QuestionReading:
    """Reads a question from a message, a part at a time. Raises `OciError` if it is no question."""

    def __init__(self, body: bytes) -> None:
        try:
            document = json.loads(body)
            self._digests, self._tags = document.get("digests", []), document.get("tags", [])
            if len(self._digests) > DIGESTS_MAX or len(self._tags) > DIGESTS_MAX:
                raise RequestInvalid("too many digests in one question", hint=f"at most {DIGESTS_MAX}")
            self.number = document["number"]
            claims = document.get("claims")
            self.figures = document.get("figures") is True
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _no_question(error) from error
        if not isinstance(self.number, int):
            raise RequestInvalid("a question without a number")
        self.claims = None if claims is None else decode_call(claims)
        self._at = 0
        self._read: tuple[list[Digest], list[Named]] = ([], [])

    @property
    def question(self) -> Question:
        """What was read so far."""
        digests, tags = self._read
        return Question(digests=tuple(digests), tags=tuple(tags), claims=self.claims, figures=self.figures)

    def read_on(self) -> bool:
        """Read a part. Whether there is more."""
        start, stop = self._at, self._at + AT_ONCE
        digests, tags = self._read
        try:
            digests += [parse_digest(digest) for digest in self._digests[start:stop]]
            tags += [_named(*tag) for tag in self._tags[start:stop]]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _no_question(error) from error
        self._at = stop
        return stop < max(len(self._digests), len(self._tags))


def _no_question(error: Exception) -> RequestInvalid:
    return RequestInvalid(f"not a question about holders: {error}")


def encode_reply(number: int, question: Question, reply: Reply) -> bytes:
    """The reply to ``question`` as a message."""
    held = [place for place, digest in enumerate(question.digests) if digest in reply.held]
    tags = [
        [
            [tag.name.registry, tag.name.repository, tag.name.tag],
            tag.descriptor.digest,
            tag.descriptor.size_bytes,
            tag.descriptor.media_type,
            round(tag.age_s, 3),
            tag.voucher,
            tag.imported,
        ]
        for tag in reply.tags
    ]
    document: dict[str, Any] = {"number": number, "held": held, "tags": tags}
    if flying := _flying(question, reply):
        document["flying"] = flying
    if reply.claims is not None:
        document["claims"] = encode_claim_reply(reply.claims)
    if reply.figures is not None:
        document["figures"] = to_plain(reply.figures)
    return json.dumps(document, separators=(",", ":")).encode()


def _flying(question: Question, reply: Reply) -> list[list[int]]:
    """What is in flight. Agents of earlier versions ignore it, and do not send it."""
    if not reply.in_flight:
        return []
    return [
        [place, flying.available_bytes, flying.size_bytes]
        for place, digest in enumerate(question.digests)
        if (flying := reply.in_flight.get(digest)) is not None
    ]


def decode_reply(body: bytes) -> tuple[int, Callable[[Question], Reply]]:
    """The number of the question that a message replies to, and a function that reads the reply.

    The function needs the question of that number. Both raise `ReplyInvalid`.
    """
    try:
        document = json.loads(body)
        number = document["number"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ReplyInvalid(str(error)) from error
    if not isinstance(number, int):
        raise ReplyInvalid("a reply without a number")
    return number, lambda question: _read_reply(question, document)


QUESTIONS: Codec[Question, Reply] = Codec(
    path=PATH, reply_max_bytes=REPLY_MAX_BYTES, encode=encode_question, decode=decode_reply
)
"""How `agent.peering.channels.Channels` puts these questions to peers."""


def _read_reply(question: Question, document: Any) -> Reply:
    try:
        places: Sequence[int] = document["held"]
        if any(place < 0 for place in places):
            raise ReplyInvalid("a negative place")
        held = frozenset(question.digests[place] for place in places)
        flying, claims = document.get("flying", ()), document.get("claims")
        return Reply(
            held=held,
            tags=tuple(_known_tag(tag) for tag in document["tags"]),
            in_flight=_read_flying(question, flying, held) if flying else {},
            claims=None if claims is None else decode_claim_reply(claims),
            figures=_figures(document.get("figures")) if question.figures else None,
        )
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        OciError,
        RecursionError,
    ) as error:
        raise ReplyInvalid(str(error)) from error


def _figures(value: Any) -> FiguresEntry | None:
    """None for what another release calls figures: that is no reason to end the connection."""
    try:
        found = None if value is None else decode(FiguresEntry, value, text=_words)
    except DocumentInvalid:
        return None
    if found is None or any(len(sums.bytes_by_tier) > _TIERS_MAX for sums in (found.window, found.total)):
        return None
    return found


def _words(text: str) -> str:
    return clean_value(text)[:_WORDS_MAX]


def _read_flying(question: Question, entries: Any, held: Set[Digest]) -> dict[Digest, Flying]:
    flying: dict[Digest, Flying] = {}
    for place, available_bytes, size_bytes in entries:
        if not all(type(number) is int for number in (place, available_bytes, size_bytes)):
            raise ReplyInvalid("no number of bytes")
        if place < 0 or not 0 <= available_bytes <= size_bytes:
            raise ReplyInvalid("more bytes than there are")
        digest = question.digests[place]
        if digest not in held:
            flying[digest] = Flying(available_bytes=available_bytes, size_bytes=size_bytes)
    return flying


def _named(registry: Any, repository: Any, tag: Any) -> Named:
    return Named(
        registry=None if registry is None else parse_registry(registry),
        repository=parse_repository(repository),
        tag=parse_tag(tag),
    )


def _known_tag(entry: Any) -> KnownTag:
    name, digest, size, media_type, age, voucher, imported = entry
    if not isinstance(size, int) or size < 0 or not isinstance(media_type, str) or "\n" in media_type:
        raise ReplyInvalid("a malformed descriptor")
    age_s = float(age)
    if not age_s >= 0:  # NaN too
        raise ReplyInvalid("a negative age")
    if not isinstance(imported, bool):
        raise ReplyInvalid("neither imported nor not")
    return KnownTag(
        name=_named(*name),
        descriptor=Descriptor(digest=parse_digest(digest), size_bytes=size, media_type=media_type),
        age_s=age_s,
        voucher=NodeName(parse_name(voucher)),  # it goes into headers and logs
        imported=imported,
    )
