"""containerd's image records as names, each with where its content came from.

That is in the labels of the content, which costs one call for each record that is new or was rewritten. The
answers are kept, so an event costs a call for what changed, and a request costs none.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from agent.content.containerd import api_pb2 as api
from agent.content.store import ContentMissing, TaggedImage
from agent.oci.digest import parse_digest
from agent.oci.errors import DigestInvalid
from agent.oci.manifest import Descriptor
from agent.oci.origin import origin_of
from agent.oci.reference import Addressed, Named, parse_image, parse_named_digest

_CALLS_AT_ONCE = 32


class ContentInfos(Protocol):
    """Tells what containerd notes of a blob."""

    async def info(self, digest: str) -> api.Info:
        """See `Client.info`."""
        ...


@dataclass(frozen=True, slots=True)
class _Note:
    """What a record and its content say. ``updated_s``: when the content was last pulled, in Unix seconds."""

    record: tuple[str, float]
    marks: dict[str, str]
    updated_s: float


class RecordReader:
    """Turns image records into names. Remembers the labels of the content of the records it saw last."""

    def __init__(self, contents: ContentInfos) -> None:
        self._contents = contents
        self._notes: dict[str, _Note] = {}

    async def tags(self, records: Iterable[api.Image]) -> list[TaggedImage]:
        """The tags among these records. Raises `ContentUnavailable`."""
        tags = [(name, record) for record in records if (name := parse_image(record.name)) is not None]
        limit = asyncio.Semaphore(_CALLS_AT_ONCE)
        notes = await asyncio.gather(*(self._note(record, limit) for _, record in tags))
        self._notes = {record.name: note for (_, record), note in zip(tags, notes, strict=True)}
        return list(_tagged(tags, notes))

    async def _note(self, record: api.Image, limit: asyncio.Semaphore) -> _Note:
        stamp = record.target.digest, _unix_s(record.updated_at)
        known = self._notes.get(record.name)
        if known is not None and known.record == stamp:
            return known
        async with limit:
            try:
                info = await self._contents.info(record.target.digest)
            except ContentMissing:  # garbage collection took it: nothing is known of it
                return _Note(stamp, {}, stamp[1])
        return _Note(stamp, dict(info.labels), _unix_s(info.updated_at))


def named_digests(records: Iterable[api.Image]) -> Iterator[Addressed]:
    """The names among these records that have a digest in place of a tag."""
    for record in records:
        addressed = parse_named_digest(record.name)
        if addressed is not None:
            yield addressed


def _tagged(tags: Sequence[tuple[Named, api.Image]], notes: Sequence[_Note]) -> Iterator[TaggedImage]:
    for (name, record), note in zip(tags, notes, strict=True):
        try:
            digest = parse_digest(record.target.digest)
        except DigestInvalid:
            continue
        # Every pull writes to the content's labels and then the record. ``ctr images tag`` writes the record
        # alone, so the earlier of the two is the last pull.
        yield TaggedImage(
            name=name,
            descriptor=Descriptor(
                digest=digest, size_bytes=record.target.size, media_type=record.target.media_type
            ),
            seen_s=min(note.record[1], note.updated_s),
            origin=origin_of(name, note.marks),
        )


def _unix_s(time: Timestamp) -> float:
    return float(time.seconds + time.nanos / 1e9)
