"""The questions between agents, and the replies: messages on ``/shorthaul/v1/holders`` of the peer listener.

A message is JSON. A question has many digests and tags, and a number that the reply repeats. Ages are sent as
durations, because the clocks of two nodes may differ. A reply names a digest by its position in the question,
so that its length grows only with the number of hits.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from agent.config.values import parse_name
from agent.content.offer import KnownTag
from agent.oci.digest import Digest, parse_digest
from agent.oci.errors import OciError, RequestInvalid
from agent.oci.manifest import Descriptor
from agent.oci.reference import Named, parse_repository, parse_tag
from agent.oci.registry import parse_registry
from agent.peering.channel import Codec, MessageInvalid
from topology.placement import NodeName

PATH = "/shorthaul/v1/holders"
DIGESTS_MAX = 256  # an image has at most 127 layers
QUESTION_MAX_BYTES = 1 << 20
REPLY_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Asks a peer which of these digests it has, and which of these tags it knows."""

    digests: tuple[Digest, ...] = ()
    tags: tuple[Named, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The digests and tags of a question that the asked node has."""

    held: frozenset[Digest] = frozenset()
    tags: tuple[KnownTag, ...] = ()


class ReplyInvalid(MessageInvalid):
    """A peer's reply that can't be understood."""


def encode_question(number: int, question: Question) -> bytes:
    """The question as a message."""
    return b'{"number":%d,%b' % (number, _encoded(question))


@lru_cache(maxsize=8)
def _encoded(question: Question) -> bytes:
    """What follows the number. It is the same for every peer that is asked."""
    tags = [[tag.registry, tag.repository, tag.tag] for tag in question.tags]
    return json.dumps({"digests": question.digests, "tags": tags}, separators=(",", ":")).encode()[1:]


def decode_question(body: bytes) -> tuple[int, Question]:
    """The number and the question in a message. Raises `OciError` if it is no question."""
    try:
        document = json.loads(body)
        digests, tags = document.get("digests", []), document.get("tags", [])
        if len(digests) > DIGESTS_MAX or len(tags) > DIGESTS_MAX:
            raise RequestInvalid("too many digests in one question", hint=f"at most {DIGESTS_MAX}")
        number = document["number"]
        if not isinstance(number, int):
            raise RequestInvalid("a question without a number")
        return number, Question(
            digests=tuple(parse_digest(digest) for digest in digests),
            tags=tuple(_named(*tag) for tag in tags),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RequestInvalid(f"not a question about holders: {error}") from error


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
    return json.dumps({"number": number, "held": held, "tags": tags}, separators=(",", ":")).encode()


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
        return Reply(
            held=frozenset(question.digests[place] for place in places),
            tags=tuple(_known_tag(tag) for tag in document["tags"]),
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
