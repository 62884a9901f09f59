"""containerd's image records as names, each with where its content came from.

That is in the labels of the content, which costs a call for each record that is new or was rewritten, or one
call for all of them if they are many. What was read is kept, so a request costs nothing.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
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

_SINGLE_CALLS_MAX = 32  # listing all content costs as much as some hundred calls, and blocks nobody


class ContentInfos(Protocol):
    """Tells what containerd notes of its content."""

    async def info(self, digest: str) -> api.Info:
        """See `Client.info`."""
        ...

    async def infos(self, digests: Collection[str]) -> dict[str, api.Info]:
        """See `Client.infos`."""
        ...


_Stamp = tuple[str, int, int]
_Name = TaggedImage | Addressed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordNames:
    """The names in containerd's records: tags, and names that have a digest in place of a tag."""

    tags: tuple[TaggedImage, ...]
    digests: tuple[Addressed, ...]


class RecordReader:
    """Turns image records into names. Remembers the names of the records that it saw last."""

    def __init__(self, contents: ContentInfos) -> None:
        self._contents = contents
        self._names: dict[str, tuple[_Stamp, _Name]] = {}

    async def read(self, records: Iterable[api.Image]) -> RecordNames:
        """The names in these records. Raises `ContentUnavailable`."""
        names: dict[str, tuple[_Stamp, _Name]] = {}
        new: list[tuple[Named, api.Image]] = []
        for record in records:
            stamp = _stamp(record)
            known = self._names.get(record.name)
            if known is not None and known[0] == stamp:
                names[record.name] = known
            elif (name := parse_image(record.name)) is not None:
                new.append((name, record))
            else:
                names[record.name] = stamp, parse_named_digest(record.name)
        infos = await self._infos(frozenset(record.target.digest for _, record in new))
        for name, record in new:
            names[record.name] = _stamp(record), _tagged(name, record, infos.get(record.target.digest))
        self._names = names
        found = [name for _, name in names.values()]
        return RecordNames(
            tags=tuple(name for name in found if isinstance(name, TaggedImage)),
            digests=tuple(name for name in found if isinstance(name, Addressed)),
        )

    async def _infos(self, digests: Collection[str]) -> Mapping[str, api.Info]:
        """What containerd notes of these contents. Those that it does not have are left out."""
        if len(digests) > _SINGLE_CALLS_MAX:
            return await self._contents.infos(digests)
        infos = await asyncio.gather(*(self._info(digest) for digest in digests))
        return {info.digest: info for info in infos if info is not None}

    async def _info(self, digest: str) -> api.Info | None:
        try:
            return await self._contents.info(digest)
        except ContentMissing:  # garbage collection took it: nothing is known of it
            return None


def _stamp(record: api.Image) -> _Stamp:
    return record.target.digest, record.updated_at.seconds, record.updated_at.nanos


def _tagged(name: Named, record: api.Image, info: api.Info | None) -> TaggedImage | None:
    try:
        digest = parse_digest(record.target.digest)
    except DigestInvalid:
        return None
    # Every pull writes to the content's labels and then the record. ``ctr images tag`` writes the record
    # alone, so the earlier of the two is the last pull.
    written_s = _unix_s(record.updated_at)
    return TaggedImage(
        name=name,
        descriptor=Descriptor(
            digest=digest, size_bytes=record.target.size, media_type=record.target.media_type
        ),
        seen_s=written_s if info is None else min(written_s, _unix_s(info.updated_at)),
        origin=origin_of(name, {} if info is None else info.labels),
    )


def _unix_s(time: Timestamp) -> float:
    return float(time.seconds + time.nanos / 1e9)
